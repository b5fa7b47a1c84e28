-- Replaces head and header of a manifest, and keeps the body.
--
-- KEYS: manifest, marker, lease. ARGV: fence and token that must hold, the start of the chunks'
-- names, the grace, the ttl ('0' to remove the object), the head that must be there, the new head
-- and header, where an inline body begins in the old one.
--
-- 0 where the fence does not hold, 3 where another manifest is there, 2 where the chunks are gone,
-- and with them now the manifest; else 1.
if not holds(KEYS[2], ARGV[1], KEYS[3], ARGV[2]) then
  return 0
end
local base, grace, ttl = ARGV[3], ARGV[4], ARGV[5]
local old = head_of(KEYS[1])
if old ~= ARGV[6] then
  return 3
end
local stem, count = chunks_of(old, base)
if ttl == '0' then
  redis.call('UNLINK', KEYS[1])
  leave(old, base, grace)
elseif not all_there(stem, count) then
  redis.call('UNLINK', KEYS[1])
  leave(old, base, grace)
  return 2
else
  set(KEYS[1], ARGV[7] .. redis.call('GETRANGE', KEYS[1], ARGV[8], -1), ttl)
  keep(stem, count, ttl, grace)
end
redis.call('DEL', KEYS[2], KEYS[3])
return 1
