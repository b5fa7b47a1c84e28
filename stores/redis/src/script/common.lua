-- Put before every script of the store. How a manifest looks is told in manifest.rs.
--
-- Whatever stands under a name may have been put there by somebody else: what is not a string, or
-- not of the right form, is taken for nothing, and the next write replaces it.

local HEAD_LEN = 68
local NONCE_LEN = 16
local CHUNKS_MAX = 65536
local BATCH = 1000

-- The string under a name; '' where there is none.
local function text(name)
  local value = redis.pcall('GET', name)
  return type(value) == 'string' and value or ''
end

-- The first bytes of a manifest; '' where there is none, '!' where the name has no string.
local function head_of(name)
  local head = redis.pcall('GETRANGE', name, 0, HEAD_LEN - 1)
  return type(head) == 'string' and head or '!'
end

-- What the names of the chunks of this manifest begin with, and how many there are.
local function chunks_of(head, base)
  if #head ~= HEAD_LEN or string.sub(head, 1, 4) ~= 'LRDR' or string.byte(head, 5) ~= 1 then
    return '', 0
  end
  local a, b, c, d = string.byte(head, 17, 20)
  local count = a + b * 256 + c * 65536 + d * 16777216
  -- None is most common, and hexadecimal takes longer than all the rest. A count that no store has
  -- written would only hold the server up.
  if count == 0 or count > CHUNKS_MAX then
    return '', 0
  end
  local hex = string.gsub(string.sub(head, 45, 60), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  return base .. hex .. ':', count
end

local function all_there(stem, count)
  for first = 0, count - 1, BATCH do
    local names = {}
    for index = first, math.min(first + BATCH, count) - 1 do
      names[#names + 1] = stem .. index
    end
    if redis.call('EXISTS', unpack(names)) ~= #names then
      return false
    end
  end
  return true
end

-- Lets the chunks of a manifest that is replaced or gone be read for a while yet.
--
-- Here and in `keep` an error is passed over: a node of a cluster gives one for a chunk that has
-- moved away ahead of its slot, and then the manifest is published already.
local function leave(head, base, grace)
  local stem, count = chunks_of(head, base)
  for index = 0, count - 1 do
    redis.pcall('PEXPIRE', stem .. index, grace)
  end
end

-- Lets chunks last as long as their manifest, and the grace for those who have it open then.
-- A ttl is in milliseconds, '' where there is none.
local function keep(stem, count, ttl, grace)
  for index = 0, count - 1 do
    if ttl == '' then
      redis.pcall('PERSIST', stem .. index)
    else
      redis.pcall('PEXPIRE', stem .. index, ttl + grace)
    end
  end
end

local function set(name, value, ttl)
  if ttl == '' then
    redis.call('SET', name, value)
  else
    redis.call('SET', name, value, 'PX', ttl)
  end
end

-- Whether a fence and a lease's token hold; '' stands for none, which always does.
local function holds(marker, fence, lease, token)
  if fence ~= '' and text(marker) ~= fence then
    return false
  end
  return token == '' or string.sub(text(lease), 1, NONCE_LEN) == token
end

-- Makes a name last for at least this long.
local function prolong(name, ttl)
  if redis.call('PTTL', name) < tonumber(ttl) then
    redis.call('PEXPIRE', name, ttl)
  end
end

-- The nonce of the fence that is there, or else this one from now on.
local function mark(name, nonce, ttl)
  local marker = text(name)
  if #marker == NONCE_LEN then
    prolong(name, ttl)
    return marker
  end
  redis.call('SET', name, nonce, 'PX', ttl)
  return nonce
end

