"""The cards route: a page of a deck, every card checked again when it is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from time import time
from typing import Final, Literal

import msgspec
import numpy as np

from actors.cards.commands import DeckQuery
from actors.impressions.commands import Shown
from cluster.connections.reading import Command
from configs.contracts.events import CardsServed
from configs.contracts.ids import ids_of, new_id
from configs.contracts.people import MINIMUM_SHOWN_KM, shown_distance_km
from configs.contracts.ranking import Assignment, assigned
from configs.contracts.read_model import RANKING, UserRecord, deck_key, read_ranking, read_record, record_key
from serve_apps.dependencies import Dependencies
from serve_apps.hot import HotRequest, HotRoute, query_values, refused
from serve_apps.matching.decks import (
    RAW_ID,
    Bookmark,
    Kept,
    StoredDeck,
    cursor_of,
    following_id,
    read_cursor,
    read_deck,
)
from serve_apps.matching.faces import END, Card
from serve_apps.matching.filters import CardsQuery, fitting_distance_km, narrowed, next_distance_km
from serve_apps.matching.impressions import impression_ids
from serve_apps.people import relations_commands, unrelated
from serve_apps.problems import SIGNED_IN, Refused
from serve_apps.views import Moment

DECKS_A_REQUEST: Final = 3
"""Decks one request looks through at most when most of their cards are no longer valid."""
QUERIES_KNOWN: Final = 2_048
"""Query strings that need not be read again: most people ask with the same few; some 1 MB."""


class Cards(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Best first. ``nextCursor`` names the next page for 300 seconds.

    ``exhausted``: nobody is left within the radius. ``nextMaxDistanceKm``: the next radius worth asking for, within the
    person's own limit; absent when the limit is reached.
    """

    cards: list[Card]
    next_cursor: str | None = None
    exhausted: bool = False
    next_max_distance_km: int | None = None


class Rest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """``Cards`` without its cards, which are JSON already."""

    next_cursor: str | None = None
    exhausted: bool = False
    next_max_distance_km: int | None = None


_ENCODER: Final = msgspec.json.Encoder()


def written(cards: Sequence[bytes], rest: Rest) -> bytes:
    """``Cards`` as JSON, of cards that are JSON."""
    after = _ENCODER.encode(rest)
    return b'{"cards":[' + b",".join(cards) + (b"]," + after[1:] if len(after) > len(b"{}") else b"]}")


@dataclass(slots=True)
class _Part:
    """The cards of a page that are of one deck: where they stand there, and their JSON but for the impression ids."""

    deck: StoredDeck
    places: list[int] = field(default_factory=list)
    user_ids: list[str] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Page:
    """A page in the making."""

    dependencies: Dependencies
    viewer: UserRecord
    query: CardsQuery
    now_s: float
    assignment: Assignment
    unrelated: bool
    response_id: str = field(default_factory=new_id)
    parts: list[_Part] = field(default_factory=list)
    size: int = 0
    """Cards of all parts."""
    keeping: list[Kept] = field(default_factory=list)
    """Decks that were made for this page and must be kept before a cursor names them."""
    _wish: DeckQuery | Literal["unknown"] | None = "unknown"

    @property
    def wish(self) -> DeckQuery | None:
        """What the card shards would be asked for; None when nobody can fit."""
        if self._wish == "unknown":
            self._wish = narrowed(self.viewer, self.query)
        return self._wish

    @property
    def full(self) -> bool:
        return self.size >= self.query.limit

    def takes(self, deck: StoredDeck) -> bool:
        """Whether cards of the deck may stand on this page: one response has one model."""
        return not self.parts or self.parts[0].deck.ranked_as(deck)

    def made(self, found: tuple[StoredDeck, Kept | None]) -> tuple[StoredDeck, bool]:
        """Takes note of a deck: (the deck, whether it was made just now)."""
        deck, kept = found
        if kept is not None:
            self.keeping.append(kept)
        return deck, kept is not None

    async def fill(self, deck: StoredDeck, offset: int, *, just_made: bool) -> int:
        """Adds the deck's valid cards from ``offset`` until the page is full; the place where it stopped."""
        size = len(deck)
        viewer_id, people, faces = self.viewer.user_id, self.dependencies.people, self.dependencies.faces
        part = _Part(deck)
        while not self.full and offset < size:
            end = min(offset + self.query.limit - self.size, size)
            user_ids = ids_of(deck.ids[RAW_ID * offset : RAW_ID * end])
            asked = people.ask_values(viewer_id, user_ids, unrelated=self.unrelated)
            seen: bytes | repeat[int] = repeat(0)
            if not just_made:
                try:
                    seen = await self.dependencies.swipes.seen(viewer_id, deck.keys(offset, end))
                except BaseException:
                    asked.add_done_callback(lambda future: future.cancelled() or future.exception())
                    raise
            values = await people.values(viewer_id, user_ids, asked)
            distances = _shown_distances_km(deck.distances_km[4 * offset : 4 * end])
            versions = deck.versions
            for place, user_id, known, value, face, away_km in zip(
                range(offset, end), user_ids, seen, values, faces.all(user_ids, values, self.now_s), distances, strict=False
            ):
                if known or face is None or not face.shown:
                    continue
                away = b"%d" % away_km
                if face.match_version != versions[8 * place : 8 * place + 8]:
                    assert value is not None
                    distance = self._distance_now(value)
                    if distance is None:
                        continue
                    away = b"%d" % shown_distance_km(distance)
                part.places.append(place)
                part.user_ids.append(user_id)
                part.texts.append(face.head + (b"null" if face.hides_distance else away) + face.tail)
                self.size += 1
            offset = end
        if part.places:
            self.parts.append(part)
        return offset

    def _distance_now(self, value: bytes) -> float | None:
        """The distance to somebody who has changed since the deck was made; None: no longer a fit."""
        if self.wish is None:
            return None
        return fitting_distance_km(self.viewer, self.wish, read_record(value), Moment.about(self.now_s))

    def encoded(self, rest: Rest) -> bytes:
        """The answer as it is sent."""
        cards: list[bytes] = []
        for part in self.parts:
            named = impression_ids(
                self.dependencies.seals, self.viewer.user_id, part.deck.model_version, self.response_id,
                [(part.deck.ids[RAW_ID * place : RAW_ID * (place + 1)], place) for place in part.places],
            )
            cards += [text + impression_id + END for text, impression_id in zip(part.texts, named, strict=True)]
        return written(cards, rest)

    def note(self) -> None:
        """Tells what was served, behind the response's back."""
        if not self.parts:
            return
        parts = self.parts
        deck = parts[0].deck
        whole = bool(deck.feature_names) and len(parts) == 1
        width = 4 * len(deck.feature_names)
        values = b"".join([deck.features[width * place : width * (place + 1)] for place in parts[0].places]) if whole else b""
        self.dependencies.served.note(Shown.of(
            self.response_id, int(time() * 1e6),
            CardsServed(
                viewer_id=self.viewer.user_id,
                configuration=deck.configuration,
                model_version=deck.model_version,
                experiment=deck.experiment or None,
                arm=deck.arm or None,
                decided_at=datetime.fromtimestamp(deck.decided_at_us / 1e6, UTC),
                candidate_ids=tuple([user_id for part in parts for user_id in part.user_ids]),
                positions=tuple([place for part in parts for place in part.places]),
                scores=self._values("scores"),
                propensities=self._values("propensities"),
                feature_names=deck.feature_names if whole else (),
                feature_values=tuple(np.frombuffer(values, "<f4").tolist()),
            ),
        ))

    def _values(self, column: Literal["scores", "propensities"]) -> tuple[float, ...]:
        """The cards' values of a deck's column, 1 where the deck has none."""
        found: list[float] = []
        for part in self.parts:
            raw: bytes = getattr(part.deck, column)
            if raw:
                values = memoryview(raw).cast("f")
                found += [values[place] for place in part.places]
            else:
                found += [1.0] * len(part.places)
        return tuple(found)


def _shown_distances_km(distances_km: bytes) -> list[int]:
    """``shown_distance_km`` of little-endian float32 values."""
    found: list[int] = np.maximum(np.rint(np.frombuffer(distances_km, "<f4")), MINIMUM_SHOWN_KM).astype(np.int64).tolist()
    return found


@lru_cache(maxsize=QUERIES_KNOWN)
def _asked(query: bytes) -> tuple[CardsQuery, str]:
    """What a query string says, and its filters. Raises msgspec.ValidationError."""
    asked = msgspec.convert(query_values(query), CardsQuery, strict=False)
    return asked, asked.filters


async def cards(dependencies: Dependencies, request: HotRequest) -> bytes:
    """People near the viewer whom both sides' preferences accept, best first."""
    try:
        query, filters = _asked(request.query)
    except msgspec.ValidationError as error:
        raise refused(error, "query") from error
    viewer_id = request.person.user_id
    mark = None if query.cursor is None else read_cursor(dependencies.seals, query.cursor, viewer_id, filters)
    commands: list[Command] = [
        ("GET", record_key(viewer_id)), ("GET", deck_key(viewer_id, filters)), ("GET", RANKING),
        *relations_commands(viewer_id),
    ]
    if mark is not None:
        commands += [("GET", deck_key(viewer_id, mark.deck_id)), ("GET", deck_key(viewer_id, mark.parent_id))]
    value, present, ranking, marker, related, *named = await dependencies.reads.read(*commands)
    viewer = await dependencies.people.own_record(viewer_id) if value is None else read_record(value)
    if viewer.role is None:
        viewer = await dependencies.people.own_record(viewer_id)
    if viewer.latitude is None or viewer.longitude is None:
        raise Refused("location_required")
    now_s = time()
    assignment = assigned(read_ranking(ranking), viewer_id, viewer.cell, now_s)
    page = _Page(dependencies, viewer, query, now_s, assignment, unrelated(marker, related))
    following, last = await _through_decks(page, filters, mark, present, named)
    for kept in page.keeping:
        await kept
    page.note()
    # A list that ended at its bound (``decks.SHOWN_KEYS``) names no model: there may be more, asked for anew.
    exhausted = following is None and (page.wish is None or last.model_version != "")
    wider = next_distance_km(page.wish, last.beyond_km) if exhausted else None
    return page.encoded(Rest(following, exhausted, wider))


async def _through_decks(
    page: _Page, filters: str, mark: Bookmark | None, present: bytes | None, named: list[bytes | None]
) -> tuple[str | None, StoredDeck]:
    """Fills the page from the deck that the request names, and those behind it: the next page's cursor, the last deck."""
    viewer = page.viewer
    decks = page.dependencies.decks
    current = read_deck(present, viewer.match_version)
    # One that holds everybody there was is made anew, so that who came since is in the next answer; so is one that was
    # ranked by other rules.
    deck = current if current is not None and current.full and current.follows(page.assignment) else None
    offset = 0
    just_made = False
    if mark is not None:
        stored, parent = (read_deck(value, viewer.match_version) for value in named)
        deck = next((d for d in (current, stored) if d is not None and d.deck_id == mark.deck_id), None)
        offset = mark.offset if deck is not None else 0
        if deck is None:
            before = next((d for d in (current, parent) if d is not None and d.deck_id == mark.parent_id), None)
            if before is not None:
                deck, just_made = page.made(await decks.after(before, page.wish, viewer.user_id, page.assignment))
    if deck is None:
        deck, just_made = page.made(await decks.fresh(
            page.wish, viewer.user_id, filters, viewer.match_version, replaces=present, assignment=page.assignment
        ))
    for left in reversed(range(DECKS_A_REQUEST)):
        offset = await page.fill(deck, offset, just_made=just_made)
        if page.full or not deck.full or not left:
            break
        if not page.parts and mark is None and not just_made:
            deck, just_made = page.made(await decks.fresh(
                page.wish, viewer.user_id, filters, viewer.match_version, replaces=present, assignment=page.assignment
            ))
        else:
            deck, just_made = page.made(await decks.after(deck, page.wish, viewer.user_id, page.assignment))
        offset = 0
        if not page.takes(deck):
            break
    if offset < len(deck):
        following = Bookmark(viewer.user_id, filters, deck.deck_id, offset)
    elif deck.full:
        following = Bookmark(viewer.user_id, filters, following_id(deck.deck_id), 0, deck.deck_id)
    else:
        return None, deck
    return cursor_of(page.dependencies.seals, following), deck


CARDS: Final = HotRoute(
    method="GET", path="/matching/cards", operation_id="getCards", tag="matching",
    summary="People near you whom both sides' preferences accept, best first.", handler=cards, answer=Cards,
    query=CardsQuery, codes=(*SIGNED_IN, "location_required", "cursor_invalid"),
)
