-- Publishes an object.
--
-- KEYS: manifest, marker, lease, and where the new manifest is staged, if it is. ARGV: fence and
-- token that must hold, the start of the chunks' names, the grace, the ttl, the new manifest if it
-- is not staged.
--
-- 0 where the fence does not hold, 2 where something staged is gone; then nothing was changed.
-- Else 1.
if not holds(KEYS[2], ARGV[1], KEYS[3], ARGV[2]) then
  return 0
end
local base, grace, ttl = ARGV[3], ARGV[4], ARGV[5]
local new = KEYS[4] and head_of(KEYS[4]) or string.sub(ARGV[6], 1, HEAD_LEN)
local stem, count = chunks_of(new, base)
if #new ~= HEAD_LEN or not all_there(stem, count) then
  return 2
end
local old = head_of(KEYS[1])
-- First of all writes comes the one that takes memory: a server that is full refuses it, and then
-- nothing was changed; after a first write it would refuse no more.
if KEYS[4] then
  redis.call('RENAME', KEYS[4], KEYS[1])
  if ttl == '' then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIRE', KEYS[1], ttl)
  end
else
  set(KEYS[1], ARGV[6], ttl)
end
leave(old, base, grace)
keep(stem, count, ttl, grace)
redis.call('DEL', KEYS[2], KEYS[3])
return 1
