#!lua flags=allow-oom
-- SPDX-License-Identifier: Apache-2.0
-- Records a retention if the one that was read is still there; also when the server is out of memory: it is what makes
-- room. KEYS: stream. ARGV: what was read ('' = none), what is to be. Answers 1, or 0 when somebody else was faster or
-- the stream is gone.
if redis.call('EXISTS', KEYS[1]) == 0 or (redis.call('HGET', KEYS[1], 'retention') or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'retention', ARGV[2])
return 1
