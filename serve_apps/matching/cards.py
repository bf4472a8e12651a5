"""The cards route: a page of a deck, every card checked again when it is served."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from actors.cards.commands import DeckQuery
from actors.impressions.commands import Shown
from cluster.connections.reading import Command
from configs.contracts.events import CardsServed, Role
from configs.contracts.ids import key64, new_id
from configs.contracts.people import Bucket, shown_distance_km
from configs.contracts.ranking import Assignment, assigned
from configs.contracts.read_model import RANKING, UserRecord, deck_key, read_ranking, read_record, record_key
from serve_apps.dependencies import Dependencies
from serve_apps.hot import HotRequest, HotRoute, query_values, refused
from serve_apps.matching.decks import Bookmark, StoredDeck, cursor_of, following_id, read_cursor, read_deck
from serve_apps.matching.filters import NO_FILTERS, CardsQuery, fitting_distance_km, narrowed, next_distance_km
from serve_apps.matching.impressions import Impressions
from serve_apps.problems import SIGNED_IN, Refused
from serve_apps.views import Moment

DECKS_A_REQUEST: Final = 3
"""Decks one request looks through at most when most of their cards are no longer valid."""


class Card(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A person to swipe. ``distanceKm``: whole kilometres between grid cells, at least 2; null when hidden."""

    user_id: str
    display_name: str
    age: int
    bio: str
    avatar_url: str | None
    role: Role
    distance_km: int | None
    verified: bool
    last_active_bucket: Bucket
    impression_id: str


class Cards(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Best first. ``nextCursor`` names the next page for 300 seconds.

    ``exhausted``: nobody is left within the radius. ``nextMaxDistanceKm``: the next radius worth asking for, within the
    person's own limit; absent when the limit is reached.
    """

    cards: list[Card]
    next_cursor: str | None = None
    exhausted: bool = False
    next_max_distance_km: int | None = None


_ENCODER: Final = msgspec.json.Encoder()


@dataclass(slots=True)
class _Page:
    """A page in the making."""

    dependencies: Dependencies
    viewer: UserRecord
    wish: DeckQuery | None
    query: CardsQuery
    moment: Moment
    assignment: Assignment
    response_id: str = field(default_factory=new_id)
    cards: list[Card] = field(default_factory=list)
    shown: list[tuple[StoredDeck, int]] = field(default_factory=list)
    """Where each card stands: its deck and its place there."""

    def takes(self, deck: StoredDeck) -> bool:
        """Whether cards of the deck may stand on this page: one response has one model."""
        return not self.shown or self.shown[0][0].ranked_as(deck)

    async def fill(self, deck: StoredDeck, offset: int, *, just_made: bool) -> int:
        """Adds the deck's valid cards from ``offset`` until the page is full; the place where it stopped."""
        impressions = Impressions(
            self.dependencies.seals, self.viewer.user_id, deck.model_version, self.response_id
        )
        while len(self.cards) < self.query.limit and offset < len(deck.user_ids):
            end = min(offset + self.query.limit - len(self.cards), len(deck.user_ids))
            user_ids = deck.user_ids[offset:end]
            people = self.dependencies.people
            asked = people.ask_unblocked(self.viewer.user_id, user_ids)
            seen = [False] * len(user_ids)
            if not just_made:
                try:
                    seen = await self.dependencies.swipes.seen(self.viewer.user_id, list(map(key64, user_ids)))
                except BaseException:
                    asked.add_done_callback(lambda future: future.cancelled() or future.exception())
                    raise
            valid = await people.answered(self.viewer.user_id, user_ids, asked)
            for place, user_id, known in zip(range(offset, end), user_ids, seen, strict=True):
                record = valid.get(user_id)
                if record is None or known or not record.discoverable:
                    continue
                card = self._card(record, deck, place, impressions)
                if card is not None:
                    self.cards.append(card)
                    self.shown.append((deck, place))
            offset = end
        return offset

    def note(self) -> None:
        """Tells what was served, behind the response's back."""
        if not self.cards:
            return
        deck = self.shown[0][0]
        whole = bool(deck.feature_names) and all(other is deck for other, _ in self.shown)
        width = 4 * len(deck.feature_names)
        values = b"".join(deck.features[width * place : width * (place + 1)] for _, place in self.shown) if whole else b""
        self.dependencies.served.note(Shown(
            self.response_id, int(self.moment.at.timestamp() * 1e6),
            CardsServed(
                viewer_id=self.viewer.user_id,
                configuration=deck.configuration,
                model_version=deck.model_version,
                experiment=deck.experiment or None,
                arm=deck.arm or None,
                decided_at=datetime.fromtimestamp(deck.decided_at_us / 1e6, UTC),
                candidate_ids=tuple(card.user_id for card in self.cards),
                positions=tuple(place for _, place in self.shown),
                scores=tuple(other.scores[place] for other, place in self.shown),
                propensities=tuple(other.propensities[place] for other, place in self.shown),
                feature_names=deck.feature_names if whole else (),
                feature_values=tuple(np.frombuffer(values, "<f4").tolist()),
            ),
        ))

    def _card(self, record: UserRecord, deck: StoredDeck, place: int, impressions: Impressions) -> Card | None:
        distance: float | None = deck.distances_km[place]
        if record.match_version != deck.versions[place]:
            distance = None
            if self.wish is not None:
                distance = fitting_distance_km(self.viewer, self.wish, record, self.moment)
        if distance is None or record.role is None:
            return None
        return Card(
            record.user_id,
            record.display_name,
            self.moment.age(record),
            record.bio,
            None,
            record.role,
            None if record.hide_distance else shown_distance_km(distance),
            record.verified,
            self.moment.bucket(record.last_active_at),
            impressions.of(record.user_id, place),
        )


async def cards(dependencies: Dependencies, request: HotRequest) -> bytes:
    """People near the viewer whom both sides' preferences accept, best first."""
    query = NO_FILTERS
    if request.query:
        try:
            query = msgspec.convert(query_values(request.query), CardsQuery, strict=False)
        except msgspec.ValidationError as error:
            raise refused(error, "query") from error
    viewer_id = request.person.user_id
    filters = query.filters
    mark = None if query.cursor is None else read_cursor(dependencies.seals, query.cursor, viewer_id, filters)
    commands: list[Command] = [
        ("GET", record_key(viewer_id)), ("GET", deck_key(viewer_id, filters)), ("GET", RANKING),
    ]
    if mark is not None:
        commands += [("GET", deck_key(viewer_id, mark.deck_id)), ("GET", deck_key(viewer_id, mark.parent_id))]
    value, present, ranking, *named = await dependencies.reads.read(*commands)
    viewer = await dependencies.people.own_record(viewer_id) if value is None else read_record(value)
    if viewer.role is None:
        viewer = await dependencies.people.own_record(viewer_id)
    if viewer.latitude is None or viewer.longitude is None:
        raise Refused("location_required")
    moment = Moment.now()
    assignment = assigned(read_ranking(ranking), viewer_id, viewer.cell, moment.at.timestamp())
    page = _Page(dependencies, viewer, narrowed(viewer, query), query, moment, assignment)
    following, last = await _through_decks(page, filters, mark, present, named)
    page.note()
    # A list that ended at its bound (``decks.SHOWN_KEYS``) names no model: there may be more, asked for anew.
    exhausted = following is None and (page.wish is None or last.model_version != "")
    wider = next_distance_km(page.wish, last.beyond_km) if exhausted else None
    return _ENCODER.encode(Cards(page.cards, following, exhausted, wider))


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
                deck, just_made = await decks.after(before, page.wish, viewer.user_id, page.assignment)
    if deck is None:
        replaced = None if current is None else present
        deck, just_made = await decks.fresh(
            page.wish, viewer.user_id, filters, viewer.match_version, replaces=replaced, assignment=page.assignment
        ), True
    for left in reversed(range(DECKS_A_REQUEST)):
        offset = await page.fill(deck, offset, just_made=just_made)
        if len(page.cards) == page.query.limit or not deck.full or not left:
            break
        if not page.cards and mark is None and not just_made:
            deck = await decks.fresh(
                page.wish, viewer.user_id, filters, viewer.match_version, replaces=present, assignment=page.assignment
            )
            just_made = True
        else:
            deck, just_made = await decks.after(deck, page.wish, viewer.user_id, page.assignment)
        offset = 0
        if not page.takes(deck):
            break
    if offset < len(deck.user_ids):
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
