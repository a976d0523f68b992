#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- Sessions, on the server's clock. A row is "until=<us> lease_ms=<n> consumer=<name>".
-- KEYS: the hash of sessions, meta. ARGV: what to do, and
--   open   <lease_ms> <consumer>   -> {id, row}
--   renew  <id>                    -> {1, row}, or {0} when it has ended
--   end    <id>...                 -> how many rows of ended ones were deleted

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function text(number)
  return string.format('%.0f', number)
end

local function row_of(lease_ms, consumer)
  return 'until=' .. text(now + lease_ms * 1000) .. ' lease_ms=' .. lease_ms .. ' consumer=' .. consumer
end

local function parse(row)
  local till, lease_ms, consumer = string.match(row or '', '^until=(%d+) lease_ms=(%d+) consumer=(.*)$')
  return tonumber(till), lease_ms, consumer
end

if ARGV[1] == 'open' then
  if tonumber(redis.call('HGET', KEYS[2], 'next_id') or 0) < now then redis.call('HSET', KEYS[2], 'next_id', text(now)) end
  local id = text(redis.call('HINCRBY', KEYS[2], 'next_id', 1))
  local row = row_of(ARGV[2], ARGV[3])
  redis.call('HSET', KEYS[1], id, row)
  return {id, row}
end

if ARGV[1] == 'renew' then
  local till, lease_ms, consumer = parse(redis.call('HGET', KEYS[1], ARGV[2]))
  if not till or till <= now then return {0} end
  local row = row_of(lease_ms, consumer)
  redis.call('HSET', KEYS[1], ARGV[2], row)
  return {1, row}
end

local ended = 0
for i = 2, #ARGV do
  local till = parse(redis.call('HGET', KEYS[1], ARGV[i]))
  if till and till <= now then ended = ended + redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return ended
