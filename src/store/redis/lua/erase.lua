#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Replaces an event by its shell: in the log, and in every group's copies.
-- KEYS  log, stream, ids, trimmed, erased, groups
-- ARGV  prefix of the groups' hashes, name of the stream, position, id, source, shell (member of `erased`), what its
--       first part is, weight of the event, weight of the shell
-- Answers 1 when there was something, erased now or before; 0 when there is nothing.
local log, stream, ids, trimmed, erased = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group_prefix, name, position, id, source, shell, first = unpack(ARGV, 1, 7)
local kErased = '0000000000000000'
local found, changed = 0, false

local there = redis.call('ZRANGE', erased, '[' .. first, '(' .. first .. '\255', 'BYLEX', 'LIMIT', 0, 1)
if there[1] then
  found, shell = 1, there[1]
elseif redis.call('XDEL', log, position) == 1 then
  found, changed = 1, true
  redis.call('ZADD', erased, 0, shell)
  redis.call('HINCRBY', stream, 'bytes', string.format('%.0f', tonumber(ARGV[9]) - tonumber(ARGV[8])))
end

local groups = redis.call('HGETALL', KEYS[6])
local ours = {}
for i = 1, #groups, 2 do
  if groups[i + 1] == name then
    ours[#ours + 1] = group_prefix .. groups[i]
    local copies = group_prefix .. groups[i] .. ':events'
    local copy = redis.call('HGET', copies, position)
    if copy then
      found = 1
      if string.sub(copy, 1, #first) ~= first then
        redis.call('HSET', copies, position, shell)
        changed = true
      end
    end
  end
end
if not changed then return found end

-- Whatever is appended under its id from now on is the same again.
local function forget_content(key, whole)
  local record = redis.call('HGET', key, id)
  if not record then return end
  if record == '*' then
    local shared = key .. ':' .. id
    local its = redis.call('HGET', shared, source)
    if its and string.match(its, '^(%S+)') == position then
      redis.call('HSET', shared, source, (string.gsub(its, '^(%S+) %S+', '%1 ' .. kErased)))
    end
  elseif string.match(record, '^(%S+)') == position and string.match(record, whole) == source then
    redis.call('HSET', key, id, (string.gsub(record, '^(%S+) %S+', '%1 ' .. kErased)))
  end
end
forget_content(ids, '^%S+ %S+ (.*)$')
for day in string.gmatch(redis.call('HGET', stream, 'days') or '', '%d+') do
  forget_content(trimmed .. ':' .. day, '^%S+ %S+ %S+ (.*)$')
end

-- Whoever holds a group's events in memory reads them again.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for _, group in ipairs(ours) do
  local version = redis.call('HGET', group, 'version')
  if version then redis.call('HSET', group, 'version', string.format('%.0f', math.max(tonumber(version) + 1, now))) end
end
return 1
