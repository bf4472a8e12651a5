"""Keys in memory in order of use, for the kinds of shards that remember one small object a key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from itertools import islice
from typing import Final, Generic, TypeVar

E = TypeVar("E")
SAMPLE: Final = 1_000
"""Objects at least whose memory is measured to estimate that of all."""


def estimated_bytes(objects: Collection[E], of: Callable[[E], int]) -> int:
    """Bytes of all, estimated by objects taken evenly from the first to the last."""
    sample = [of(one) for one in islice(objects, 0, None, max(1, len(objects) // SAMPLE))]
    return sum(sample) * len(objects) // max(1, len(sample))


class Entries(Generic[E]):
    """Objects by key, least recently used first. Reading does not count as use, so that deciding changes nothing."""

    __slots__ = ("_by_key", "_make")

    def __init__(self, make: Callable[[], E]) -> None:
        self._make = make
        self._by_key: OrderedDict[str, E] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: str) -> E | None:
        return self._by_key.get(key)

    def use(self, key: str) -> E:
        """The key's object, made if there was none, now the most recently used."""
        entry = self._by_key.get(key)
        if entry is None:
            entry = self._by_key[key] = self._make()
        else:
            self._by_key.move_to_end(key)
        return entry

    def nbytes(self, of: Callable[[E], int]) -> int:
        """``estimated_bytes`` of all."""
        return estimated_bytes(self._by_key.values(), of)

    def evict(self, limit: int, forgettable: Callable[[str, E], bool]) -> int:
        """Forgets the least recently used keys beyond ``limit`` that may be forgotten; returns how many."""
        over = len(self._by_key) - limit
        if over <= 0:
            return 0
        chosen: list[str] = []
        for key, entry in self._by_key.items():
            if len(chosen) == over:
                break
            if forgettable(key, entry):
                chosen.append(key)
        for key in chosen:
            del self._by_key[key]
        return len(chosen)
