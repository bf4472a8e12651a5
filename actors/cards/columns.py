"""What the shard knows of viewer and candidates, as the columns from which ``recommender.features`` computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.cards.blocks import Blocks
from actors.cards.commands import DeckQuery
from configs.contracts.people import GENDER_CODES, ROLE_CODES
from recommender import candidates
from recommender.people_table import NOBODY, PeopleTable

Column = NDArray[Any]

class CandidateColumns(Mapping[str, Column]):
    """Columns of the people in some rows: profile facts from the blocks, the rest from the people table.

    Unpacked when first read, then kept.
    """

    def __init__(self, blocks: Blocks, rows: NDArray[np.int64], table: PeopleTable, places: Callable[[], Any]) -> None:
        self.blocks, self.rows = blocks, rows
        self._table, self._places = table, places
        self._read: dict[str, Column] = {}

    @cached_property
    def words(self) -> NDArray[np.uint64]:
        return self.blocks.words[self.rows]

    @cached_property
    def flags(self) -> NDArray[np.uint16]:
        return self.blocks.flags[self.rows]

    def __getitem__(self, name: str) -> Column:
        column = self._read.get(name)
        if column is None:
            unpack = _PROFILE.get(name)
            column = self._read[name] = unpack(self) if unpack else self._from_table(name)
        return column

    def _from_table(self, name: str) -> Column:
        values = self._table.columns[name]
        return np.asarray(values[self._places() if len(self._table) else NOBODY])

    def __iter__(self) -> Iterator[str]:
        return iter({**_PROFILE, **self._table.columns})

    def __len__(self) -> int:
        return len({**_PROFILE, **self._table.columns})


class ViewerColumns(Mapping[str, Column]):
    """Columns of those who ask k queries, (k,) or (k, n) each. Whoever asks is active now.

    ``places``: (k,), theirs in the people table. Made when first read, then kept.
    """

    def __init__(self, queries: Sequence[DeckQuery], now_s: float, table: PeopleTable, places: Sequence[int]) -> None:
        self._queries, self._now_s = queries, now_s
        self._table, self._places = table, places
        self._read: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        column = self._read.get(name)
        if column is None:
            column = self._read[name] = self._made(name)
        return column

    def _made(self, name: str) -> Column:
        told = _TOLD.get(name)
        if told:
            return np.array([told(query) for query in self._queries])
        return np.full(len(self._queries), self._now_s) if name == "active_s" else self._table.columns[name][self._places]

    def __iter__(self) -> Iterator[str]:
        return iter({**_PROFILE, **self._table.columns})

    def __len__(self) -> int:
        return len({**_PROFILE, **self._table.columns})


class OneViewer(Mapping[str, Column]):
    """Columns of the only one who asks, () or (n,) each."""

    def __init__(self, viewers: ViewerColumns) -> None:
        self._viewers = viewers

    def __getitem__(self, name: str) -> Column:
        return np.asarray(self._viewers[name][0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._viewers)

    def __len__(self) -> int:
        return len(self._viewers)


class RepeatedColumns(Mapping[str, Column]):
    """Columns of several viewers, each one's value so many times, one viewer after another."""

    def __init__(self, people: ViewerColumns, times: Sequence[int]) -> None:
        self._people, self._times = people, times
        self._read: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        column = self._read.get(name)
        if column is None:
            column = self._read[name] = np.repeat(self._people[name], self._times, axis=0)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._people)

    def __len__(self) -> int:
        return len(self._people)


_PROFILE: Final[Mapping[str, Callable[[CandidateColumns], Column]]] = {
    "birth_day": lambda them: candidates.birth_days_of(them.words),
    "active_s": lambda them: them.blocks.active_s[them.rows],
    "age_min": lambda them: candidates.youngest_accepted(them.words),
    "age_max": lambda them: candidates.oldest_accepted(them.words),
    "reach_km": lambda them: candidates.reaches_of(them.words),
    "role": lambda them: candidates.roles_of(them.flags),
    "gender": lambda them: candidates.genders_of(them.flags),
    "verified": lambda them: (them.flags & np.uint16(candidates.UNVERIFIED)) == 0,
}

_TOLD: Final[Mapping[str, Callable[[DeckQuery], float]]] = {
    "birth_day": lambda query: candidates.day_number(date.fromisoformat(query.birth_date)),
    "age_min": lambda query: query.age_min,
    "age_max": lambda query: query.age_max,
    "reach_km": lambda query: query.max_distance_km,
    "role": lambda query: ROLE_CODES[query.role],
    "gender": lambda query: GENDER_CODES[query.gender],
    "verified": lambda query: query.verified,
}
"""What a query says of the viewer."""
