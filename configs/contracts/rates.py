"""Even rates that hold over all processes: the generic cell rate algorithm (ITU-T I.371) in Redis, on Redis' own clock."""

from __future__ import annotations

from typing import Final

TAKE_LUA: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local every, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local room = math.floor(burst - (due - now) / every + 0.001)
local taken = math.max(0, math.min(wanted, room))
if taken > 0 then
  due = due + taken * every
  redis.call('SET', KEYS[1], string.format('%.3f', due), 'PX', math.ceil(due - now) + 1)
end
if taken == wanted then return {taken, 0} end
return {taken, math.max(1, math.ceil(due - now - every * (burst - 1)))}
"""
"""Takes up to ``wanted`` at once: one stored time, one atomic step. Answers how many were taken, and when not all, the ms
until the next one. Of a count that Redis lost everybody begins anew."""


def limit_key(name: str, key: str) -> str:
    """Of one rate and whom it counts; in one slot with what else is named by ``{key}``."""
    return f"limit:{name}:{{{key}}}"
