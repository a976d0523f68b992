#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Goes through the index in byte order, and takes out of it what has expired.
-- KEYS: the index of all keys. ARGV: what the names of the keys' hashes begin with, the range (as ZRANGE … BYLEX takes
-- it), how many entries are wanted (0: none, it is only to be cleaned), at how many to look.
-- Answers {the last one looked at, or '' at the end of the range; key, value, version, expires_at; key, …}.

local names = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'BYLEX', 'LIMIT', 0, ARGV[5])
local wanted = tonumber(ARGV[4])
local answer = {#names < tonumber(ARGV[5]) and '' or names[#names]}
local found = 0
for _, name in ipairs(names) do
  local entry = redis.call('HMGET', ARGV[1] .. name, 'value', 'version', 'expires_at')
  if not entry[2] then
    redis.call('ZREM', KEYS[1], name)
  elseif wanted > 0 then
    answer[#answer + 1] = name
    for i = 1, 3 do answer[#answer + 1] = entry[i] or '' end
    found = found + 1
    if found == wanted then
      answer[1] = name
      break
    end
  end
end
return answer
