"""Impression ids: what a card was shown to whom, at which place, by which model; signed, opaque to clients."""

from __future__ import annotations

import struct
from typing import Final
from uuid import UUID

import msgspec

from serve_apps.pages import Seals

USE: Final = b"impression"
_COMMON: Final = struct.Struct(">B16sIB")
"""Format, viewer, time shown, length of the model version that follows (padded to three bytes)."""
_POSITION_BYTES: Final = 2
_OWN_BYTES: Final = 16 + _POSITION_BYTES
"""Candidate and position. With a seal of 12 bytes everything is a multiple of three: base64 without padding."""
_FORMAT: Final = 1
MODEL_BYTES: Final = 32


class Impression(msgspec.Struct, frozen=True):
    """One card as it was shown; ``shown_at_s`` Unix seconds, ``position`` from 0 in its deck."""

    viewer_id: str
    candidate_id: str
    position: int
    shown_at_s: int
    model_version: str


class Impressions:
    """Makes the ids of one response's cards; what they have in common is hashed once."""

    def __init__(self, seals: Seals, viewer_id: str, model_version: str, shown_at_s: int) -> None:
        model = model_version.encode()[:MODEL_BYTES]
        viewer = bytes.fromhex(viewer_id.replace("-", ""))
        self._common = _COMMON.pack(_FORMAT, viewer, shown_at_s, len(model)) + model + bytes(-len(model) % 3)
        self._sealer = seals.sealer(USE, self._common)

    def of(self, candidate_id: str, position: int) -> str:
        """The id of one card."""
        return self._sealer(bytes.fromhex(candidate_id.replace("-", "")) + position.to_bytes(_POSITION_BYTES, "big"))


def read_impression(seals: Seals, text: str) -> Impression | None:
    """What an impression id says; None when it was not made here."""
    body = seals.open(USE, text)
    if body is None or len(body) < _COMMON.size:
        return None
    form, viewer, shown_at_s, length = _COMMON.unpack_from(body)
    own = body[-_OWN_BYTES:]
    if form != _FORMAT or len(body) != _COMMON.size + length + -length % 3 + _OWN_BYTES:
        return None
    model = body[_COMMON.size : _COMMON.size + length].decode()
    position = int.from_bytes(own[16:], "big")
    return Impression(str(UUID(bytes=viewer)), str(UUID(bytes=own[:16])), position, shown_at_s, model)
