"""What gateways, shards and writers agree on in Redis about sockets. None of it lasts: losing it loses no fact.

``rt:{u}`` sharded pub/sub channel: frames for all devices of a person, and words from gateway to gateway ·
``on:{u}`` sharded pub/sub channel: changes of a person's presence, for who watches · ``dev:{u}`` sorted set of
connected devices by the time (ms) of their last refresh · ``seen:{u}`` Unix ms when a device was last connected ·
``dlv:{u}`` hash conversation -> seq that a device of the person holds · ``gateways`` hash of living gateways, each under
its name with the life that its devices' ids name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

GATEWAYS: Final = "gateways"
GATEWAY_STALE_MS: Final = 3_000
"""A gateway writes its entry every second; one that has not for so long gets no new sockets."""

GATEWAY_LATE_MS: Final = 1_600
"""One whose entry is that old gets new sockets only while all others are as late."""

GATEWAY_LIFE_MS: Final = 7_000
"""After so long without its entry the devices of a gateway's life count as gone."""

DEVICES: Final = 10
"""Sockets of one person; with one more the oldest is closed."""
DEVICE_TTL_MS: Final = 90_000
"""Without a refresh for so long a device is taken out, should nobody have noticed that its gateway died."""
SEEN_TTL_S: Final = 8 * 86_400
"""Longer than the widest presence bucket but one."""
DELIVERED_TTL_S: Final = 30 * 86_400
"""Delivered marks are not durable; after a month without any they are forgotten."""

CLOSE_DEVICES: Final = b"!close "
"""Begins a word from gateway to gateway on a person's channel: connection ids (separated by blanks) to be closed."""


class GatewayEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One living gateway."""

    url: str
    sockets: int
    draining: bool
    at_ms: int
    life: str = ""
    """Of this process; another one of the same name has another."""
    figures: dict[str, int] = {}
    """For metrics: what it holds, and what it has done since its life began."""


def connection_name(at_ms: int, life: str, number: int) -> str:
    """The id of a device's connection. It begins with the time, so that ids of one person sort by age on every gateway."""
    return f"{at_ms:012x}-{life}-{number:x}"


def life_of(connection_id: str) -> str:
    """The gateway's life to which a connection belongs."""
    return connection_id.partition("-")[2].rpartition("-")[0]


def frames_channel(user_id: str) -> str:
    return f"rt:{{{user_id}}}"


def presence_channel(user_id: str) -> str:
    return f"on:{{{user_id}}}"


def close_devices(user_id: str, connection_ids: Iterable[str]) -> tuple[str, bytes]:
    """Channel and payload that close these of a person's devices wherever they are connected."""
    return frames_channel(user_id), CLOSE_DEVICES + " ".join(connection_ids).encode()


def devices_key(user_id: str) -> str:
    return f"dev:{{{user_id}}}"


def seen_key(user_id: str) -> str:
    return f"seen:{{{user_id}}}"


def delivered_key(user_id: str) -> str:
    return f"dlv:{{{user_id}}}"


_OVER_LUA: Final = """
local gone, over = {}, redis.call('ZCARD', KEYS[1]) - bound
if over > 0 then
  local all = redis.call('ZRANGE', KEYS[1], 0, -1)
  table.sort(all)
  for i = 1, over do redis.call('ZREM', KEYS[1], all[i]); gone[i] = all[i] end
end
"""
"""Takes the oldest devices over the bound out: ids begin with their time."""

ATTACH_LUA: Final = """
local now, ttl, bound = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
local before = redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[5])
""" + _OVER_LUA + """
return {before, gone}
"""
"""Adds a device; answers the ids of those that were there, and of those over the bound, oldest first."""

DETACH_LUA: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[3]))
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
"""Takes a device out; answers the ids of those that are left."""

REFRESH_LUA: Final = """
local bound = tonumber(ARGV[5])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
""" + _OVER_LUA + """
return gone
"""
"""Says that a device is still connected; answers the ids of those over the bound: of one that did not hear that it was to
be closed."""

FORWARD_LUA: Final = """
local old = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if old >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""Moves a mark forward; answers whether it moved."""
