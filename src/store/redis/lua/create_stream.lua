#!lua
-- SPDX-License-Identifier: Apache-2.0
-- Makes a stream. One that another producer writes already is taken on as it is.
-- KEYS  log, stream, streams
-- ARGV  name, the last position known of a stream that is made again ('' or '0-0' otherwise), its retention ('' = none)
local log, stream = KEYS[1], KEYS[2]
local kind = redis.call('TYPE', log)['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('MILLRACE invalid_argument ' .. ARGV[1] .. ' key ' .. log .. ' is a ' .. kind ..
    ' of somebody else; choose another name, or a prefix')
end
if redis.call('HEXISTS', stream, 'created_at') == 1 then
  redis.call('SADD', KEYS[3], ARGV[1])
  return redis.error_reply('MILLRACE already_exists ' .. ARGV[1] .. ' there is a stream of that name')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local born, removed = '0-0', 0
if kind == 'none' then
  local last_ms = tonumber(string.match(ARGV[2], '^%d+') or '0')
  born = string.format('%.0f-4194303', math.max(math.floor(now / 1000), last_ms + 1) - 1)
  -- An empty stream, so that XLEN and XINFO answer.
  redis.call('XGROUP', 'CREATE', log, 'millrace:making', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', log, 'millrace:making')
else
  local info = redis.call('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then removed = removed + info[i + 1] end
    if info[i] == 'length' then removed = removed - info[i + 1] end
  end
end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('DEL', stream)  -- what somebody noted there while it was flushed
redis.call('HSET', stream, 'created_at', string.format('%.0f', now), 'born', born,
  'trimmed_count', string.format('%.0f', math.max(removed, 0)))
if ARGV[3] ~= '' then redis.call('HSET', stream, 'retention', ARGV[3]) end
return 'OK'
