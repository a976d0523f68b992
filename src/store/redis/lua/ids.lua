#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Takes ids that are never given again, not even after the server came back empty: the first is its clock in
-- microseconds. KEYS: meta. ARGV: how many. Answers the last of them.
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'next_id', string.format('%.0f', time[1] * 1000000 + time[2]))
return string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'next_id', ARGV[1]))
