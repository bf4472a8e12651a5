"""Impression ids: what a card was shown to whom, in which response, at which place; signed, opaque to clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from configs.contracts.impressions import Impression, packed_common, packed_own, unpacked
from serve_apps.pages import Seals

USE: Final = b"impression"


def impression_ids(
    seals: Seals, viewer_id: str, model_version: str, response_id: str, cards: Sequence[tuple[bytes, int]]
) -> list[bytes]:
    """The ids of one response's cards, each (16 bytes of the candidate's id, place in the deck), as ASCII."""
    common = packed_common(viewer_id, response_id, model_version)
    return seals.seal_many(USE, common, [packed_own(candidate, place) for candidate, place in cards])


def read_impression(seals: Seals, text: str) -> Impression | None:
    """What an impression id says; None when it was not made here."""
    body = seals.open(USE, text)
    return None if body is None else unpacked(body)
