"""Impression ids: what a card was shown to whom, in which response, at which place; signed, opaque to clients."""

from __future__ import annotations

from typing import Final

from configs.contracts.impressions import Impression, packed_common, packed_own, unpacked
from serve_apps.pages import Seals

USE: Final = b"impression"


class Impressions:
    """Makes the ids of one response's cards; what they have in common is hashed once."""

    def __init__(self, seals: Seals, viewer_id: str, model_version: str, response_id: str) -> None:
        self._sealer = seals.sealer(USE, packed_common(viewer_id, response_id, model_version))

    def of(self, candidate_id: str, position: int) -> str:
        """The id of one card."""
        return self._sealer(packed_own(candidate_id, position))


def read_impression(seals: Seals, text: str) -> Impression | None:
    """What an impression id says; None when it was not made here."""
    body = seals.open(USE, text)
    return None if body is None else unpacked(body)
