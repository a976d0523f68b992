#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Records what a trim did. KEYS: stream. ARGV: the answer; the retention it was made by and the same with the time of
-- this trim, both '' when it was asked for by somebody. Another retention set meanwhile stays.
if redis.call('HEXISTS', KEYS[1], 'created_at') == 0 then return 'OK' end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'last_trim_at', string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2])),
  'last_trim', ARGV[1])
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'retention') == ARGV[2] then
  redis.call('HSET', KEYS[1], 'retention', ARGV[3])
end
return 'OK'
