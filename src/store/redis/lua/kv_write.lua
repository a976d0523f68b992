#!lua
-- SPDX-License-Identifier: Apache-2.0
--
-- Sets a key, under a new version. KEYS: the key's hash, the index of all keys, meta.
-- ARGV: when (`always`, `absent`, or the version it must have), key, value, time to live in milliseconds ('' = for ever).
-- Answers the version, or nil.

local when, key, value, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local version = redis.call('HGET', KEYS[1], 'version')
if when == 'absent' then
  if version then return false end
elseif when ~= 'always' and version ~= when then
  return false
end

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
if tonumber(redis.call('HGET', KEYS[3], 'next_id') or 0) < clock then
  redis.call('HSET', KEYS[3], 'next_id', string.format('%.0f', clock))
end
version = redis.call('HINCRBY', KEYS[3], 'next_id', 1)

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'value', value, 'version', string.format('%.0f', version))
redis.call('ZADD', KEYS[2], 0, key)
if ttl ~= '' then
  -- Redis drops a key once its clock is past the millisecond it was given, so that one is the last it lives in.
  local last = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ttl)
  redis.call('HSET', KEYS[1], 'expires_at', string.format('%.0f', (last + 1) * 1000))
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
end
return version
