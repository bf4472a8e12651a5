"""What gateways, shards and writers agree on in Redis about sockets. None of it lasts: losing it loses no fact.

``rt:{u}`` sharded pub/sub channel: frames for all devices of a person, and words from gateway to gateway ·
``on:{u}`` sharded pub/sub channel: changes of a person's presence, for who watches · ``dev:{u}`` sorted set of
connected devices by the time (ms) of their last refresh · ``seen:{u}`` Unix ms when a device was last connected ·
``dlv:{u}`` hash conversation -> seq that a device of the person holds · ``gateways`` hash of living gateways.
"""

from __future__ import annotations

from typing import Final

import msgspec

GATEWAYS: Final = "gateways"
GATEWAY_STALE_MS: Final = 3_000
"""A gateway writes its entry every second; one that has not for so long gets no new sockets."""

DEVICES: Final = 10
"""Sockets of one person; with one more the oldest is closed."""
DEVICE_TTL_MS: Final = 90_000
"""Without a refresh for so long a device counts as gone: its gateway died."""
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


def frames_channel(user_id: str) -> str:
    return f"rt:{{{user_id}}}"


def presence_channel(user_id: str) -> str:
    return f"on:{{{user_id}}}"


def devices_key(user_id: str) -> str:
    return f"dev:{{{user_id}}}"


def seen_key(user_id: str) -> str:
    return f"seen:{{{user_id}}}"


def delivered_key(user_id: str) -> str:
    return f"dlv:{{{user_id}}}"


ATTACH_LUA: Final = """
local now, ttl, bound = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
local before = redis.call('ZCARD', KEYS[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[5])
local over = redis.call('ZCARD', KEYS[1]) - bound
if over <= 0 then return {before} end
local all = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(all)
local gone = {before}
for i = 1, over do redis.call('ZREM', KEYS[1], all[i]); gone[#gone + 1] = all[i] end
return gone
"""
"""Adds a device; answers how many there were, and the ids of those over the bound, oldest first (ids begin with their
time)."""

DETACH_LUA: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[3]))
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
return redis.call('ZCARD', KEYS[1])
"""
"""Takes a device out; answers how many are left."""

REFRESH_LUA: Final = """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
return 1
"""

FORWARD_LUA: Final = """
local old = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if old >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""Moves a mark forward; answers whether it moved."""
