"""The best people for a viewer out of everybody. Synchronous, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.cards.areas import Areas
from actors.cards.columns import CandidateColumns, Column, OneViewer, RepeatedColumns, ViewerColumns
from actors.cards.commands import ONLINE_RECENTLY_S, DeckQuery, Nearest, NearestQuery, Shortlist
from actors.cards.everybody import ELSEWHERE, Everybody, id_number, slot_of
from actors.cards.identities import UNKNOWN
from actors.cards.narrowing import Narrowing
from actors.cards.ranked import Asked, Best, Crowd, ranked
from actors.cards.repeating import Answers
from actors.cards.seen import SeenSets, Sorted
from configs.contracts.errors import PlatformError
from configs.contracts.people import MAXIMUM_DISTANCE_KM, snap
from recommender import features, waiting
from recommender.candidates import Viewer
from recommender.features import FEATURES, Pairs
from recommender.people_table import PeopleTable
from recommender.ranking import Floats, Ids, Ranker

__all__ = ["SCORED", "Cards", "feature_rows", "slot_of"]

SCORED: Final = 4_000
"""People scored for one deck at most, others are left out by a cheap first stage (``settings.ranking.scored``)."""
SPARE: Final = 64
"""Ranked people past the number asked for, so that mostly nobody has to be ranked again without those seen."""
UNSEEN_LEAST: Final = 0.5
"""Share of the ranked people not seen below which too few of those scored are new: a quarter of them still keeps the top
(measured: 500 of 2,000), and the best ranked are seen first."""
CELLS_A_STEP: Final = 64
CELLS_SNAPPED: Final = 16_384
"""Viewers' positions, which are centres of cells already, that need not be snapped again: 2 MB."""
HASH_SHIFT: Final = np.uint64(40)
HASH_MASK: Final = np.uint64(0xFFFF)
"""Sixteen random bits of a ``key64``: of 4,000 people 12 are taken for one of 200 by them."""
LOOKED_UP: Final = 512
"""People up to whom looking everybody up among the viewer's likers is as quick as a table of hashes first."""


STAGES: Final = ("filter", "narrow", "rank", "answer")
"""Of a deck: who is eligible, who is worth scoring, who is best, and putting it together."""


class Cards(Everybody):
    """Answers from everybody: shortlists by rankers, and the nearest people."""

    def __init__(self, ranker: Ranker, slot: int = 0, actors: int = 1, scored: int = SCORED) -> None:
        super().__init__(slot, actors)
        self.ranker = ranker
        self.models: Mapping[str, Ranker] = {}
        """Rankers that a query may name, beside the default one."""
        self.configuration = 0
        """Number of the ranking configuration in force."""
        self.seen = SeenSets()
        self._areas = Areas(self._blocks, self.nearby)
        self._answers = Answers(self._blocks, self.nearby)
        self._narrowing = Narrowing(scored)
        self._marks = np.zeros(int(HASH_MASK) + 1, dtype=np.bool_)
        """By hash of a key, all false between two queries."""
        self._queries = 0
        self._spent = dict.fromkeys(STAGES, 0.0)

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {
            "entries": len(self._ids),
            "answerable": int(self._blocks.counts.sum() - self._blocks.counts[ELSEWHERE]),
            "cells": len(self._groups) - 1,
            "column_bytes": self.nbytes,
            "seen_bytes": self.seen.nbytes,
            "area_bytes": self._areas.nbytes,
            "model_version": self.ranker.version,
            "narrowing": self._narrowing.describe(),
            "queries": self._queries,
            "repeated": self._answers.repeated,
            "stage_seconds": dict(self._spent),
        }

    def use(self, table: PeopleTable) -> None:
        """From now on history, prices and vectors are read from this table."""
        super().use(table)
        self._narrowing.forget()

    def shortlist(self, query: DeckQuery, now: datetime) -> Shortlist:
        """The best ``query.size`` people whom both sides' preferences accept and the viewer has not seen.

        Raises PositionInvalid: the viewer's coordinates are not a place. SeenUnknown: see ``SeenSets.of``.
        """
        (answer,) = self.shortlists([query], now)
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    def shortlists(self, queries: Sequence[DeckQuery], now: datetime) -> list[Shortlist | PlatformError]:
        """``shortlist`` of each query; those of one ranker are scored in one pass, which costs little more than one alone."""
        found: list[Asked | Shortlist | PlatformError] = []
        for query in queries:
            try:
                found.append(self._asked(query, now))
            except PlatformError as error:
                found.append(error)
        best = self._best([one for one in found if isinstance(one, Asked)], now)
        return [self._answered(one, next(best), now) if isinstance(one, Asked) else one for one in found]

    def _asked(self, query: DeckQuery, now: datetime) -> Asked | Shortlist:
        """Who may be in a deck and is worth scoring, or what was answered before."""
        began = perf_counter()
        ranker = self._ranker_of(query)
        known = self._answers.known(query, now, (ranker, self._table), self.configuration)
        if known is not None:
            self._account(perf_counter() - began, 0.0, 0.0, 0.0)
            return known
        excluded = (self.seen.of(query), Sorted(np.frombuffer(query.shown, dtype="<u8")))
        viewer = self._ids.find(id_number(query.viewer_id))

        def unseen(rows: Ids) -> NDArray[np.bool_]:
            people = self._blocks.people[rows]
            keys = self._ids.low[people]
            kept: NDArray[np.bool_] = people != viewer
            for keys_excluded in excluded:
                if keys_excluded.size:
                    kept &= keys_excluded.lacks(keys)
            return kept

        rows, distances = self.eligible(query, now)
        everybody = Crowd(rows, distances, self._waiting(query, rows))
        filtered = perf_counter()
        crowd = self._narrowed(query, ranker, everybody, now)
        return Asked(query, ranker, unseen, everybody, crowd, (filtered - began, perf_counter() - filtered))

    def _best(self, asked: Sequence[Asked], now: datetime) -> Iterator[Best]:
        """The best ranked of each, ``SPARE`` more than are asked for, and how long that took."""
        scored: dict[int, Floats] = {}
        took: dict[int, float] = {}
        by_ranker: dict[int, list[int]] = {}
        for place, one in enumerate(asked):
            by_ranker.setdefault(id(one.ranker), []).append(place)
        for places in by_ranker.values():
            began = perf_counter()
            together = [asked[place] for place in places]
            ends = np.cumsum([one.crowd.rows.size for one in together])
            values = self._features_of([(one.query, one.crowd) for one in together], now, together[0].ranker.features)
            scores = np.broadcast_to(together[0].ranker.score(values), (int(ends[-1]),))
            scored |= zip(places, np.split(scores, ends[:-1]), strict=True)
            took |= dict.fromkeys(places, (perf_counter() - began) / len(places))
        for place, one in enumerate(asked):
            began = perf_counter()
            found = ranked(scored[place], one.crowd.waiting, one.query.waiting_boost, one.query.size + SPARE)
            yield Best(*found, took[place] + perf_counter() - began)

    def _answered(self, asked: Asked, found: Best, now: datetime) -> Shortlist:
        """The deck, without whom the viewer has seen."""
        began = perf_counter()
        query, ranker, unseen, everybody, crowd, seconds = asked
        places, scores, waits, took = found
        rows = everybody.rows
        chosen = unseen(crowd.rows[places]).nonzero()[0]
        narrowed = crowd.rows.size < rows.size
        left_out = places.size < crowd.rows.size or narrowed
        # Who likes the viewer is ranked beside the others.
        others = places.size if waits is None else places.size - int(waits.sum())
        new = chosen.size if waits is None else chosen.size - int(waits[chosen].sum())
        if left_out and (new < query.size or (narrowed and new < UNSEEN_LEAST * others)):
            # Those seen have taken the places of others: they are taken out first.
            crowd = self._narrowed(query, ranker, everybody.only(np.flatnonzero(unseen(rows))), now)
            all_scores = np.broadcast_to(ranker.score(self._features_of([(query, crowd)], now, ranker.features)), crowd.rows.shape)
            places, scores, waits = ranked(all_scores, crowd.waiting, query.waiting_boost, query.size)
            chosen = np.arange(places.size)
        ranked_at = perf_counter()
        if waits is not None:
            chosen = chosen[waiting.mixed(waits[chosen])]
        chosen = chosen[: query.size]
        taken = crowd.only(places[chosen])
        people = self._blocks.people[taken.rows]
        beyond = None
        if chosen.size < query.size and query.widest_km > query.max_distance_km:
            beyond = self._beyond(query, unseen, now)
        ids = np.empty((people.size, 2), dtype=">u8")
        ids[:, 0], ids[:, 1] = self._ids.high[people], self._ids.low[people]
        made = Shortlist(
            ids.tobytes(),
            taken.distances.astype("<f4").tobytes(),
            scores[chosen].astype("<f4").tobytes(),
            self._versions[people].astype("<u8").tobytes(),
            self._match_versions[people].astype("<u8").tobytes(),
            ranker.version,
            beyond,
            self.configuration,
            int(now.timestamp() * 1e6),
            *self._values(query, taken, now),
            b"" if taken.waiting is None else taken.waiting.tobytes(),
        )
        self._account(*seconds, took + ranked_at - began, perf_counter() - ranked_at)
        self._answers.keep(query, now, (ranker, self._table), _snapped(query.latitude, query.longitude), people, made)
        return made

    def _account(self, *seconds: float) -> None:
        """Adds what each stage of one deck took."""
        self._queries += 1
        for stage, spent in zip(STAGES, seconds, strict=True):
            self._spent[stage] += spent

    def _ranker_of(self, query: DeckQuery) -> Ranker:
        return self.models.get(query.model_version, self.ranker)

    def _waiting(self, query: DeckQuery, rows: Ids) -> NDArray[np.bool_] | None:
        """Which of these rows hold people who like the viewer; None: nobody."""
        if not query.waiting or not query.waiting_boost:
            return None
        keys = np.sort(np.frombuffer(query.waiting, dtype="<u8"))
        low = self._ids.low[self._blocks.people[rows]]
        if rows.size <= LOOKED_UP:
            found = ~Sorted(keys).lacks(low)
            return found if found.any() else None
        hashes = keys >> HASH_SHIFT & HASH_MASK
        self._marks[hashes] = True
        places = np.flatnonzero(self._marks[low >> HASH_SHIFT & HASH_MASK])
        self._marks[hashes] = False
        places = places[~Sorted(keys).lacks(low[places])]
        if not places.size:
            return None
        found = np.zeros(rows.size, dtype=np.bool_)
        found[places] = True
        return found

    def _narrowed(self, query: DeckQuery, ranker: Ranker, crowd: Crowd, now: datetime) -> Crowd:
        """Those worth scoring, and whose like waits."""
        rows, distances, waits = crowd
        if rows.size <= self._narrowing.scored:
            return crowd
        places = self._narrowing.chosen(
            ranker, rows.size, lambda names: self.features(query, rows, distances, now, names)
        )
        if waits is not None:
            kept = waits.copy()
            kept[places] = True
            places = np.flatnonzero(kept)
        return crowd.only(places)

    def _values(self, query: DeckQuery, crowd: Crowd, now: datetime) -> tuple[tuple[str, ...], bytes]:
        """The values that the ranker has read, and whether a like waits, of some people: (names, (n, names) float32 row
        by row); if asked for."""
        if not query.with_features:
            return (), b""
        values = self.features(query, crowd.rows, crowd.distances, now, self._ranker_of(query).features)
        values[waiting.TERM] = np.asarray(0 if crowd.waiting is None else crowd.waiting, np.float32)
        return feature_rows(values, crowd.rows.size)

    def _beyond(self, query: DeckQuery, unseen: Callable[[Ids], NDArray[np.bool_]], now: datetime) -> float | None:
        """How far away the nearest person past the query's radius is who fits and is not seen."""
        wider = msgspec.structs.replace(query, max_distance_km=query.widest_km)
        rows, distances = self.eligible(wider, now)
        farther = np.flatnonzero(distances > query.max_distance_km)
        farther = farther[unseen(rows[farther])]
        return float(distances[farther].min()) if farther.size else None

    def nearest(self, query: NearestQuery) -> Nearest:
        """The ``query.count`` people nearest to the centre of the point's cell, at most ``query.radius_km`` away.

        Everybody of a cell is at one distance, so cells are taken whole in order of distance until they hold enough;
        of the last cell any of its people. Raises PositionInvalid.
        """
        latitude, longitude, _ = snap(query.latitude, query.longitude)
        blocks = self._blocks
        groups, distances = self.nearby.within(latitude, longitude, min(query.radius_km, MAXIMUM_DISTANCE_KM))
        end, total = 0, 0
        while total < query.count and end < groups.size:
            step = groups[end : end + CELLS_A_STEP]
            reached = total + np.cumsum(blocks.counts[step])
            enough = int(np.searchsorted(reached, query.count)) + 1
            end, total = end + min(enough, step.size), int(reached[min(enough, step.size) - 1])
        counts = blocks.counts[groups[:end]]
        ends = np.cumsum(counts)
        rows = np.repeat(blocks.starts[groups[:end]] - (ends - counts), counts) + np.arange(total)
        people = blocks.people[rows[: query.count]]
        ids = np.empty((people.size, 2), dtype=">u8")
        ids[:, 0], ids[:, 1] = self._ids.high[people], self._ids.low[people]
        return Nearest(ids.tobytes(), np.repeat(distances[:end], counts)[: query.count].astype("<f4").tobytes())

    def eligible(self, query: DeckQuery, now: datetime) -> tuple[Ids, NDArray[np.float64]]:
        """(rows, distances in km) of everybody within the radius whom both sides accept, the viewer included."""
        latitude, longitude = _snapped(query.latitude, query.longitude)
        viewer = Viewer(
            date.fromisoformat(query.birth_date), query.role, query.gender, query.age_min, query.age_max,
            query.roles, query.genders, query.verified_only,
        )
        people, distances = self._areas.accepted(
            latitude, longitude, min(query.max_distance_km, MAXIMUM_DISTANCE_KM), viewer, viewer.thresholds(now.date())
        )
        blocks = self._blocks
        rows = blocks.row_of[people]
        if query.online_recently:
            recent = blocks.active_s[rows] >= int(now.timestamp()) - ONLINE_RECENTLY_S
            rows, distances = rows[recent], distances[recent]
        return rows, distances

    def features(
        self, query: DeckQuery, rows: Ids, distances: NDArray[np.float64], now: datetime,
        names: Iterable[str] | None = None,
    ) -> dict[str, Floats]:
        """The named features, or those that the default ranker reads, for the people in these rows, in their order."""
        return self._features_of([(query, Crowd(rows, distances, None))], now, self.ranker.features if names is None else names)

    def _features_of(self, asked: Sequence[tuple[DeckQuery, Crowd]], now: datetime, names: Iterable[str]) -> dict[str, Floats]:
        """The named features of several queries' people, one after another."""
        table, now_s = self._table, now.timestamp()
        queries = [query for query, _ in asked]
        each = ViewerColumns(queries, now_s, table, [self._place_in_table(query.viewer_id) for query in queries])
        if len(asked) == 1:
            _, (rows, distances, _) = asked[0]
            return features.compute(names, self._pairs(OneViewer(each), rows, distances, now_s))
        sizes = [crowd.rows.size for _, crowd in asked]
        rows = np.concatenate([crowd.rows for _, crowd in asked])
        distances = np.concatenate([crowd.distances for _, crowd in asked])
        # What is the viewer's alone is computed once a viewer, not once a candidate.
        own: list[str] = []
        others: list[str] = []
        for name in names:
            (own if FEATURES[name].of_viewer else others).append(name)
        found = features.compute(others, self._pairs(RepeatedColumns(each, sizes), rows, distances, now_s))
        of_viewers = features.compute(own, Pairs(each, {}, np.zeros(()), now_s, table.priors))
        found |= {name: np.repeat(np.broadcast_to(values, len(sizes)), sizes) for name, values in of_viewers.items()}
        return found

    def _place_in_table(self, user_id: str) -> int:
        number = id_number(user_id)
        person = self._ids.find(number)
        return self._table.place(number) if person == UNKNOWN else self._table_places.item(person)

    def _pairs(
        self, viewer: Mapping[str, Column], rows: Ids, distances: NDArray[np.float64], now_s: float
    ) -> Pairs:
        """The viewer's or viewers' columns beside those of the people in these rows."""
        table = self._table
        candidates = CandidateColumns(self._blocks, rows, table, lambda: self._table_places[self._blocks.people[rows]])
        return Pairs(viewer, candidates, distances, now_s, table.priors)


@lru_cache(maxsize=CELLS_SNAPPED)
def _snapped(latitude: float, longitude: float) -> tuple[float, float]:
    """``snap`` without the name of the cell. Raises PositionInvalid."""
    return snap(latitude, longitude)[:2]


def feature_rows(values: Mapping[str, Floats], count: int) -> tuple[tuple[str, ...], bytes]:
    """(names, values) of ``count`` candidates: (count, names) little-endian float32, row by row."""
    table = np.empty((count, len(values)), dtype="<f4")
    for column, value in enumerate(values.values()):
        table[:, column] = value
    return tuple(values), table.tobytes()
