-- Makes staged chunks last. KEYS: the first of them. ARGV: what their names begin with, how many
-- there are, their ttl. 1 where all of them are there, else 0.
local found = 1
for index = 0, tonumber(ARGV[2]) - 1 do
  if redis.call('PEXPIRE', ARGV[1] .. index, ARGV[3]) == 0 then
    found = 0
  end
end
return found
