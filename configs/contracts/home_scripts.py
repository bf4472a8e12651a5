"""The scripts that change home feeds and the set of large creators; ``home`` says what each does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HOME_BEGIN_LUA: Final = """
if redis.call('ZSCORE', KEYS[1], '*') then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('EXPIRE', KEYS[1], 60)
return 1
"""
HOME_FILL_LUA: Final = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
for i = 3, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i]) end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], 0, '*')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
HOME_PUSH_LUA: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
local over = redis.call('ZCARD', KEYS[1]) - 1 - tonumber(ARGV[3])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 1, over) end
return 1
"""
DROP_LUA: Final = """
return redis.call('DEL', KEYS[1])
"""
LARGE_LUA: Final = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 and redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
"""
HOME_SCRIPTS: Final[Mapping[str, str]] = {
    "home_begin": HOME_BEGIN_LUA,
    "home_fill": HOME_FILL_LUA,
    "home_push": HOME_PUSH_LUA,
    "drop": DROP_LUA,
    "large": LARGE_LUA,
}
