"""Everybody in the memory of one actor's swipe shards, and who may be forgotten."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import cast

from actors.entries import estimated_bytes
from actors.swipes.person import Person
from configs.contracts.ids import partition_of
from configs.contracts.loading import Positions, SwipeRows
from configs.contracts.positions import version_of
from configs.contracts.topics import Topic

ROUNDS = 120
"""Rounds that may wait for the rows at once; past it a round lasts longer, so nothing is forgotten too early."""

PARTITIONS_REMEMBERED = 8_192

Committed = Callable[[str, int], int]
"""(topic, partition) -> version below which the rows hold everything."""


class People:
    """Persons by user id. A person is complete once their rows are loaded; before, only what came since is there.

    Forgetting: time runs in rounds. Each round remembers the newest versions it saw of every partition; once the rows
    hold all of them, whoever last changed in that round or before is in the rows.
    """

    def __init__(self, shards: Sequence[int], partitions: int) -> None:
        self._people: dict[str, Person] = {}
        self._shards = frozenset(shards)
        self.partition = lru_cache(PARTITIONS_REMEMBERED)(lambda key: partition_of(key, partitions))
        """The partition of a key; a swipe asks for the same three times."""
        self._round = 1
        self._settled = 0
        self._high: dict[tuple[str, int], int] = {}
        self._loading: Counter[str] = Counter()
        self._rounds: deque[tuple[int, dict[tuple[str, int], int]]] = deque()

    def __len__(self) -> int:
        return len(self._people)

    def __iter__(self) -> Iterator[Person]:
        return iter(self._people.values())

    def fact_bytes(self) -> int:
        """Bytes of everybody's swipes and received likes, spare room included; estimated."""
        return estimated_bytes(self._people.values(), Person.fact_bytes)

    def owns(self, user_id: str) -> bool:
        """Whether this actor hosts the person's shard."""
        return user_id in self._people or self.partition(user_id) in self._shards

    def hosts(self, partition: int) -> bool:
        """Whether this actor hosts the shard of this number."""
        return partition in self._shards

    def known(self, user_id: str) -> bool:
        """Whether the person's rows are in memory."""
        person = self._people.get(user_id)
        return person is not None and person.loaded

    def load(self, user_id: str, rows: object | None) -> None:
        """Merges SwipeRows, or None: there are none."""
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = Person()
        person.used = self._round
        person.load(cast(SwipeRows | None, rows))

    @contextmanager
    def loading(self, user_ids: Sequence[str]) -> Iterator[None]:
        """While rows of these people are on their way: they are not forgotten, for the rows may be older than what
        would be."""
        self._loading.update(user_ids)
        try:
            yield
        finally:
            self._loading.subtract(user_ids)
            for user_id in user_ids:
                if not self._loading[user_id]:
                    del self._loading[user_id]

    def used(self, user_id: str) -> Person:
        """The person whom a command is about; they must be known."""
        person = self._people[user_id]
        person.used = self._round
        return person

    def changing(self, user_id: str, topic: Topic, partition: int, version: int) -> Person:
        """The person who is about to take in a fact of this place in the log."""
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = Person()
            person.used = self._round
        person.changed = self._round
        place = (topic.name, partition)
        if version > self._high.get(place, 0):
            self._high[place] = version
        return person

    def turn_round(self, committed: Committed) -> None:
        """Ends a round, and settles those that the rows hold completely."""
        while self._rounds:
            number, high = self._rounds[0]
            if any(committed(topic, partition) <= version for (topic, partition), version in high.items()):
                break
            self._settled = number
            self._rounds.popleft()
        if len(self._rounds) < ROUNDS:
            self._rounds.append((self._round, dict(self._high)))
            self._round += 1

    def evict(self, limit: int) -> int:
        """Forgets the least recently used settled people beyond the limit; returns how many."""
        excess = len(self._people) - limit
        if excess <= 0:
            return 0
        settled = sorted(
            (person.used, user_id) for user_id, person in self._people.items()
            if person.changed <= self._settled and user_id not in self._loading
        )
        for _, user_id in settled[:excess]:
            del self._people[user_id]
        return min(excess, len(settled))


def committed_in(positions: Positions, generation: Callable[[str], int]) -> Committed:
    """The writers' positions as versions."""
    return lambda topic, partition: version_of(generation(topic), positions.get(topic, {}).get(partition, 0))
