#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Counts entries that are no events, each once, and keeps the reasons of the first thousand.
-- KEYS  stream, aside
-- ARGV  position and reason of each, in order
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_seq) < tonumber(b_seq))
end
local seen = redis.call('HGET', KEYS[1], 'aside_to') or '0-0'
local room = 1000 - redis.call('HLEN', KEYS[2])
local new = 0
for i = 1, #ARGV, 2 do
  if before(seen, ARGV[i]) then
    seen, new = ARGV[i], new + 1
    if room > 0 then
      redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
      room = room - 1
    end
  end
end
if new > 0 then
  redis.call('HSET', KEYS[1], 'aside_to', seen)
  redis.call('HINCRBY', KEYS[1], 'aside_count', new)
end
return new
