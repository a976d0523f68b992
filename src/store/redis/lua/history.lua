#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Forgets the oldest of who settled what, a bounded number of rows.
-- KEYS: the group's hash, its history, the list of the history's keys by age ("<settled_at> <key>").
-- ARGV: settled before this goes (microseconds), most rows to keep, most rows to forget now. Answers how many went.
local forgotten_to = 0
local gone = 0
local surplus = redis.call('LLEN', KEYS[3]) - tonumber(ARGV[2])
for _, row in ipairs(redis.call('LRANGE', KEYS[3], 0, ARGV[3] - 1)) do
  local at, key = string.match(row, '^(%d+) (.*)$')
  if tonumber(at) >= tonumber(ARGV[1]) and gone >= surplus then break end
  redis.call('ZREMRANGEBYLEX', KEYS[2], '[' .. key .. ' ', '(' .. key .. '!')
  forgotten_to = math.max(forgotten_to, tonumber(at))
  gone = gone + 1
end
if gone > 0 then
  redis.call('LTRIM', KEYS[3], gone, -1)
  local before = tonumber(redis.call('HGET', KEYS[1], 'forgotten_to') or '0')
  if redis.call('HEXISTS', KEYS[1], 'version') == 1 and forgotten_to > before then
    redis.call('HSET', KEYS[1], 'forgotten_to', string.format('%.0f', forgotten_to))
  end
end
return gone
