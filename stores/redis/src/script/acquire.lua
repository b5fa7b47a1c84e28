-- Takes the lease of a key, unless somebody holds it.
--
-- KEYS: marker, lease. ARGV: the fence that must hold, the new lease, its ttl, how long the fence
-- must last at least.
--
-- nil where the fence does not hold; the lease that is there and what is left of it; or an empty
-- array where it was taken.
if text(KEYS[1]) ~= ARGV[1] then
  return false
end
local holder = text(KEYS[2])
if holder ~= '' then
  return { holder, redis.call('PTTL', KEYS[2]) }
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
prolong(KEYS[1], ARGV[4])
return {}
