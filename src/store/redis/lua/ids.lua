#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Takes ids that are never given again, not even after the server came back empty or without its last writes: they are
-- ahead of its clock in microseconds. KEYS: meta. ARGV: how many. Answers the last of them.
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
if tonumber(redis.call('HGET', KEYS[1], 'next_id') or 0) < clock then
  redis.call('HSET', KEYS[1], 'next_id', string.format('%.0f', clock))
end
return string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'next_id', ARGV[1]))
