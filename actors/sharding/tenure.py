"""Under which epochs a service's shards write, and whether they still are the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Epochs(Protocol):
    """What is needed of ``configs.contracts.loading.RowLoader``."""

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]: ...

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]: ...


class Tenure:
    """The epochs of some shards in this life of their actor; empty until ``claim``."""

    def __init__(self, loader: Epochs, kind: str, shards: Sequence[int]) -> None:
        self._loader = loader
        self._kind = kind
        self._shards = tuple(shards)
        self._epochs: Mapping[int, int] = {}

    async def claim(self) -> int:
        """New epochs, above all before; the highest of them. Raises DependencyUnavailable."""
        self._epochs = dict(await self._loader.claim_epochs(self._kind, self._shards))
        return self.highest

    @property
    def highest(self) -> int:
        """1 for an actor without shards."""
        return max(self._epochs.values(), default=1)

    def of(self, shard: int) -> int:
        return self._epochs[shard]

    async def holds(self) -> bool:
        """Whether nobody has claimed any of the shards since. Raises DependencyUnavailable: unknown."""
        if not self._epochs:
            return True
        newest = await self._loader.epochs(self._kind, self._shards)
        return all(newest.get(shard, 0) <= epoch for shard, epoch in self._epochs.items())
