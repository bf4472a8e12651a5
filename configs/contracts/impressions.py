"""The layout of an impression id: whose card, of which response, at which place, by which model.

Routes seal it (``serve_apps.matching.impressions``) and check the seal; writers read what stands in an event, which a
route has checked.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final
from uuid import UUID

import msgspec

COMMON: Final = struct.Struct(">B16s16sB")
"""Format, viewer, response, length of the model version that follows (all padded to a multiple of three)."""
POSITION_BYTES: Final = 2
OWN_BYTES: Final = 16 + POSITION_BYTES
FORMAT: Final = 2
MODEL_BYTES: Final = 32
SEAL_BYTES: Final = 12
"""96 bits of a keyed BLAKE2b: forging one needs 2^96 tries against a rate-limited route."""


class Impression(msgspec.Struct, frozen=True):
    """One card as it was shown; ``position`` from 0 in its deck, ``response_id`` the cards_served event's id."""

    viewer_id: str
    candidate_id: str
    position: int
    response_id: str
    model_version: str


def packed_common(viewer_id: str, response_id: str, model_version: str) -> bytes:
    """What the cards of one response share. With the rest and a seal it is a multiple of three: base64 unpadded."""
    model = model_version.encode()[:MODEL_BYTES]
    head = COMMON.pack(FORMAT, raw_id(viewer_id), raw_id(response_id), len(model))
    return head + model + bytes(-(len(head) + len(model)) % 3)


def packed_own(candidate_id: bytes, position: int) -> bytes:
    """What is each card's own. ``candidate_id``: the 16 bytes of the id."""
    return candidate_id + position.to_bytes(POSITION_BYTES, "big")


def unpacked(body: bytes) -> Impression | None:
    """What an unsealed body says; None when it has another layout."""
    if len(body) < COMMON.size + OWN_BYTES or body[0] != FORMAT:
        return None
    _, viewer, response, length = COMMON.unpack_from(body)
    head = COMMON.size + length
    if len(body) != head + -head % 3 + OWN_BYTES:
        return None
    own = body[-OWN_BYTES:]
    model = body[COMMON.size : head].decode(errors="ignore")
    position = int.from_bytes(own[16:], "big")
    return Impression(str(UUID(bytes=viewer)), str(UUID(bytes=own[:16])), position, str(UUID(bytes=response)), model)


def unsealed(text: str) -> Impression | None:
    """What an impression id in an event says, without checking its seal; None for what never was one."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return unpacked(raw[:-SEAL_BYTES])


def raw_id(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))
