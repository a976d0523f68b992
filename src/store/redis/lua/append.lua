#!lua
-- SPDX-License-Identifier: Apache-2.0
-- Appends events in order, in one step; refused as a whole when memory is short (a script of this form is, by default).
-- KEYS  log, stream, ids, trimmed (hashes trimmed:<day>), streams, erased
-- ARGV  name of the stream, dedup_keep in seconds, '' or the last position known, when the stream is known to exist: it is
--       made again when it is not there, and goes on behind that; then runs of events that have the same fields: how many events, number and
--       names of the fields, the first of which are id and source; of each event: fingerprint, weight, values.
-- Answers texts in the order of the events: '<position>' stored, '<position>+<n>' stored with n more in a row behind it,
-- '=<position>' a duplicate, '!' a conflict. The last one says how many were lost: '' none, 'made' the stream was made
-- again, 'lost' its entries were deleted by somebody else.
local log, stream, ids, trimmed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kErased = '0000000000000000'
local kChunk = 1500  -- unpack() and the stack have limits

local time = redis.call('TIME')
local now = tonumber(time[1])
local ms = now * 1000 + math.floor(tonumber(time[2]) / 1000)
local news = ''

local meta = redis.call('HMGET', stream, 'created_at', 'last', 'bytes', 'days', 'born')
local info = redis.pcall('XINFO', 'STREAM', log)
local added, last = 0, '0-0'
if info.err then
  if not string.find(info.err, 'no such key', 1, true) then return info end
else
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end

if not meta[1] then
  if ARGV[3] == '' then
    return redis.error_reply('MILLRACE unknown_stream ' .. ARGV[1] ..
      ' there is no such stream; streams are created on purpose (millrace streams create)')
  end
  redis.call('SADD', KEYS[5], ARGV[1])
  ms = math.max(ms, tonumber(string.match(ARGV[3], '^%d+')) + 1)
  if last == '0-0' then meta[5] = string.format('%.0f-4194303', ms - 1) end
  redis.call('HSET', stream, 'created_at', string.format('%.0f', now * 1000000 + tonumber(time[2])), 'born', meta[5] or '0-0')
  news = 'made'
end

-- The next position: after every one there ever was, also if somebody deleted the stream or the clock went back.
local last_ms, last_seq = string.match(last, '^(%d+)-(%d+)$')
last_ms, last_seq = tonumber(last_ms), tonumber(last_seq)
local function behind(position)
  local its_ms, its_seq = string.match(position, '^(%d+)-(%d+)$')
  its_ms, its_seq = tonumber(its_ms), tonumber(its_seq)
  if last_ms > its_ms or (last_ms == its_ms and last_seq >= its_seq) then return false end
  last_ms, last_seq = its_ms, its_seq
  return true
end
if meta[2] and behind(meta[2]) then news = 'lost' end
if meta[5] then behind(meta[5]) end
if ARGV[3] ~= '' then behind(ARGV[3]) end  -- also what the server has lost since
local next_ms, next_seq = last_ms, last_seq + 1
if ms > last_ms then next_ms, next_seq = ms, 0 end

local runs, wanted, count, at = {}, {}, 0, 4
while ARGV[at] do
  local events, fields = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local run = {names = at + 1, fields = fields, first = at + 2 + fields, step = 2 + fields}
  at = run.first + events * run.step
  run.last = at - 1
  runs[#runs + 1] = run
  for event = run.first, run.last, run.step do
    count = count + 1
    wanted[count] = ARGV[event + 2]
  end
end

-- What is known of the ids: in the log, and for those that are not, of each day of which trimmed ids are kept.
local function look_up(key, names)
  local found = {}
  for from = 1, #names, kChunk do
    local to = math.min(from + kChunk - 1, #names)
    local values = redis.call('HMGET', key, unpack(names, from, to))
    for i = from, to do found[names[i]] = values[i - from + 1] or nil end
  end
  return found
end

local kept = look_up(ids, wanted)
local days = {}
if meta[4] then
  local oldest = now - tonumber(ARGV[2])
  for day in string.gmatch(meta[4], '%d+') do
    if (tonumber(day) + 1) * 86400 > oldest then
      days[#days + 1] = {key = trimmed .. ':' .. day, known = look_up(trimmed .. ':' .. day, wanted)}
    end
  end
end

-- A record of the log is '<position> <fingerprint> <source>', or '*' when several sources share the id: then the hash
-- <ids>:<id> has one '<position> <fingerprint>' per source. Of trimmed ones a time in microseconds stands before the source.
-- What a neighbour removed (XDEL, XTRIM, DEL) is not there: it is taken for new. What was erased has left its shell.
local function stands_at(position)
  if redis.call('XRANGE', log, position, position)[1] then return true end
  local its_ms, its_seq = string.match(position, '^(%d+)-(%d+)$')
  local shell = string.format('%013.0f-%07.0f ', tonumber(its_ms), tonumber(its_seq))
  return redis.call('ZRANGE', KEYS[6], '[' .. shell, '(' .. shell .. '\255', 'BYLEX', 'LIMIT', 0, 1)[1]
end

local function in_log(id, source)
  local record = kept[id]
  if not record then return nil end
  if record == '*' then
    local shared = redis.call('HGET', ids .. ':' .. id, source)
    if not shared then return nil end
    local position, fingerprint = string.match(shared, '^(%S+) (%S+)$')
    if stands_at(position) then return position, fingerprint end
    return nil
  end
  local position, fingerprint, whose = string.match(record, '^(%S+) (%S+) (.*)$')
  if whose ~= source then return nil end
  if stands_at(position) then return position, fingerprint end
  kept[id] = nil
end

local function trimmed_lately(id, source)
  for _, day in ipairs(days) do
    local record = day.known[id]
    if record == '*' then
      record = redis.call('HGET', day.key .. ':' .. id, source)
      if record then record = record .. ' ' .. source end
    end
    if record then
      local position, fingerprint, when, whose = string.match(record, '^(%S+) (%S+) (%S+) (.*)$')
      if whose == source and tonumber(when) + tonumber(ARGV[2]) * 1000000 >= now * 1000000 + tonumber(time[2]) then
        return position, fingerprint
      end
    end
  end
end

local answers = {}
local row, more  -- the first of those stored in a row, and how many stand behind it
local function end_row()
  if row then answers[#answers + 1] = more == 0 and row or string.format('%s+%d', row, more) end
  row = nil
end

local records, record_count, bytes, stored = {}, 0, 0, nil
for _, run in ipairs(runs) do
  local fields = run.fields
  local entry = {'XADD', log, '', 'n', ''}
  for field = 1, fields do entry[4 + 2 * field] = ARGV[run.names + field] end
  for event = run.first, run.last, run.step do
    local id, source = ARGV[event + 2], ARGV[event + 3]
    local other = kept[id]
    local position, fingerprint
    if other then
      position, fingerprint = in_log(id, source)
      other = kept[id]
    end
    if not position and #days > 0 then position, fingerprint = trimmed_lately(id, source) end
    if position then
      end_row()
      if fingerprint == ARGV[event] or fingerprint == kErased then
        answers[#answers + 1] = '=' .. position
      else
        answers[#answers + 1] = '!'
      end
    else
      if next_seq >= 4194304 then
        end_row()
        next_ms, next_seq = next_ms + 1, 0
      end
      if next_ms >= 2199023255552 then
        return redis.error_reply('MILLRACE corrupt ' .. ARGV[1] .. ' somebody added an entry with the id ' .. last ..
          ' to this stream, after which there are no positions left; its data is safe, but copy it to another stream')
      end
      added = added + 1
      stored = string.format('%d-%d', next_ms, next_seq)
      next_seq = next_seq + 1
      entry[3], entry[5] = stored, string.format('%d', added)
      for field = 1, fields do entry[5 + 2 * field] = ARGV[event + 1 + field] end
      redis.call(unpack(entry, 1, 5 + 2 * fields))
      if row then more = more + 1 else row, more = stored, 0 end
      bytes = bytes + tonumber(ARGV[event + 1])
      local record = stored .. ' ' .. ARGV[event]
      if not other then
        kept[id] = record .. ' ' .. source
        record_count = record_count + 1
        records[record_count] = id
      else
        if other ~= '*' then
          local its_position, its_fingerprint, its_source = string.match(other, '^(%S+) (%S+) (.*)$')
          redis.call('HSET', ids .. ':' .. id, its_source, its_position .. ' ' .. its_fingerprint)
          kept[id] = '*'
          record_count = record_count + 1
          records[record_count] = id
        end
        redis.call('HSET', ids .. ':' .. id, source, record)
      end
    end
  end
end
end_row()

for from = 1, record_count, kChunk do
  local words = {'HSET', ids}
  local size = 2
  for i = from, math.min(from + kChunk - 1, record_count) do
    words[size + 1], words[size + 2] = records[i], kept[records[i]]
    size = size + 2
  end
  redis.call(unpack(words, 1, size))
end
if stored then
  if news == 'lost' then
    -- Whoever reads on from before is told that there is a gap.
    redis.call('DEL', KEYS[6])
    redis.call('HSET', stream, 'trimmed_to', meta[2], 'trimmed_count', '0', 'last', stored,
      'bytes', string.format('%.0f', bytes))
  else
    redis.call('HSET', stream, 'last', stored, 'bytes', string.format('%.0f', tonumber(meta[3] or '0') + bytes))
  end
end
answers[#answers + 1] = news
return answers
