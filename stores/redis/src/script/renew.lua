-- Makes a fence last, and the lease that goes with it.
--
-- KEYS: marker, lease. ARGV: fence and token ('' for a fence without a lease), the lease's ttl, how
-- long the fence must last at least. 0 where they do not hold, else 1.
if not holds(KEYS[1], ARGV[1], KEYS[2], ARGV[2]) then
  return 0
end
if ARGV[2] ~= '' then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
prolong(KEYS[1], ARGV[4])
return 1
