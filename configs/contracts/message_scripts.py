"""The scripts that change what Redis holds of conversations; ``conversations`` says what each does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MESSAGE_LUA: Final = """
local seq, epoch, keep = tonumber(ARGV[1]), string.sub(ARGV[2], 1, 16), tonumber(ARGV[3])
local function epoch_of(value) return value and string.sub(value, 1, 16) or '' end
if epoch_of(redis.call('HGET', KEYS[2], tostring(seq - 1))) > epoch then return 0 end
local head = redis.call('HMGET', KEYS[1], 'last', 'top')
local last, top = tonumber(head[1] or '0'), head[2]
local old = redis.call('HGET', KEYS[2], ARGV[1])
if seq == last then old = top end
if old and string.sub(old, 1, 32) >= string.sub(ARGV[2], 1, 32) then return 0 end
if seq >= last or epoch_of(top) < epoch then
  for gone = seq + 1, last do redis.call('HDEL', KEYS[2], tostring(gone)) end
  redis.call('HSET', KEYS[1], 'last', ARGV[1], 'top', ARGV[2])
  last = seq
end
if seq > last - keep then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('HDEL', KEYS[2], tostring(seq - keep))
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end
return 1
"""

WINDOW_LUA: Final = """
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or string.sub(old, 1, 32) < string.sub(ARGV[i + 1], 1, 32) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], '*', '1')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""

PAGE_LUA: Final = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

MARK_LUA: Final = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and tonumber(string.match(old, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
return 1
"""

FEED_LUA: Final = """
if KEYS[2] and (redis.call('ZSCORE', KEYS[2], ARGV[5]) or redis.call('HEXISTS', KEYS[3], ARGV[5]) == 0) then
  redis.call('ZADD', KEYS[2], 'GT', ARGV[4], ARGV[5])
end
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if not newest[1] then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[1], 0, 'id:' .. time[1] .. '.' .. time[2])
  newest = {'', '0'}
end
redis.call('ZADD', KEYS[1], string.format('%.0f', tonumber(newest[2]) + 1), ARGV[1])
local over = redis.call('ZCARD', KEYS[1]) - 1 - tonumber(ARGV[2])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 1, over) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

MESSAGE_SCRIPTS: Final[Mapping[str, str]] = {
    "message": MESSAGE_LUA,
    "window": WINDOW_LUA,
    "page": PAGE_LUA,
    "mark": MARK_LUA,
    "feed": FEED_LUA,
}
