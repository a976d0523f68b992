#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Looks whether there is a store, and makes one. KEYS: meta. ARGV: the format we write, whether to make it ('1').
-- Answers {format, when it was made, whether that was now (1)}; the format is '' when there is none.

local there = redis.call('HMGET', KEYS[1], 'format', 'made_at')
if there[1] then return {there[1], there[2] or '', 0} end
if ARGV[2] ~= '1' then return {'', '', 0} end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'made_at', now)
redis.call('HSETNX', KEYS[1], 'next_id', now)
return {ARGV[1], now, 1}
