"""Which of the own swipes their pair's authority has not taken yet, and up to where it has taken all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actors.swipes.commands import Delivery
from configs.contracts.positions import OFFSET_BITS

_OFFSETS = (1 << OFFSET_BITS) - 1


@dataclass(slots=True)
class _Open:
    """What the authority of one pair does not know yet: events from ``first`` to ``last`` (versions), the last's code."""

    partition: int
    first: int
    last: int
    code: int


class Outgoing:
    """Deliveries from the moment their event is applied until the authority has taken them.

    Only the newest fact of a pair has to be taken: it hides those before it. ``positions`` is where delivery starts
    again after a crash: everything below was taken. It never passes a record that was not yet read in the partition's
    tail, since that may be a predecessor's last write.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Open] = {}
        self._undoing = 0
        self._fresh: dict[tuple[str, str], Delivery] = {}
        self._floors: Mapping[int, int] = {}
        self._read: dict[int, int] = {}
        self._retained: dict[int, deque[Delivery]] = {}

    def start(self, floors: Mapping[int, int]) -> None:
        """Events under these offsets (partition -> offset) were taken in an earlier life; called before a replay."""
        self._floors = floors
        self._read = dict(floors)
        self._open.clear()
        self._fresh.clear()
        self._retained.clear()
        self._undoing = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, partition: int, delivery: Delivery) -> None:
        """Notes an applied event of the partition that the authority must learn."""
        if delivery.version & _OFFSETS < self._floors.get(partition, 0):
            return
        pair = (delivery.swiper_id, delivery.target_id)
        known = self._open.get(pair)
        if known is None:
            self._open[pair] = _Open(partition, delivery.version, delivery.version, delivery.code)
        else:
            known.first = min(known.first, delivery.version)
            if delivery.version <= known.last:
                return
            self._undoing -= known.code == 0
            known.last, known.code = delivery.version, delivery.code
        self._undoing += delivery.code == 0
        self._fresh[pair] = delivery

    def drain(self) -> list[Delivery]:
        """The newest fact of each pair that was added since the last call; it stays open until ``taken``."""
        fresh, self._fresh = self._fresh, {}
        return list(fresh.values())

    def taken(self, delivery: Delivery) -> None:
        """The authority knows this fact; a pair with a newer one stays open.

        Until the partition's tail has passed the fact's record it is retained: the authority may have been replaced
        already (see ``repeat``).
        """
        pair = (delivery.swiper_id, delivery.target_id)
        known = self._open.get(pair)
        if known is None:
            return
        if delivery.version & _OFFSETS >= self._read.get(known.partition, 0):
            self._retained.setdefault(known.partition, deque()).append(delivery)
        if known.last <= delivery.version:
            del self._open[pair]
            self._undoing -= known.code == 0

    def repeat(self, partition: int, offset: int, concerned: Callable[[Delivery], bool]) -> None:
        """An authority restores from everything up to this offset: opens again what stands behind it and was taken,
        perhaps by the life before; ``concerned`` says whose pair it is."""
        retained = self._retained.pop(partition, None) or ()
        for delivery in retained:
            if delivery.version & _OFFSETS > offset and concerned(delivery):
                self.add(partition, delivery)
            else:
                self._retained.setdefault(partition, deque()).append(delivery)

    def undoing(self, swiper_id: str, target_id: str) -> bool:
        """Whether an undo of this pair has not reached the authority: a newer swipe would hide it."""
        if not self._undoing:
            return False
        known = self._open.get((swiper_id, target_id))
        return known is not None and known.code == 0

    def read(self, partition: int, next_offset: int) -> None:
        """The partition's tail was handed on up to here."""
        self._read[partition] = max(next_offset, self._read.get(partition, 0))
        retained = self._retained.get(partition)
        if retained:
            left = deque(item for item in retained if item.version & _OFFSETS >= next_offset)
            if left:
                self._retained[partition] = left
            else:
                del self._retained[partition]

    def positions(self) -> dict[int, int]:
        """Partition -> offset below which everything was taken."""
        positions = dict(self._read)
        for entry in self._open.values():
            offset = entry.first & _OFFSETS
            if offset < positions.get(entry.partition, offset + 1):
                positions[entry.partition] = offset
        return positions
