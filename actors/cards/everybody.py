"""Everybody who may be a card, by cell, as the rows and the log tell of them. Synchronous, no I/O."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import h3
import numpy as np

from actors.cards.blocks import Blocks, grown
from actors.cards.identities import UNKNOWN, Identities, split_ids
from actors.cards.nearby import Nearby
from configs.contracts.events import (
    AgeAssessed,
    Event,
    LocationChanged,
    PreferencesChanged,
    ProfileChanged,
    StandingChanged,
    UserCreated,
    UserErased,
    WasActive,
)
from configs.contracts.loading import UNKNOWN_ROLE, PackedIds, PeopleRows
from configs.contracts.people import GENDER_CODES, ROLE_CODES, gender_mask, role_mask
from recommender import candidates
from recommender.candidates import INCOMPLETE, day_number
from recommender.people_table import EMPTY, PeopleTable
from recommender.ranking import Ids

ELSEWHERE: Final = 0
"""The group of people without a location and of those in other actors' cells: known, never answered."""
DEFAULT_AGES: Final = (18, 99)
DEFAULT_DISTANCE_KM: Final = 50
CHANGES: Final = (ProfileChanged, PreferencesChanged, LocationChanged, WasActive, AgeAssessed, StandingChanged)


def slot_of(cell: int, actors: int) -> int:
    """The card actor of a cell. The number is mixed first: the low 27 bits of all cells of one resolution are the same."""
    return (cell * 0x9E3779B97F4A7C15 >> 32) % (1 << 32) % actors


class Everybody:
    """People with what both sides' filters and the ranking need.

    Every actor knows everybody (about 100 bytes a person), because an event names only what
    changed: whoever moves into this actor's cells must be known already. Only the cells with
    ``slot_of(cell, actors) == slot`` are answered from. Someone who moved into another actor's cell stays known with
    their newest version, so a repeated older event cannot bring them back.

    Events of one person must come in the order of their topic's log; repeating any of them changes nothing.
    """

    def __init__(self, slot: int = 0, actors: int = 1) -> None:
        self._slot, self._actors = slot, actors
        self._ids = Identities()
        self._versions = np.zeros(0, dtype=np.uint64)
        self._match_versions = np.zeros(0, dtype=np.uint64)
        self._table = EMPTY
        self._table_places = np.zeros(0, dtype=np.int32)
        self._blocks = Blocks()
        self.nearby = Nearby()
        self._groups: dict[int, int] = {}
        self._group(0)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns and of the index by id, spare places included."""
        columns = (self._versions, self._match_versions, self._table_places)
        return self._blocks.nbytes + self._ids.nbytes + sum(column.nbytes for column in columns)

    def load(self, rows: PeopleRows) -> None:
        """Adds a page of people to be restored from; call before ``apply``. Whoever is known already is left alone."""
        high, low = split_ids(PackedIds.of(rows.user_ids).packed)
        fresh = np.flatnonzero(self._ids.find_many(high, low) == UNKNOWN)
        words = candidates.pack_words(rows.birth_days, rows.age_min, rows.age_max, rows.max_distance_km)
        flags = candidates.pack_many_flags(
            rows.roles, rows.genders, rows.role_masks, rows.gender_masks, unknown_role=UNKNOWN_ROLE,
            discoverable=rows.discoverable, verified=rows.verified,
        )
        active_s = np.clip(rows.last_active_s, 0, 2**32 - 1).astype(np.uint32)
        cells, which = np.unique(rows.cells, return_inverse=True)
        groups = np.array([self._group(cell) for cell in cells.tolist()], dtype=np.int64)[which]
        people = self._ids.add_many(high[fresh], low[fresh])
        self._entered(people)
        self._versions[people] = rows.versions[fresh]
        self._match_versions[people] = rows.match_versions[fresh]
        self._blocks.insert_many(people, groups[fresh], words[fresh], flags[fresh], active_s[fresh])

    @property
    def table(self) -> PeopleTable:
        """Where history, prices and vectors are read from."""
        return self._table

    def use(self, table: PeopleTable) -> None:
        """From now on history, prices and vectors are read from this table."""
        known = len(self._ids)
        places = np.zeros(self._table_places.size, dtype=np.int32)
        places[:known] = table.places(self._ids.high[:known], self._ids.low[:known])
        self._table, self._table_places = table, places

    def settle(self) -> None:
        """Writes near cells near each other, after everything was loaded."""
        self._blocks.compact()

    def apply(self, event: Event, version: int) -> None:
        """Takes in an event that is in the log. Never fails; a repeated one changes nothing.

        An event whose fields cannot be read changes nothing either: it ends among the writers' dead letters.
        """
        self.change(event.payload, version)

    def change(self, payload: Any, version: int) -> None:
        """``apply`` for a payload that came without its event."""
        try:
            if isinstance(payload, UserCreated):
                self._created(payload)
            elif isinstance(payload, UserErased):
                self._erased(self._known(payload.user_id))
            elif isinstance(payload, CHANGES):
                person = self._known(payload.user_id)
                if not isinstance(payload, WasActive):
                    self._blocks.touch(person)
                if version > self._versions[person]:
                    if self._updated(person, payload):
                        self._match_versions[person] = version
                    self._versions[person] = version
        except (ValueError, KeyError, OverflowError):
            return

    def _created(self, payload: UserCreated) -> None:
        birth_day, role = day_number(date.fromisoformat(payload.birth_date)), ROLE_CODES[payload.role]
        person = self._known(payload.user_id)
        self._blocks.touch(person)
        blocks, row = self._blocks, self._blocks.row_of[person]
        flags = int(blocks.flags[row])
        if flags & INCOMPLETE:
            _, *preferences = candidates.unpack_word(int(blocks.words[row]))
            blocks.words[row] = candidates.pack_word(birth_day, *preferences)
            blocks.flags[row] = candidates.with_role(flags, role)

    def _erased(self, person: int) -> None:
        """Forgets what is known of somebody; nothing that comes later counts."""
        self._blocks.touch(person)
        self._place(person, ELSEWHERE)
        row = self._blocks.row_of[person]
        self._blocks.words[row] = candidates.pack_word(0, *DEFAULT_AGES, DEFAULT_DISTANCE_KM)
        self._blocks.flags[row] = candidates.pack_flags(None, 0, 0, 0, discoverable=False, verified=False)
        self._blocks.active_s[row] = 0
        self._versions[person] = self._match_versions[person] = np.iinfo(np.uint64).max

    def _updated(self, person: int, payload: Any) -> bool:
        """Applies a change; whether it named a field of ``record_scripts.MATCH_FIELDS``."""
        blocks, row = self._blocks, self._blocks.row_of[person]
        if isinstance(payload, LocationChanged):
            self._place(person, self._group(int(payload.cell, 16)))
            return True
        if isinstance(payload, WasActive):
            seconds = min(max(int(payload.active_at.timestamp()), 0), 2**32 - 1)
            blocks.active_s[row] = max(int(blocks.active_s[row]), seconds)
            return False
        flags = int(blocks.flags[row])
        if isinstance(payload, AgeAssessed):
            if payload.status == "verified":  # which no other check takes back
                blocks.flags[row] = _with(flags, candidates.UNVERIFIED, False)
            return False
        if isinstance(payload, StandingChanged):
            # Whoever asked not to be shown is still left out when cards are served.
            blocks.flags[row] = _with(flags, candidates.HIDDEN, payload.status != "active")
            return True
        if isinstance(payload, ProfileChanged):
            if payload.gender is None:
                return False
            blocks.flags[row] = candidates.with_gender(flags, GENDER_CODES[payload.gender])
            return True
        sent = (payload.age_min, payload.age_max, payload.max_distance_km)
        birth_day, *stored = candidates.unpack_word(int(blocks.words[row]))
        blocks.words[row] = candidates.pack_word(
            birth_day, *(new if new is not None else old for new, old in zip(sent, stored, strict=True))
        )
        if payload.roles is not None:
            flags = candidates.with_roles_accepted(flags, role_mask(payload.roles))
        if payload.genders is not None:
            flags = candidates.with_genders_accepted(flags, gender_mask(payload.genders))
        if payload.discoverable is not None:
            flags = _with(flags, candidates.HIDDEN, not payload.discoverable)
        blocks.flags[row] = flags
        return any(
            value is not None for value in (*sent, payload.roles, payload.genders, payload.discoverable)
        )

    def _known(self, user_id: str) -> int:
        """The person's number; someone never heard of is added, incomplete and nowhere."""
        number = id_number(user_id)
        person = self._ids.find(number)
        if person == UNKNOWN:
            person = self._ids.add(number)
            self._entered(np.array([person]))
            word = candidates.pack_word(0, *DEFAULT_AGES, DEFAULT_DISTANCE_KM)
            flags = candidates.pack_flags(None, 0, 0, 0, discoverable=True, verified=False)
            self._blocks.insert(person, ELSEWHERE, word, flags, 0)
        return person

    def _entered(self, people: Ids) -> None:
        """Makes room for what is kept of people who have just been numbered."""
        known, ids = len(self._ids), self._ids
        self._versions, self._match_versions = grown(self._versions, known), grown(self._match_versions, known)
        self._table_places = grown(self._table_places, known)
        if len(self._table):
            self._table_places[people] = self._table.places(ids.high[people], ids.low[people])

    def found_at(self, user_id: str) -> tuple[int, float, float] | None:
        """(row, latitude, longitude) of somebody in this actor's cells; the row is valid until the next change."""
        person = self._ids.find(id_number(user_id))
        if person == UNKNOWN or (group := int(self._blocks.group_of[person])) == ELSEWHERE:
            return None
        return int(self._blocks.row_of[person]), *_centre(int(self._blocks.keys[group]))

    def _place(self, person: int, group: int) -> None:
        if self._blocks.group_of[person] != group:
            self._blocks.move(person, group)

    def _group(self, cell: int) -> int:
        """The group of a cell; ``ELSEWHERE`` for none, for a number that is no cell, and for other actors' cells."""
        group = self._groups.get(cell)
        if group is None:
            if cell and (slot_of(cell, self._actors) != self._slot or not h3.is_valid_cell(f"{cell:x}")):
                return ELSEWHERE
            latitude, longitude = _centre(cell) if cell else (np.nan, np.nan)
            self.nearby.add(latitude, longitude)
            group = self._groups[cell] = self._blocks.add_group(cell)
        return group


def _with(flags: int, bit: int, on: bool) -> int:
    return flags | bit if on else flags & ~bit


def id_number(user_id: str) -> int:
    """The id as a 128-bit integer."""
    return int(user_id.replace("-", ""), 16)


def _centre(cell: int) -> tuple[float, float]:
    """The cell's centre as ``people.snap`` gives it."""
    latitude, longitude = h3.cell_to_latlng(f"{cell:x}")
    return round(latitude, 5), round(longitude, 5)
