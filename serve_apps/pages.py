"""Pages of lists, and the sealed texts (cursors, impressions) that clients carry between requests."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query

from cluster.connections.reading import Reads
from configs.contracts.impressions import SEAL_BYTES
from configs.contracts.read_model import (
    MARKED_LISTINGS,
    MARKER,
    Listing,
    listing_keys,
    read_versioned,
    relation_key,
)
from configs.settings import Auth
from serve_apps.fields import CURSOR_PATTERN
from serve_apps.people import People
from serve_apps.problems import Refused

DEFAULT_LIMIT: Final = 20
HIGHEST_LIMIT: Final = 100
_TO_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")
EXTRA: Final = 16
"""Entries read beyond a page, for those of the same millisecond that the cursor is past."""

Limit = Annotated[int, Query(ge=1, le=HIGHEST_LIMIT, description="how many at most")]
Cursor = Annotated[str | None, Query(pattern=CURSOR_PATTERN, description="`nextCursor` of the page before")]


class Seals:
    """Signs short texts that clients hand back; what was not issued here, or for another use, is refused."""

    def __init__(self, settings: Auth) -> None:
        self.key = bytes.fromhex(settings.impression_key.get_secret_value())

    def seal(self, use: bytes, body: bytes) -> str:
        """The body and its seal as base64url. ``use`` (up to 16 bytes) keeps texts of one kind from being another."""
        mark = hashlib.blake2b(body, key=self.key, digest_size=SEAL_BYTES, person=use).digest()
        return base64.urlsafe_b64encode(body + mark).rstrip(b"=").decode()

    def seal_many(self, use: bytes, common: bytes, rests: Sequence[bytes]) -> list[bytes]:
        """``seal`` of many bodies that begin alike, as ASCII. Bodies are equally long, a multiple of three bytes."""
        begun = hashlib.blake2b(common, key=self.key, digest_size=SEAL_BYTES, person=use)
        pieces: list[bytes] = []
        for rest in rests:
            mark = begun.copy()
            mark.update(rest)
            pieces += (common, rest, mark.digest())
        text = binascii.b2a_base64(b"".join(pieces), newline=False).translate(_TO_URLSAFE)
        width = len(text) // len(rests) if rests else 1
        return [text[at : at + width] for at in range(0, len(text), width)]

    def open(self, use: bytes, text: str) -> bytes | None:
        """The body of a text that ``seal`` made for the same use; None for every other text."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
            return None  # the last character has bits that decoding ignores
        body, mark = raw[:-SEAL_BYTES], raw[-SEAL_BYTES:]
        made = hashlib.blake2b(body, key=self.key, digest_size=SEAL_BYTES, person=use).digest()
        return body if hmac.compare_digest(mark, made) else None


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: the reader, and the last entry's time (ms) and id."""

    reader_id: str
    at_ms: int
    entry_id: str


_PLACES: Final = msgspec.msgpack.Decoder(Place)
_ENCODER: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Page:
    """Entries (id, versioned value), newest first, and the cursor of the next page."""

    entries: Sequence[tuple[str, bytes]]
    next_cursor: str | None


class Listings:
    """Pages of a person's listings in the read model."""

    def __init__(self, reads: Reads, people: People, seals: Seals) -> None:
        self._reads = reads
        self._people = people
        self._seals = seals

    async def page(self, listing: Listing, user_id: str, limit: int, cursor: str | None) -> Page:
        """A page. An entry added or removed meanwhile moves no other entry to another page.

        Raises Refused: the cursor is not of this list. ReadModelUnknown: the list is not written yet.
        """
        order, entries = listing_keys(listing, user_id)
        use = listing.encode()
        after = self._place(use, user_id, cursor)
        ranked, _ = await self._people.sets(
            user_id,
            ("ZRANGE", order, "+inf" if after is None else after.at_ms, "-inf", "BYSCORE", "REV", "LIMIT", 0,
             limit + 1 + (EXTRA if after else 0), "WITHSCORES"),
            ("HMGET", entries if listing in MARKED_LISTINGS else relation_key(user_id), MARKER),
            marked=(1,),
        )
        members = _scored(ranked)
        if after is not None:
            members = [item for item in members if (item[1], item[0]) < (after.at_ms, after.entry_id)]
            if len(members) <= limit and len(ranked) // 2 == limit + 1 + EXTRA:
                members = await self._beyond(order, after, limit)
        shown = members[:limit]
        found: list[tuple[str, bytes]] = []
        if shown:
            (values,) = await self._reads.read(("HMGET", entries, *(entry_id for entry_id, _ in shown)))
            found = [
                (entry_id, read_versioned(value)[1])
                for (entry_id, _), value in zip(shown, values, strict=True) if value is not None
            ]
        following = None
        if len(members) > limit:
            last_id, last_ms = shown[-1]
            following = self._seals.seal(use, _ENCODER.encode(Place(user_id, last_ms, last_id)))
        return Page(found, following)

    async def _beyond(self, order: str, after: Place, limit: int) -> list[tuple[str, int]]:
        """The page when more than ``EXTRA`` entries share the cursor's millisecond: the bounded list is read whole."""
        (ranked,) = await self._reads.read(("ZRANGE", order, after.at_ms, "-inf", "BYSCORE", "REV", "WITHSCORES"))
        members = [item for item in _scored(ranked) if (item[1], item[0]) < (after.at_ms, after.entry_id)]
        return members[: limit + 1]

    def _place(self, use: bytes, user_id: str, cursor: str | None) -> Place | None:
        if cursor is None:
            return None
        body = self._seals.open(use, cursor)
        if body is None:
            raise Refused("cursor_invalid")
        try:
            place = _PLACES.decode(body)
        except msgspec.MsgspecError as error:
            raise Refused("cursor_invalid") from error
        if place.reader_id != user_id:
            raise Refused("cursor_invalid")
        return place


def _scored(ranked: Sequence[Any]) -> list[tuple[str, int]]:
    """(member, score) pairs of a WITHSCORES reply in RESP2."""
    return [(ranked[i].decode(), int(float(ranked[i + 1]))) for i in range(0, len(ranked), 2)]

