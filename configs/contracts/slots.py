"""Redis Cluster's hash slots: which slot a key has, which keys a command names, and how commands of many slots are split.

A Lua script's keys share a hash tag, so every script is one slot. Commands that name many keys of many slots (MGET, DEL,
UNLINK, EXISTS) become one command a key: of ids, hardly two share a slot.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Final

SLOTS: Final = 16_384
PARTS: Final = 64
"""Markers of completeness, spread evenly over the slots: a primary with at least 512 slots side by side owns one."""

Argument = str | bytes | int | float
Command = tuple[Argument, ...]

_KEYLESS: Final = frozenset({"PING", "TIME", "INFO", "CLUSTER", "CONFIG", "AUTH", "SELECT", "DBSIZE"})
_PER_KEY: Final = {"MGET": "GET", "DEL": "DEL", "UNLINK": "UNLINK", "EXISTS": "EXISTS"}


def slot_of(key: str | bytes) -> int:
    """CRC16 (XMODEM) of the hash tag, or of the whole key where there is none or an empty one."""
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1:end]
    return crc_hqx(data, 0) % SLOTS


def keys_of(command: Sequence[Any]) -> tuple[Any, ...]:
    """The keys (or shard channel) by which a command finds its node; none: any node will do."""
    name = str(command[0]).upper()
    if name in ("EVAL", "EVALSHA"):
        return tuple(command[3:3 + int(command[2])])
    if name in _PER_KEY:
        return tuple(command[1:])
    if name in _KEYLESS or len(command) < 2:
        return ()
    return (command[1],)


@cache
def part_key(part: int) -> str:
    """Marker of the part ``part`` of the slots: present while what the slots' node holds is complete."""
    wanted = SLOTS // PARTS
    return next(name for name in (f"part:{{{number}}}" for number in count()) if slot_of(name) // wanted == part)


@dataclass(frozen=True, slots=True)
class Split:
    """Commands as they are sent, each to one slot, and how their replies are put together again."""

    sent: list[Sequence[Any]]
    slots: list[int]
    """Of each sent command; -1: any node."""
    spans: list[tuple[int, int, str]]
    """Of each command asked for: its first sent command, how many, and what they were split from ("": not split)."""

    def together(self, replies: Sequence[Any]) -> list[Any]:
        """One reply a command asked for. A part that is an exception stands for the whole."""
        whole = []
        for start, number, name in self.spans:
            if not name:
                whole.append(replies[start])
                continue
            mine = replies[start:start + number]
            failed = next((reply for reply in mine if isinstance(reply, Exception)), None)
            whole.append(failed if failed is not None else list(mine) if name == "MGET" else sum(mine))
        return whole


def split(commands: Sequence[Sequence[Any]]) -> Split:
    """The commands, those that name many keys one command a key."""
    sent: list[Sequence[Any]] = []
    slots: list[int] = []
    spans: list[tuple[int, int, str]] = []
    for command in commands:
        name = command[0]
        single = _PER_KEY.get(name) if isinstance(name, str) else None
        if single is not None and (name == "MGET" or len(command) > 2):
            spans.append((len(sent), len(command) - 1, name))
            for key in command[1:]:
                sent.append((single, key))
                slots.append(slot_of(key))
            continue
        spans.append((len(sent), 1, ""))
        keys = keys_of(command)
        sent.append(command)
        slots.append(slot_of(keys[0]) if keys else -1)
    return Split(sent, slots, spans)
