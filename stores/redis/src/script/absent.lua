-- Takes a fence for an object that is absent, in the same step in which it is known to be.
--
-- KEYS: manifest, marker. ARGV: the head of a manifest that is no good ('' for none), a nonce for
-- the fence ('' for no fence), the fence's ttl, the start of the chunks' names, the grace.
--
-- The manifest that is no good is removed. With a nonce: the fence, or nil where another manifest
-- is there. Without: '' where it was removed, else nil. To find that an object is gone is not to
-- delete it: fences go on.
local head = head_of(KEYS[1])
if head ~= '' then
  if head ~= ARGV[1] then
    return false
  end
  redis.call('UNLINK', KEYS[1])
  leave(head, ARGV[4], ARGV[5])
end
if ARGV[2] ~= '' then
  return mark(KEYS[2], ARGV[2], ARGV[3])
end
return head ~= '' and ''
