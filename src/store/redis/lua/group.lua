-- SPDX-License-Identifier: Apache-2.0
--
-- All rows of a group, as of one moment. KEYS: its hash, its claims, its items.
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
