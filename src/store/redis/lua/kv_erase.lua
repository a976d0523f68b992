#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
--
-- KEYS: the key's hash, the index of all keys. ARGV: key, the version it must have ('' = any). Answers 1 when it was
-- there and is gone.

local version = redis.call('HGET', KEYS[1], 'version')
if not version or (ARGV[2] ~= '' and version ~= ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
