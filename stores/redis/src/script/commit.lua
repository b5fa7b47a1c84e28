-- Publishes an object.
--
-- KEYS: manifest, marker, lease, and where the new manifest is staged, if it is. ARGV: fence and
-- token that must hold, the start of the chunks' names, the grace, the ttl, the deadline in
-- milliseconds of this server's clock or '', the new manifest if it is not staged.
--
-- 0 where the fence does not hold, 2 where something staged is gone, 4 where the deadline has
-- passed; then nothing was changed. Else 1.
if ARGV[6] ~= '' then
  -- Its sender has given it up, and others may have relied on that.
  local now = redis.call('TIME')
  if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[6]) then
    return 4
  end
end
if not holds(KEYS[2], ARGV[1], KEYS[3], ARGV[2]) then
  return 0
end
local base, grace, ttl = ARGV[3], ARGV[4], ARGV[5]
local new = KEYS[4] and head_of(KEYS[4]) or string.sub(ARGV[7], 1, HEAD_LEN)
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
  set(KEYS[1], ARGV[7], ttl)
end
leave(old, base, grace)
keep(stem, count, ttl, grace)
redis.call('DEL', KEYS[2], KEYS[3])
return 1
