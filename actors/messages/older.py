"""Which requests may name a message older than those that a shard remembers one by one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Self

_PARTS: Final = struct.Struct(">4H")
BITS: Final = 1 << 13
MOST_BITS: Final = 1 << 16
"""8 KiB for each conversation with very many messages; what does not fit is looked for in rows more often."""
BITS_A_REQUEST: Final = 12
"""With four bits a request, one new request in some hundred is looked for in vain, after much growth one in ten."""


class Older:
    """A Bloom filter of request digests: never says no of one that was added.

    It takes no room before its first one. It doubles by repeating itself: the index of a bit is a part of the digest
    modulo the size, so a bit of the half may be either of two in the whole.
    """

    __slots__ = ("_bits", "count")

    def __init__(self, digests: Sequence[bytes] = ()) -> None:
        bits = BITS
        while len(digests) * BITS_A_REQUEST > bits < MOST_BITS:
            bits *= 2
        self._bits = bytearray(bits // 8 if digests else 0)
        self.count = 0
        for digest in digests:
            self.add(digest)

    @classmethod
    def everything(cls) -> Self:
        """Says maybe of every request."""
        made = cls()
        made._bits = bytearray(b"\xff" * (BITS // 8))
        return made

    def add(self, digest: bytes) -> None:
        self.count += 1
        if not self._bits:
            self._bits = bytearray(BITS // 8)
        if self.count * BITS_A_REQUEST > len(self._bits) * 8 < MOST_BITS:
            self._bits *= 2
        bits, mask = self._bits, len(self._bits) * 8 - 1
        for part in _PARTS.unpack(digest):
            index = part & mask
            bits[index >> 3] |= 1 << (index & 7)

    def __contains__(self, digest: bytes) -> bool:
        bits, mask = self._bits, len(self._bits) * 8 - 1
        return bool(bits) and all(bits[(part & mask) >> 3] >> (part & 7) & 1 for part in _PARTS.unpack(digest))

    def __sizeof__(self) -> int:
        return len(self._bits)
