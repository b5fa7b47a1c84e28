-- Gives a lease up. KEYS: lease. ARGV: the token of its holder.
if holds('', '', KEYS[1], ARGV[1]) then
  redis.call('DEL', KEYS[1])
end
return 1
