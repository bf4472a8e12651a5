"""A shard without processes: one memory, its log, rows that lag behind, and everything that can go wrong between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from actors.sharding.memory import Memory
from configs.contracts.events import Event, decode, encode
from configs.contracts.positions import version_of

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)

Logged = tuple[Event, int]


class SimulatedShard:
    """``rows_of(key, committed events, now)`` plays the sinks and the loader; ``make`` makes an empty memory."""

    def __init__(
        self,
        make: Callable[[], Memory[Any, Any]],
        rows_of: Callable[[str, Sequence[Logged], datetime], object | None],
    ) -> None:
        self._make = make
        self._rows_of = rows_of
        self.memory = make()
        self.log: list[Logged] = []
        self.committed = 0
        self.now = BEGIN

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def ask(self, command: Any) -> Any:
        """Carries out a command as a turn does; returns its answer."""
        return self._turn(command, crash=False)

    def ask_in_vain(self, command: Any, late_s: float) -> None:
        """The append is acknowledged after its deadline: the caller was told 503."""
        self._turn(command, crash=False, late_s=late_s)

    def ask_and_crash(self, command: Any, *, down_s: float = 0) -> None:
        """The append is acknowledged, then the process dies, for ``down_s``: nobody hears the answer."""
        self._turn(command, crash=True, late_s=down_s)
        self.restart()

    def _turn(self, command: Any, *, crash: bool, late_s: float = 0) -> Any:
        for key in self.memory.needs(command):
            if not self.memory.known(key):
                self.memory.load(key, self._rows_of(key, self.log[: self.committed], self.now))
        decision = self.memory.decide(command, self.now)
        versions = []
        self.pass_time(late_s)
        for append in decision.appends:
            event = decode(encode(append.event))
            assert event.key == append.key
            self.log.append((event, version_of(1, len(self.log))))
            versions.append(self.log[-1][1])
            if not crash:
                self.memory.apply(append.event, versions[-1])
        return None if crash else decision.answer(tuple(versions))

    def restart(self) -> None:
        """A new process replays what the rows do not hold yet."""
        self.memory = self._make()
        for event, version in self.log[self.committed :]:
            self.memory.apply(event, version)

    def commit(self, records: int) -> None:
        self.committed = min(len(self.log), self.committed + records)

    def evict(self) -> int:
        return self.memory.evict(0, lambda key: version_of(1, self.committed))

    def repeat(self, index: int) -> None:
        """The tail hands on a record that the memory has seen, perhaps long ago."""
        if self.log:
            self.memory.apply(*self.log[index % len(self.log)])


class ShardMachine(RuleBasedStateMachine):
    """What may happen to every shard between two commands; ``shard`` is made by the subclass."""

    shard: SimulatedShard

    @rule(records=st.integers(1, 5))
    def commit(self, records: int) -> None:
        self.shard.commit(records)

    @rule()
    def restart(self) -> None:
        self.shard.restart()

    @rule()
    def evict(self) -> None:
        self.shard.evict()

    @rule(index=st.integers(0, 1_000))
    def repeat(self, index: int) -> None:
        self.shard.repeat(index)
