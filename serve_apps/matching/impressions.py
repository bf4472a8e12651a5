"""Impression ids: what a card was shown to whom, at which place, by which model; signed, opaque to clients."""

from __future__ import annotations

import struct
from typing import Final
from uuid import UUID

import msgspec

from serve_apps.pages import Seals

USE: Final = b"impression"
_LAYOUT: Final = struct.Struct(">B16s16sHI")
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
    """Makes the ids of one response's cards."""

    def __init__(self, seals: Seals, viewer_id: str, model_version: str, shown_at_s: int) -> None:
        self._seals = seals
        self._viewer = bytes.fromhex(viewer_id.replace("-", ""))
        self._model = model_version.encode()[:MODEL_BYTES]
        self._shown_at_s = shown_at_s

    def of(self, candidate_id: str, position: int) -> str:
        """The id of one card."""
        candidate = bytes.fromhex(candidate_id.replace("-", ""))
        return self._seals.seal(
            USE, _LAYOUT.pack(_FORMAT, self._viewer, candidate, position, self._shown_at_s) + self._model
        )


def read_impression(seals: Seals, text: str) -> Impression | None:
    """What an impression id says; None when it was not made here."""
    body = seals.open(USE, text)
    if body is None or len(body) < _LAYOUT.size:
        return None
    form, viewer, candidate, position, shown_at_s = _LAYOUT.unpack_from(body)
    if form != _FORMAT:
        return None
    model = body[_LAYOUT.size:].decode(errors="replace")
    return Impression(str(UUID(bytes=viewer)), str(UUID(bytes=candidate)), position, shown_at_s, model)
