-- Removes an object, and ends fences and lease.
--
-- KEYS: manifest, marker, lease. ARGV: fence and token that must hold, the start of the chunks'
-- names, the grace. 0 where the fence does not hold, else 1.
if not holds(KEYS[2], ARGV[1], KEYS[3], ARGV[2]) then
  return 0
end
local old = head_of(KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
leave(old, ARGV[3], ARGV[4])
return 1
