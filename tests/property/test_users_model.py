"""A request under one Idempotency-Key is recorded once, whatever is retried, lost, replayed, evicted and reloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from simulated_shard import BEGIN, Logged, ShardMachine, SimulatedShard

from actors.idempotency import REMEMBERED, Remembered, Requests
from actors.users.commands import IdempotencyConflict, Record, Recorded, RecordPayload
from actors.users.state import UserMemory, owner_of
from configs.contracts.events import (
    NotificationSent,
    PreferencesChanged,
    ProfileChanged,
    UserBlocked,
    UserReported,
    WasActive,
)
from configs.contracts.ids import new_id
from configs.contracts.loading import IdempotencyRow
from configs.contracts.positions import version_of

DAY = timedelta(hours=24)
PEOPLE = [new_id(), new_id()]

MAKERS: tuple[Callable[[str], RecordPayload], ...] = (
    lambda user: ProfileChanged(user_id=user, bio="hello"),
    lambda user: PreferencesChanged(user_id=user, age_min=21),
    lambda user: UserBlocked(user_id=user, blocked_id="other"),
    lambda user: UserReported(
        report_id="", reporter_id=user, target_type="user", target_id="other", category="spam"
    ),
    lambda user: NotificationSent(notification_id="", user_id=user, kind="system", title="hi"),
)


def remembered(logged: Sequence[Logged], user_id: str, now: datetime) -> dict[str, Remembered]:
    """The newest 64 requests of a person in the last day, as the rows hold them."""
    found: dict[str, Remembered] = {}
    for event, _ in logged:
        payload = event.payload
        if isinstance(payload, WasActive) or owner_of(payload) != user_id or payload.idempotency_key is None:
            continue
        found.pop(payload.idempotency_key, None)
        found[payload.idempotency_key] = Remembered(payload.body_digest or "", event.event_id, event.occurred_at)
    newest = list(found.items())[-REMEMBERED:]
    return {key: request for key, request in newest if now - request.at < DAY}


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> list[IdempotencyRow]:
    return [
        IdempotencyRow(name, request.body_digest, request.event_id, request.at)
        for name, request in remembered(committed, key, now).items()
    ]


class Users(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(lambda: UserMemory(location_changes_an_hour=1_000), rows_of)

    def command(self, person: int, maker: int, key: str | None, digest: str) -> Record:
        user_id = PEOPLE[person]
        return Record(
            user_id=user_id, payload=MAKERS[maker](user_id), scope=f"route-{maker % 2}",
            idempotency_key=key, body_digest=digest,
        )

    @rule(
        person=st.integers(0, 1), maker=st.integers(0, 4), digest=st.sampled_from(["d1", "d2"]),
        key=st.sampled_from([None, *(f"k{number}" for number in range(4))]),
    )
    def record(self, person: int, maker: int, key: str | None, digest: str) -> None:
        command = self.command(person, maker, key, digest)
        known = remembered(self.shard.log, command.user_id, self.shard.now).get(f"{command.scope} {key}")
        before = len(self.shard.log)
        answer = self.shard.ask(command)
        if known is None:
            assert isinstance(answer, Recorded)
            event, version = self.shard.log[-1]
            assert (answer.event_id, answer.version, answer.payload) == (event.event_id, version, event.payload)
            assert not answer.replayed
            assert len(self.shard.log) == before + 1
        else:
            assert len(self.shard.log) == before
            if known.body_digest == digest:
                assert answer == Recorded(known.event_id, 0, replayed=True, payload=None)
            else:
                assert answer == IdempotencyConflict()

    @rule(person=st.integers(0, 1), maker=st.integers(0, 4), key=st.sampled_from(["k0", "k1"]))
    def record_with_lost_answer(self, person: int, maker: int, key: str) -> None:
        self.shard.ask_and_crash(self.command(person, maker, key, "d1"))

    @rule(person=st.integers(0, 1))
    def many_keys(self, person: int) -> None:
        """More requests than are remembered: the oldest are forgotten alike in memory and in rows."""
        for number in range(REMEMBERED + 2):
            self.record(person, 0, f"many-{number}", "d1")

    @rule(seconds=st.sampled_from([1, 3_600, 86_399, 86_400]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @rule(records=st.integers(1, 100))
    def commit(self, records: int) -> None:
        self.shard.commit(records)

    @rule()
    def evict(self) -> None:
        memory = self.shard.memory
        assert isinstance(memory, UserMemory)
        memory.settle(lambda topic, key: version_of(1, self.shard.committed))
        self.shard.evict()


TestUsers = Users.TestCase
TestUsers.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


REQUESTS = st.lists(
    st.tuples(st.integers(0, 150), st.integers(0, 1_000)).map(
        lambda drawn: (f"k{drawn[0]}", Remembered("d", f"{drawn[1]:04}", BEGIN + timedelta(seconds=drawn[1] // 2)))
    ),
    max_size=150, unique_by=(lambda item: item[0], lambda item: item[1].event_id),
)
"""Distinct keys: one is used again only after a day, when whatever it could have displaced has expired too."""


@given(REQUESTS, st.randoms(use_true_random=False))
def test_requests_merge_the_same_in_any_order(items: list[tuple[str, Remembered]], random: object) -> None:
    """Rows and events reach a memory in any order; it must not depend on it which 64 requests are remembered."""
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = Requests(), Requests()
    for memory, order in ((one, items), (two, shuffled)):
        for key, request in order:
            memory.remember(key, request)
    assert len(one) == len(two) <= REMEMBERED
    for key, _ in items:
        assert one.find(key, BEGIN) == two.find(key, BEGIN)
