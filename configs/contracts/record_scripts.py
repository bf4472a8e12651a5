"""The scripts that change records, fields, lists and caches of the read model; ``read_model`` says what each is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from configs.contracts.positions import version_text

ERASED_VERSION: Final = (1 << 64) - 1
"""Newer than anything: nothing that comes late brings a field of an erased person back."""
TAKEN_OUT: Final = 1_000
"""Entries that were taken out of a list and are remembered, or as many as the list shows where that is less."""
MATCH_FIELDS: Final = (
    "role", "birthDate", "gender", "status", "latitude", "longitude", "cell", "ageMin", "ageMax",
    "maxDistanceKm", "roles", "genders", "discoverable",
)
"""Record fields whose change makes a cached deck's entry stale."""

RECORD_LUA: Final = """
local newest = false
local lasting = {verification = '"verified"', verified = 'true'}
for i = 3, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  local newer = not old or string.sub(old, 1, 16) < ARGV[2]
  local lasts = lasting[ARGV[i]]
  if lasts and old and ARGV[2] < ERASED and string.sub(old, 1, 16) < ERASED then
    local found = ARGV[i + 1] == lasts
    if found ~= (string.sub(old, 17) == lasts) then newer = found end
  end
  if newer then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[2] .. ARGV[i + 1]); newest = true
  end
end
if not newest and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local matching = {MATCH_FIELDS}
local all = redis.call('HGETALL', KEYS[1])
local parts = {'{"userId":"' .. ARGV[1] .. '"'}
local version = '0000000000000000'
for i = 1, #all, 2 do
  local stamp = string.sub(all[i + 1], 1, 16)
  parts[#parts + 1] = '"' .. all[i] .. '":' .. string.sub(all[i + 1], 17)
  if matching[all[i]] and stamp > version then version = stamp end
end
parts[#parts + 1] = '"matchVersion":"' .. version .. '"}'
redis.call('SET', KEYS[2], table.concat(parts, ','))
return 1
""".replace("MATCH_FIELDS", ",".join(f"['{name}']=true" for name in MATCH_FIELDS)).replace("ERASED", f"'{version_text(ERASED_VERSION)}'")
"""Each field holds its newest value; but whoever was found an adult stays ``verified``, whatever another check says."""

FIELD_LUA: Final = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and string.sub(old, 1, 16) >= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
return 1
"""

STRING_LUA: Final = """
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, 16) >= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return 1
"""

LISTING_LUA: Final = """
local old = redis.call('HGET', KEYS[2], ARGV[1])
if old and string.sub(old, 1, 16) >= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ARGV[3])
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  if ARGV[6] then redis.call('ZADD', KEYS[1], ARGV[6], ARGV[4], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1]) end
  local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[5])
  if over > 0 then
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do redis.call('HDEL', KEYS[2], member) end
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
  end
end
return 1
"""

BOUNDED_LUA: Final = LISTING_LUA.removesuffix("return 1\n") + """
local kept = math.min(tonumber(ARGV[5]), TAKEN_OUT)
if redis.call('HLEN', KEYS[2]) - redis.call('ZCARD', KEYS[1]) > 2 * kept then
  local removed, all = {}, redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    if all[i] ~= '*' and not redis.call('ZSCORE', KEYS[1], all[i]) then
      removed[#removed + 1] = string.sub(all[i + 1], 1, 16) .. all[i]
    end
  end
  table.sort(removed)
  for i = 1, #removed - kept do redis.call('HDEL', KEYS[2], string.sub(removed[i], 17)) end
end
return 1
""".replace("TAKEN_OUT", str(TAKEN_OUT))
"""``listing`` that remembers the newest only of what was taken out, too. That keeps out what was read before an entry was taken
out and is written after, a matter of seconds, in which no list loses so many. Should something come still later, the rows tell
that it is out: a rebuild leaves it out, and ``reconcile`` takes it out."""

NOTICE_LUA: Final = """
local old = redis.call('HGET', KEYS[2], ARGV[1])
if old and string.sub(old, 1, 16) >= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
redis.call(ARGV[6] == '1' and 'SREM' or 'SADD', KEYS[3], ARGV[1])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[5])
if over > 0 then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
    redis.call('HDEL', KEYS[2], member); redis.call('SREM', KEYS[3], member)
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
end
return 1
"""
"""``listing`` for notifications, which never leave the list but by age, and the set of those unread."""

OPEN_LUA: Final = """
for i = 1, #KEYS do redis.call('HSETNX', KEYS[i], ARGV[1], '1') end
return 1
"""

CACHE_LUA: Final = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

FORGET_LUA: Final = """
for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
"""

RECORD_SCRIPTS: Final[Mapping[str, str]] = {
    "record": RECORD_LUA,
    "field": FIELD_LUA,
    "string": STRING_LUA,
    "listing": LISTING_LUA,
    "bounded": BOUNDED_LUA,
    "notice": NOTICE_LUA,
    "open": OPEN_LUA,
    "cache": CACHE_LUA,
    "forget": FORGET_LUA,
}
