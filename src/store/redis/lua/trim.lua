#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- One slice of a trim: decides up to where nobody needs the events any more, and removes them.
-- KEYS  log, stream, ids, trimmed, erased, groups
-- ARGV  name of the stream, prefix of the groups' hashes, mode ('trim', 'force', 'ask', 'force_ask'), end, dedup_keep in seconds,
--       number of events; then of each, in order: position, n ('' if none), id ('' if none), source, weight.
-- Answers {last position removed or '', number removed, then for each live group that needs events up to `end`: name,
-- position up to which it does not}. `end` may stand behind the slice.
local log, stream, ids, trimmed, erased = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mode, keep = ARGV[3], tonumber(ARGV[5])
local forced = mode == 'force' or mode == 'force_ask'

local meta = redis.call('HMGET', stream, 'created_at', 'bytes', 'days', 'trimmed_count')
if not meta[1] then
  return redis.error_reply('MILLRACE unknown_stream ' .. ARGV[1] .. ' there is no such stream')
end
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])

local function parse(text)
  local ms, seq = string.match(text, '^(%d+)-(%d+)$')
  return {tonumber(ms), tonumber(seq), text}
end
local function before(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end
local function predecessor(p)
  if p[2] > 0 then return {p[1], p[2] - 1, string.format('%.0f-%.0f', p[1], p[2] - 1)} end
  if p[1] == 0 then return p end
  return {p[1] - 1, 4194303, string.format('%.0f-4194303', p[1] - 1)}
end

local the_end = parse(ARGV[4])
local floor = the_end
local groups = redis.call('HGETALL', KEYS[6])
local ours = {}
local answer = {'', 0}
for i = 1, #groups, 2 do
  if groups[i + 1] == ARGV[1] then
    ours[#ours + 1] = groups[i]
    local row = redis.call('HMGET', ARGV[2] .. groups[i], 'cursor', 'oldest_open', 'last_seen', 'expires')
    local expires = row[4] and row[4] ~= '' and tonumber(row[4])
    local live = not expires or now - tonumber(row[3] or '0') <= expires * 1000000
    if live and not forced then
      local settled = parse(row[1] and row[1] ~= '' and row[1] or '0-0')
      if row[2] and row[2] ~= '' and row[2] ~= '0-0' then
        local open = predecessor(parse(row[2]))
        if before(open, settled) then settled = open end
      end
      if before(settled, the_end) then
        answer[#answer + 1] = groups[i]
        answer[#answer + 1] = settled[3]
        if before(settled, floor) then floor = settled end
      end
    end
  end
end
if mode == 'ask' or mode == 'force_ask' then
  answer[1] = floor[3]
  return answer
end

-- The part of the slice that nobody needs.
local count, last, n, bytes = 0, nil, meta[4], 0
local wanted, source_of, position_of = {}, {}, {}
for i = 1, tonumber(ARGV[6]) do
  local a = 7 + (i - 1) * 5
  local position = parse(ARGV[a])
  if before(floor, position) then break end
  count, last = count + 1, position
  if ARGV[a + 1] ~= '' then n = ARGV[a + 1] end
  bytes = bytes + tonumber(ARGV[a + 4])
  if ARGV[a + 2] ~= '' then
    wanted[#wanted + 1] = ARGV[a + 2]
    source_of[#wanted], position_of[#wanted] = ARGV[a + 3], ARGV[a]
  end
end
if not last then return answer end

-- Their ids move to the hash of this day.
local day = string.format('%.0f', math.floor(seconds / 86400))
local day_key = trimmed .. ':' .. day
local when = string.format('%.0f', now)
local expire_at = string.format('%.0f', (math.floor(seconds / 86400) + 1) * 86400 + keep + 60)
local function expires(key)
  if redis.call('TTL', key) == -1 then
    redis.call('EXPIREAT', key, expire_at)
  else
    redis.call('EXPIREAT', key, expire_at, 'GT')
  end
end
local function remember(id, position, fingerprint, source)
  local there = redis.call('HGET', day_key, id)
  local record = position .. ' ' .. fingerprint .. ' ' .. when
  if there and there ~= '*' then
    local its, its_source = string.match(there, '^(%S+ %S+ %S+) (.*)$')
    if its_source == source then
      there = nil
    else
      redis.call('HSET', day_key .. ':' .. id, its_source, its)
      redis.call('HSET', day_key, id, '*')
    end
  end
  if there then
    redis.call('HSET', day_key .. ':' .. id, source, record)
    expires(day_key .. ':' .. id)
  else
    redis.call('HSET', day_key, id, record .. ' ' .. source)
  end
end
local forget, remembered = {}, false
local function drop()
  if #forget > 0 then redis.call('HDEL', ids, unpack(forget)) end
  forget = {}
end
for from = 1, #wanted, 1500 do
  local to = math.min(from + 1499, #wanted)
  local records = redis.call('HMGET', ids, unpack(wanted, from, to))
  for i = from, to do
    local id, source, record = wanted[i], source_of[i], records[i - from + 1]
    local position, fingerprint, whose
    if record == '*' then
      local shared = ids .. ':' .. id
      local its = redis.call('HGET', shared, source)
      if its then
        position, fingerprint = string.match(its, '^(%S+) (%S+)$')
        whose = source
        if position == position_of[i] then
          redis.call('HDEL', shared, source)
          if redis.call('EXISTS', shared) == 0 then forget[#forget + 1] = id end
        end
      end
    elseif record then
      position, fingerprint, whose = string.match(record, '^(%S+) (%S+) (.*)$')
      if whose == source and position == position_of[i] then forget[#forget + 1] = id end
    end
    if whose == source and position == position_of[i] and keep > 0 then
      remember(id, position, fingerprint, source)
      remembered = true
    end
  end
  drop()
end
local days = ''
for one in string.gmatch(meta[3] or '', '%d+') do
  if one ~= day and redis.call('EXISTS', trimmed .. ':' .. one) == 1 then days = days .. one .. ' ' end
end
if remembered then
  expires(day_key)
end
if redis.call('EXISTS', day_key) == 1 then days = days .. day end

local ms_after = string.format('%.0f-%.0f', last[1], last[2] + 1)
local removed = redis.pcall('XTRIM', log, 'MINID', ms_after)
if type(removed) == 'table' then return removed end
removed = removed + redis.call('ZREMRANGEBYLEX', erased, '-', '(' .. string.format('%013.0f-%07.0f ', last[1], last[2] + 1))
redis.call('HSET', stream, 'trimmed_to', last[3], 'days', days, 'trimmed_count', n or '0',
  'bytes', string.format('%.0f', math.max(0, tonumber(meta[2] or '0') - bytes)))
if mode == 'force' then
  -- Whoever holds the group's state in memory reads it again.
  for _, group in ipairs(ours) do
    local version = redis.call('HGET', ARGV[2] .. group, 'version')
    if version then
      redis.call('HSET', ARGV[2] .. group, 'forget_up_to', last[3],
        'version', string.format('%.0f', math.max(tonumber(version) + 1, now)))
    end
  end
end
answer[1], answer[2] = last[3], removed
return answer
