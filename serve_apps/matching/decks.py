"""Decks: 50 candidates chosen once, kept for 300 seconds, so that pages and retries show the same cards.

``deck:{u}:<filters>`` holds the present deck; ``deck:{u}:<deck id>`` those that a cursor may still name: the decks that
follow it while paging, the one before it, and one that another request overwrote which was made at the same time.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.cards.client import CardsClient
from actors.cards.commands import DECK_SIZE, Deck, DeckQuery, SeenUnknown
from actors.swipes.client import SwipesClient
from cluster.connections.reading import Command, Reads
from configs.contracts.errors import DependencyUnavailable, ShardUnavailable
from configs.contracts.ranking import Assignment
from configs.contracts.read_model import DECK_TTL_S, deck_key, newest_likes
from recommender.exploration import Exploration, explored, seed_of
from recommender.waiting import LIKES_MOST
from serve_apps.pages import Seals
from serve_apps.problems import Refused

SHOWN_KEYS: Final = 2_000
"""People left out of the decks that follow one another while paging; past it the list ends."""
VIEWERS_TOLD: Final = 4_096
"""Viewers with many seen people of whom a replica remembers what the card actors were told."""
ID_BYTES: Final = 8
RAW_ID: Final = 16
BELOW_A_PLACE: Final = 5
BELOW: Final = BELOW_A_PLACE * DECK_SIZE // 5
"""People looked at below the deck when every fifth place may be given to one of them."""
USE: Final = b"deck"

Kept = asyncio.Future[list[Any]]
"""Done when a deck is in Redis. Raises DependencyUnavailable."""


class StoredDeck(msgspec.Struct, frozen=True, array_like=True):
    """A deck as it is cached, its cards as columns in one order, best first.

    ``ids`` 16 bytes each, ``distances_km``, ``scores`` and ``propensities`` little-endian float32 (no propensities: all
    are 1), ``versions`` the candidates' ``match_version``s as big-endian uint64. ``viewer_version``: the viewer's ``match_version`` it was made for. ``full``: there may be more people behind it.
    ``shown``: ``key64`` (little-endian uint64) of people in the decks before it. ``beyond_km``: ``Deck.beyond_km``.
    ``configuration``: of the shards that ranked it. ``features``: (n, names) little-endian float32, of sampled decks.
    """

    deck_id: str
    viewer_version: str
    model_version: str
    full: bool
    ids: bytes
    distances_km: bytes
    versions: bytes
    shown: bytes = b""
    beyond_km: float | None = None
    configuration: int = 0
    experiment: str = ""
    arm: str = ""
    decided_at_us: int = 0
    scores: bytes = b""
    propensities: bytes = b""
    feature_names: tuple[str, ...] = ()
    features: bytes = b""

    def __len__(self) -> int:
        return len(self.ids) // RAW_ID

    def keys(self, start: int, end: int) -> bytes:
        """The ``key64``s (little-endian uint64) of the cards from ``start`` to ``end``."""
        return np.frombuffer(self.ids, ">u8")[2 * start + 1 : 2 * end : 2].astype("<u8").tobytes()

    def follows(self, assignment: Assignment) -> bool:
        """Whether a deck made now would be ranked by the same rules, as far as this replica has heard."""
        return self.configuration > assignment.configuration or (
            self.configuration == assignment.configuration and self.arm == assignment.arm
        )

    def same_as(self, other: StoredDeck) -> bool:
        """Whether the decks differ in their names and the time of their making only."""
        return msgspec.structs.replace(self, deck_id=other.deck_id, decided_at_us=other.decided_at_us) == other

    def ranked_as(self, other: StoredDeck) -> bool:
        """Whether one impression may name the cards of both."""
        return (self.configuration, self.model_version, self.experiment, self.arm) == (
            other.configuration, other.model_version, other.experiment, other.arm
        )


class Bookmark(msgspec.Struct, frozen=True, array_like=True):
    """What a cursor says: whose, for which filters, and the next card's place."""

    viewer_id: str
    filters: str
    deck_id: str
    offset: int
    parent_id: str = ""


_DECKS: Final = msgspec.msgpack.Decoder(StoredDeck)
_BOOKMARKS: Final = msgspec.msgpack.Decoder(Bookmark)
_ENCODER: Final = msgspec.msgpack.Encoder()


def read_deck(value: bytes | None, viewer_version: str) -> StoredDeck | None:
    """A cached deck that was made for the viewer as they are now."""
    if value is None:
        return None
    try:
        deck = _DECKS.decode(value)
    except msgspec.MsgspecError:
        return None  # written by another release: as good as expired
    return deck if deck.viewer_version == viewer_version else None


def following_id(deck_id: str) -> str:
    """The id of the deck after this one: the same on every retry."""
    return hashlib.blake2b(deck_id.encode(), digest_size=ID_BYTES, person=b"next-deck").hexdigest()


def sampled(deck_id: str, ratio: float) -> bool:
    """Whether the deck is of the sample whose feature values are kept. Deck ids are random or hashed."""
    return int(deck_id, 16) < ratio * (1 << 8 * ID_BYTES)


def arranged(found: Deck, viewer_id: str, deck_id: str, exploration: float) -> tuple[NDArray[np.int64], bytes]:
    """(places in ``found``, propensities as in ``StoredDeck``) of a deck in the order in which it is shown.

    Whoever gives a place to somebody from further below comes in the decks that follow.
    """
    if not exploration or len(found) <= DECK_SIZE:
        return np.arange(min(len(found), DECK_SIZE)), b""
    shown = explored(
        np.arange(len(found)), np.frombuffer(found.scores, "<f4"), DECK_SIZE,
        Exploration(rate=exploration, pool=BELOW_A_PLACE), seed_of(viewer_id.encode(), deck_id.encode()),
    )
    return shown.ranks, shown.propensities.astype("<f4").tobytes()


def _taken(column: bytes, width: int, places: NDArray[np.int64] | int) -> bytes:
    """The values of ``width`` bytes at these places, or so many of the first."""
    if isinstance(places, int):
        return column[: width * places]
    return np.frombuffer(column, f"V{width}")[places].tobytes() if width and column else b""


def waiting_keys(likes: list[bytes]) -> bytes:
    """The reply to ``newest_likes`` as ``DeckQuery.waiting`` takes it."""
    ids = np.frombuffer(bytes.fromhex(b"".join(likes).decode().replace("-", "")), ">u8")
    return ids[1::2].astype("<u8").tobytes()


def cursor_of(seals: Seals, bookmark: Bookmark) -> str:
    return seals.seal(USE, _ENCODER.encode(bookmark))


def read_cursor(seals: Seals, text: str, viewer_id: str, filters: str) -> Bookmark:
    """Raises Refused: not issued to this viewer for these filters."""
    body = seals.open(USE, text)
    if body is None:
        raise Refused("cursor_invalid")
    try:
        bookmark = _BOOKMARKS.decode(body)
    except msgspec.MsgspecError as error:
        raise Refused("cursor_invalid") from error
    if bookmark.viewer_id != viewer_id or bookmark.filters != filters:
        raise Refused("cursor_invalid")
    return bookmark


@dataclass(frozen=True, slots=True)
class Decks:
    """Makes decks and keeps them."""

    reads: Reads
    swipes: SwipesClient
    cards: CardsClient
    feature_sample_ratio: float = 0.0
    told: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """The state of each viewer's seen people that the card actors were told last."""

    async def fresh(
        self, wish: DeckQuery | None, viewer_id: str, filters: str, viewer_version: str, *, replaces: bytes | None,
        assignment: Assignment,
    ) -> tuple[StoredDeck, Kept]:
        """The present deck, made anew, and when it is kept. ``replaces``: what is cached, kept for cursors that name it, and
        answered again when the new one would be the same.

        Raises DependencyUnavailable: the shards do not answer.
        """
        deck = await self._made(secrets.token_hex(ID_BYTES), wish, viewer_version, b"", assignment)
        old = read_deck(replaces, viewer_version)
        key = deck_key(viewer_id, filters)
        if replaces is not None and old is not None and deck.same_as(old):
            deck, kept = old, self._write((key, replaces), reads_first=True)
        else:
            more = () if replaces is None or old is None else ((deck_key(viewer_id, old.deck_id), replaces),)
            kept = self._write((key, _ENCODER.encode(deck)), *more, reads_first=True)
        kept.add_done_callback(partial(self._rescue, viewer_id, viewer_version, replaces))
        return deck, kept

    def _rescue(self, viewer_id: str, viewer_version: str, replaced: bytes | None, kept: Kept) -> None:
        """Keeps the deck that was overwritten instead of ``replaced``: of a request that was made at the same time, and whose
        cursor names it."""
        if kept.cancelled() or kept.exception() is not None:
            return
        found: bytes | None = kept.result()[0]
        if found is not None and found != replaced and (lost := read_deck(found, viewer_version)) is not None:
            with suppress(DependencyUnavailable):
                self._write((deck_key(viewer_id, lost.deck_id), found))

    async def after(
        self, parent: StoredDeck, wish: DeckQuery | None, viewer_id: str, assignment: Assignment
    ) -> tuple[StoredDeck, Kept | None]:
        """The deck behind a full one, without anybody in the decks before it, and when it is kept if it was made now.

        It is made once, whoever asks again; the people of one made before may have been swiped since.
        """
        deck_id = following_id(parent.deck_id)
        (value,) = await self.reads.raw(("GET", deck_key(viewer_id, deck_id)))
        known = read_deck(value, parent.viewer_version)
        if known is not None:
            return known, None
        shown = parent.shown + parent.keys(0, len(parent))
        if len(shown) > 8 * SHOWN_KEYS:
            wish = None
        deck = await self._made(deck_id, wish, parent.viewer_version, shown, assignment)
        return deck, self._write((deck_key(viewer_id, deck_id), _ENCODER.encode(deck)))

    async def _made(
        self, deck_id: str, wish: DeckQuery | None, viewer_version: str, shown: bytes, assignment: Assignment
    ) -> StoredDeck:
        if wish is None:
            return StoredDeck(
                deck_id, viewer_version, "", full=False, ids=b"", distances_km=b"", versions=b"",
                configuration=assignment.configuration, arm=assignment.arm,
            )
        found = await self.found(msgspec.structs.replace(
            wish, shown=np.sort(np.frombuffer(shown, "<u8")).tobytes(), model_version=assignment.version,
            with_features=sampled(deck_id, self.feature_sample_ratio),
            size=DECK_SIZE + (BELOW if assignment.exploration else 0), waiting_boost=assignment.waiting_like,
        ))
        chosen, propensities = arranged(found, wish.viewer_id, deck_id, assignment.exploration)
        places = chosen if propensities else chosen.size  # without exploration the first ones as they are
        ids = _taken(found.ids, RAW_ID, places)
        return StoredDeck(
            deck_id, viewer_version, found.model_version, full=len(ids) >= RAW_ID * DECK_SIZE,
            ids=ids,
            distances_km=_taken(found.distances_km, 4, places),
            versions=_taken(found.match_versions, 8, places),
            shown=shown,
            beyond_km=found.beyond_km,
            configuration=found.configuration,
            experiment=assignment.experiment,
            arm=assignment.arm,
            decided_at_us=found.decided_at_us,
            scores=_taken(found.scores, 4, places),
            propensities=propensities,
            feature_names=found.feature_names,
            features=_taken(found.features, 4 * len(found.feature_names), places),
        )

    async def found(self, query: DeckQuery) -> Deck:
        """The shards' deck without whom the viewer has seen. Of many seen people only the changes travel, unless a card
        actor does not keep the others."""
        viewer_id = query.viewer_id
        likes = None
        if query.waiting_boost:  # read while the swipe shard answers
            likes = self.reads.read(newest_likes(viewer_id, LIKES_MOST))
            likes.add_done_callback(lambda done: done.cancelled() or done.exception())
        waiting = b""
        for since in (self.told.get(viewer_id, 0), 0):
            seen = await self.swipes.seen_set(viewer_id, since)
            if likes is not None and not waiting:
                waiting = waiting_keys((await likes)[0])
            try:
                deck = await self.cards.deck(msgspec.structs.replace(
                    query, seen=seen.keys, seen_gone=seen.gone, seen_token=seen.token, seen_base=seen.base, waiting=waiting
                ))
            except SeenUnknown:
                continue
            if seen.token:
                self.told[viewer_id] = seen.token
                self.told.move_to_end(viewer_id)
                if len(self.told) > VIEWERS_TOLD:
                    self.told.popitem(last=False)
            return deck
        raise ShardUnavailable("a card shard forgot the seen people while it was told them")

    def _write(self, *decks: tuple[str, bytes], reads_first: bool = False) -> Kept:
        """Writes decks in the replica's next round trip; a cursor may name them only once that is done.

        ``reads_first``: the first reply is what stood in place of the first deck.
        """
        commands: list[Command] = [("SET", key, deck, "EX", DECK_TTL_S) for key, deck in decks]
        if reads_first:
            commands[0] = (*commands[0], "GET")
        kept = self.reads.raw(*commands)
        kept.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever failed meanwhile awaits it not
        return kept
