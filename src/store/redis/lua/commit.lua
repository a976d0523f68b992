#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Commits what a process decided about a group, if the group is still what it decided upon; else changes nothing.
-- Settling goes on when the server is out of memory: it is what makes room.
--
-- KEYS: the group's hash, the hash of sessions, the process that is let go first (for moments only).
-- ARGV:
--   the version it was decided upon ('' = there is no such group yet)
--   whether to count it up ('1')
--   a name of this commit, which begins with the process and stays with the version it makes, so that whoever gets no
--     answer can look whether it was written
--   whether its process has lost enough races to be let go first ('1')
--   then words in groups of <count> <word>...: first preconditions, up to a count of 0, then commands.
-- A count like '?5' marks a command on the native group: it shows what is, so when it fails the rest goes on and the
-- first such failure is told. Two commands are our own: `millrace.copy <stream> <id> <erased> <shell> <hash> <field>`
-- copies an entry to a hash, unless a copy is there; `millrace.drop <hash> <field> <dead>` deletes it, unless it is a
-- dead letter's.
--
-- Answers {1, version, time, native failure} or {0, reason, detail}; the time is the server's, in microseconds.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local group, sessions = KEYS[1], KEYS[2]

local version = redis.call('HGET', group, 'version')
if not version and ARGV[1] ~= '' then return {0, 'unknown', ''} end
local process = string.sub(ARGV[3], 1, 36)
local first = redis.call('GET', KEYS[3])
if first and first ~= process then return {0, 'wait', ''} end
if (version or '') ~= ARGV[1] then
  if ARGV[4] == '1' then redis.call('SET', KEYS[3], process, 'PX', 50) end
  return {0, 'moved', version}
end

local at = 5
local native_failure = ''

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function native(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err and native_failure == '' then native_failure = answer.err end
  return answer
end

local check = {}

-- The session's row is what was seen ('' = it is gone).
function check.session_is(id, row)
  if (redis.call('HGET', sessions, id) or '') ~= row then return {0, 'session_moved', id} end
end

function check.session_lives(id)
  local row = redis.call('HGET', sessions, id)
  local till = row and string.match(row, '^until=(%d+) ')
  if not till or tonumber(till) <= now then return {0, 'session_ended', id} end
end

function check.not_before(moment)
  if now < tonumber(moment) then return {0, 'early', string.format('%.0f', now)} end
end

-- Nobody has read on in the native group, which is made anew when it is gone.
function check.native_at(stream, name, cursor)
  local found
  local all = redis.pcall('XINFO', 'GROUPS', stream)
  if not all.err then
    for _, fields in ipairs(all) do
      if fields[2] == name then
        for i = 1, #fields, 2 do
          if fields[i] == 'last-delivered-id' then found = fields[i + 1] end
        end
      end
    end
  end
  if not found then
    native('XGROUP', 'CREATE', stream, name, cursor, 'MKSTREAM')
    return
  end
  local their_ms, their_seq = parts(found)
  local our_ms, our_seq = parts(cursor)
  if their_ms > our_ms or (their_ms == our_ms and their_seq > our_seq) then return {0, 'read_on', found} end
end

-- So many of the stream's entries are gone: none was removed since it was as many.
function check.removed_is(stream, removed)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then return {0, 'removed', ''} end
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  if fields['entries-added'] - fields['length'] ~= tonumber(removed) then return {0, 'removed', ''} end
end

function check.field_is(field, value)
  if (redis.call('HGET', group, field) or '') ~= value then return {0, 'moved', version} end
end

while ARGV[at] ~= '0' do
  local count = tonumber(ARGV[at])
  local refusal = check[ARGV[at + 1]](unpack(ARGV, at + 2, at + count))
  if refusal then return refusal end
  at = at + count + 1
end
at = at + 1

-- An entry as netstrings: its id, then field and value in turn. What was erased is kept as its shell.
local function copy(stream, id, erased, shell, hash, field)
  if redis.call('HEXISTS', hash, field) == 1 then return end
  local shells = redis.call('ZRANGE', erased, '[' .. shell, '(' .. shell .. '\255', 'BYLEX', 'LIMIT', 0, 1)
  if shells[1] then
    redis.call('HSET', hash, field, shells[1])
    return
  end
  local entry = redis.pcall('XRANGE', stream, id, id)
  if entry.err or not entry[1] then return end
  local text = {#id .. ':' .. id .. ','}
  for _, word in ipairs(entry[1][2]) do text[#text + 1] = #word .. ':' .. word .. ',' end
  redis.call('HSET', hash, field, table.concat(text))
end

-- Versions go on ahead of the clock: a server that lost its last commits does not count the same ones again.
if first then redis.call('DEL', KEYS[3]) end
local answer_version = version
if ARGV[2] == '1' then
  answer_version = string.format('%.0f', math.max(tonumber(version or 0) + 1, now))
  redis.call('HSET', group, 'version', answer_version, 'commit', ARGV[3])
end

while ARGV[at] do
  local tolerant = string.sub(ARGV[at], 1, 1) == '?'
  local count = tonumber(tolerant and string.sub(ARGV[at], 2) or ARGV[at])
  if tolerant then
    native(unpack(ARGV, at + 1, at + count))
  elseif ARGV[at + 1] == 'millrace.copy' then
    copy(unpack(ARGV, at + 2, at + count))
  elseif ARGV[at + 1] == 'millrace.drop' then
    if redis.call('HEXISTS', ARGV[at + 4], ARGV[at + 3]) == 0 then redis.call('HDEL', ARGV[at + 2], ARGV[at + 3]) end
  else
    redis.call(unpack(ARGV, at + 1, at + count))
  end
  at = at + count + 1
end

return {1, answer_version, string.format('%.0f', now), native_failure}
