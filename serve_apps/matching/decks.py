"""Decks: 50 candidates chosen once, kept for 300 seconds, so that pages and retries show the same cards.

``deck:{u}:<filters>`` holds the present deck; ``deck:{u}:<deck id>`` those that a cursor may still name: the decks that
follow it while paging, and the one before it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import redis.asyncio
from redis.exceptions import RedisError

from actors.cards.client import CardsClient
from actors.cards.commands import DECK_SIZE, Deck, DeckEntry, DeckQuery, SeenUnknown
from actors.swipes.client import SwipesClient
from configs.contracts.errors import DependencyUnavailable, ShardUnavailable
from configs.contracts.ids import key64
from configs.contracts.ranking import Assignment
from configs.contracts.read_model import DECK_TTL_S, deck_key
from recommender.exploration import Exploration, explored, seed_of
from serve_apps.pages import Seals
from serve_apps.problems import Refused

SHOWN_KEYS: Final = 2_000
"""People left out of the decks that follow one another while paging; past it the list ends."""
VIEWERS_TOLD: Final = 4_096
"""Viewers with many seen people of whom a replica remembers what the card actors were told."""
ID_BYTES: Final = 8
BELOW_A_PLACE: Final = 5
BELOW: Final = BELOW_A_PLACE * DECK_SIZE // 5
"""People looked at below the deck when every fifth place may be given to one of them."""
USE: Final = b"deck"


class StoredDeck(msgspec.Struct, frozen=True, array_like=True):
    """A deck as it is cached; the three lists have one order, best first.

    ``viewer_version``: the viewer's ``match_version`` it was made for. ``full``: there may be more people behind it.
    ``shown``: ``key64`` (little-endian uint64) of people in the decks before it. ``beyond_km``: ``Deck.beyond_km``.
    ``configuration``: of the shards that ranked it. ``features``: (n, names) little-endian float32, of sampled decks.
    """

    deck_id: str
    viewer_version: str
    model_version: str
    full: bool
    user_ids: list[str]
    distances_km: list[float]
    versions: list[str]
    shown: bytes = b""
    beyond_km: float | None = None
    configuration: int = 0
    experiment: str = ""
    arm: str = ""
    decided_at_us: int = 0
    scores: list[float] = []
    propensities: list[float] = []
    feature_names: tuple[str, ...] = ()
    features: bytes = b""

    def follows(self, assignment: Assignment) -> bool:
        """Whether a deck made now would be ranked by the same rules, as far as this replica has heard."""
        return self.configuration > assignment.configuration or (
            self.configuration == assignment.configuration and self.arm == assignment.arm
        )

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
    whole = len(deck.scores) == len(deck.propensities) == len(deck.user_ids)  # another release knew neither
    return deck if whole and deck.viewer_version == viewer_version else None


def following_id(deck_id: str) -> str:
    """The id of the deck after this one: the same on every retry."""
    return hashlib.blake2b(deck_id.encode(), digest_size=ID_BYTES, person=b"next-deck").hexdigest()


def sampled(deck_id: str, ratio: float) -> bool:
    """Whether the deck is of the sample whose feature values are kept. Deck ids are random or hashed."""
    return int(deck_id, 16) < ratio * (1 << 8 * ID_BYTES)


def arranged(found: Deck, viewer_id: str, deck_id: str, exploration: float) -> tuple[list[DeckEntry], list[float], bytes]:
    """(cards, propensities, feature rows) of a deck in the order in which it is shown.

    Whoever gives a place to somebody from further below comes in the decks that follow.
    """
    entries = found.entries
    if not exploration or len(entries) <= DECK_SIZE:
        return entries[:DECK_SIZE], [1.0] * min(len(entries), DECK_SIZE), found.features
    scores = np.array([entry.score for entry in entries], np.float32)
    shown = explored(
        np.arange(len(entries)), scores, DECK_SIZE, Exploration(rate=exploration, pool=BELOW_A_PLACE),
        seed_of(viewer_id.encode(), deck_id.encode()),
    )
    ranks = shown.ranks.tolist()
    width = 4 * len(found.feature_names)
    features = b"".join(found.features[width * rank : width * (rank + 1)] for rank in ranks)
    return [entries[rank] for rank in ranks], shown.propensities.tolist(), features


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

    redis: redis.asyncio.Redis
    swipes: SwipesClient
    cards: CardsClient
    feature_sample_ratio: float = 0.0
    told: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """The state of each viewer's seen people that the card actors were told last."""

    async def fresh(
        self, wish: DeckQuery | None, viewer_id: str, filters: str, viewer_version: str, *, replaces: bytes | None,
        assignment: Assignment,
    ) -> StoredDeck:
        """A new present deck. ``replaces``: the cached one, kept for cursors that name it.

        Raises DependencyUnavailable: the shards or Redis do not answer.
        """
        deck = await self._made(secrets.token_hex(ID_BYTES), wish, viewer_version, b"", assignment)
        kept = {deck_key(viewer_id, filters): deck}
        old = None if replaces is None else read_deck(replaces, viewer_version)
        if old is not None:
            kept[deck_key(viewer_id, old.deck_id)] = old
        await self._keep(kept)
        return deck

    async def after(
        self, parent: StoredDeck, wish: DeckQuery | None, viewer_id: str, assignment: Assignment
    ) -> tuple[StoredDeck, bool]:
        """The deck behind a full one, without anybody in the decks before it, and whether it was made just now.

        It is made once, whoever asks again; the people of one made before may have been swiped since.
        """
        deck_id = following_id(parent.deck_id)
        try:
            value: bytes | None = await self.redis.get(deck_key(viewer_id, deck_id))  # type: ignore[assignment]
            known = read_deck(value, parent.viewer_version)
        except (TimeoutError, RedisError, OSError) as error:
            raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
        if known is not None:
            return known, False
        shown = parent.shown + b"".join(key64(user_id).to_bytes(8, "little") for user_id in parent.user_ids)
        if len(shown) > 8 * SHOWN_KEYS:
            wish = None
        deck = await self._made(deck_id, wish, parent.viewer_version, shown, assignment)
        await self._keep({deck_key(viewer_id, deck_id): deck})
        return deck, True

    async def _made(
        self, deck_id: str, wish: DeckQuery | None, viewer_version: str, shown: bytes, assignment: Assignment
    ) -> StoredDeck:
        if wish is None:
            return StoredDeck(
                deck_id, viewer_version, "", full=False, user_ids=[], distances_km=[], versions=[],
                configuration=assignment.configuration, arm=assignment.arm,
            )
        found = await self.found(msgspec.structs.replace(
            wish, shown=np.sort(np.frombuffer(shown, "<u8")).tobytes(), model_version=assignment.version,
            with_features=sampled(deck_id, self.feature_sample_ratio),
            size=DECK_SIZE + (BELOW if assignment.exploration else 0),
        ))
        entries, propensities, features = arranged(found, wish.viewer_id, deck_id, assignment.exploration)
        return StoredDeck(
            deck_id, viewer_version, found.model_version, full=len(entries) >= DECK_SIZE,
            user_ids=[entry.user_id for entry in entries],
            distances_km=[entry.distance_km for entry in entries],
            versions=[entry.match_version for entry in entries],
            shown=shown,
            beyond_km=found.beyond_km,
            configuration=found.configuration,
            experiment=assignment.experiment,
            arm=assignment.arm,
            decided_at_us=found.decided_at_us,
            scores=[entry.score for entry in entries],
            propensities=propensities,
            feature_names=found.feature_names,
            features=features,
        )

    async def found(self, query: DeckQuery) -> Deck:
        """The shards' deck without whom the viewer has seen. Of many seen people only the changes travel, unless a card
        actor does not keep the others."""
        viewer_id = query.viewer_id
        for since in (self.told.get(viewer_id, 0), 0):
            seen = await self.swipes.seen_set(viewer_id, since)
            try:
                deck = await self.cards.deck(msgspec.structs.replace(
                    query, seen=seen.keys, seen_gone=seen.gone, seen_token=seen.token, seen_base=seen.base
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

    async def _keep(self, decks: dict[str, StoredDeck]) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for key, deck in decks.items():
            pipeline.set(key, _ENCODER.encode(deck), ex=DECK_TTL_S)
        try:
            await pipeline.execute()
        except (TimeoutError, RedisError, OSError) as error:
            raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
