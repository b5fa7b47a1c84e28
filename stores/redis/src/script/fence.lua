-- Takes a fence. KEYS: marker. ARGV: a nonce for it, its ttl.
return mark(KEYS[1], ARGV[1], ARGV[2])
