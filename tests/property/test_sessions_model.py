"""A token family decides the same whatever is retried, lost, replayed, evicted and loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from simulated_shard import BEGIN, Logged, ShardMachine, SimulatedShard

from actors.sessions.commands import (
    FindSession,
    Revoked,
    RevokeSession,
    Rotated,
    RotateSession,
    SessionFound,
    SessionInvalid,
    Started,
    StartSession,
)
from actors.sessions.state import OUTAGE, SessionMemory
from configs.contracts.events import Event, SessionRevoked, SessionRotated, SessionStarted
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import SessionRow
from configs.contracts.positions import version_of

TTL_S = 1_000.0
GRACE_S = 10.0
LONG_AGO = datetime.min.replace(tzinfo=UTC)
SLOTS = st.integers(0, 2)


def make() -> SessionMemory:
    return SessionMemory(refresh_ttl_s=TTL_S, grace_s=GRACE_S, clock=lambda: BEGIN)


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> SessionRow | None:
    """What the sink would have written: the highest counter, and revocations for good."""
    row: SessionRow | None = None
    revoked = False
    for event, version in committed:
        payload = event.payload
        if payload.family_id != key:
            continue
        if isinstance(payload, SessionRevoked):
            revoked = True
            row = row or SessionRow(key, payload.user_id, -1, "", BEGIN, BEGIN, True, version)
            row = replace(row, version=version)
        else:
            counter = payload.counter if isinstance(payload, SessionRotated) else 0
            if row is None or counter > row.counter:
                row = SessionRow(
                    key, payload.user_id, counter, payload.token_hash, event.occurred_at, payload.expires_at, False, version
                )
    return None if row is None else replace(row, revoked=revoked)


@dataclass
class Model:
    """One family as it should be; ``counter`` -1 until it is started.

    ``applied_at``: when the memory that decided the last rotation took it in; a later memory does not know.
    """

    family_id: str
    user_id: str
    parent: str | None
    counter: int = -1
    rotated_at: datetime = BEGIN
    applied_at: datetime = LONG_AGO
    expires_at: datetime = BEGIN
    revoked: bool = False


class SessionShard(SimulatedShard):
    def __init__(self) -> None:
        super().__init__(
            lambda: SessionMemory(refresh_ttl_s=TTL_S, grace_s=GRACE_S, clock=lambda: self.now), rows_of
        )
        self.restored_at = LONG_AGO

    def restart(self) -> None:
        super().restart()
        self.memory.restored()  # type: ignore[attr-defined]
        self.restored_at = self.now


class Sessions(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard: SessionShard = SessionShard()
        self.families = [Model(new_id(), new_id(), parent) for parent in (None, new_id(), new_id())]

    def forgotten(self) -> None:
        """What the memory does not hold any more, it knows from the log and the rows only."""
        for model in self.families:
            if not self.shard.memory.known(model.family_id):
                model.applied_at = LONG_AGO

    @rule()
    def restart(self) -> None:
        self.shard.restart()
        self.forgotten()

    @rule()
    def evict(self) -> None:
        self.shard.evict()
        self.forgotten()

    def start_command(self, model: Model) -> StartSession:
        return StartSession(
            family_id=model.family_id,
            user_id=model.user_id,
            token_hash="t0",
            expires_at=self.shard.now + timedelta(seconds=TTL_S),
            email_hash="ab" * 16,
            sessions_from=7,
            signed_in_at=self.shard.now,
            parent_event_id=model.parent,
        )

    def started(self, model: Model) -> None:
        if model.counter < 0 and not model.revoked:
            model.counter, model.rotated_at = 0, self.shard.now
            model.expires_at = self.shard.now + timedelta(seconds=TTL_S)

    def refused(self, model: Model) -> SessionInvalid | None:
        if model.counter < 0 and not model.revoked:
            return SessionInvalid("unknown")
        if model.revoked:
            return SessionInvalid("revoked", model.user_id)
        return SessionInvalid("expired", model.user_id) if self.shard.now >= model.expires_at else None

    def rotated(self, model: Model, counter: int) -> SessionInvalid | tuple[int, datetime]:
        """What a rotation should answer now; changes the model accordingly."""
        now, restored_at = self.shard.now, self.shard.restored_at
        if (refused := self.refused(model)) is not None:
            return refused
        if counter > model.counter:
            return SessionInvalid("unknown", model.user_id)
        handed_out_at = max(model.rotated_at, model.applied_at)
        if restored_at - model.rotated_at <= OUTAGE:
            handed_out_at = max(handed_out_at, restored_at)
        if counter == model.counter:
            model.counter, model.rotated_at, model.applied_at = counter + 1, now, now
            model.expires_at = now + timedelta(seconds=TTL_S)
        elif counter < model.counter - 1 or now - handed_out_at > timedelta(seconds=GRACE_S):
            model.revoked = True
            return SessionInvalid("reused", model.user_id, revoked_now=True)
        return model.counter, model.expires_at

    @rule(slot=SLOTS)
    def start(self, slot: int) -> None:
        model = self.families[slot]
        if model.parent is None and (model.counter >= 0 or model.revoked):
            return  # a sign-in uses its family once; repeating the same command is `start_again`
        before = len(self.shard.log)
        assert isinstance(self.shard.ask(self.start_command(model)), Started)
        assert len(self.shard.log) - before == int(model.counter < 0 and not model.revoked)
        self.started(model)

    @rule(slot=SLOTS)
    def start_again(self, slot: int) -> None:
        model = self.families[slot]
        if model.counter >= 0 and (model.parent is not None or self.shard.memory.known(model.family_id)):
            before = len(self.shard.log)
            assert isinstance(self.shard.ask(self.start_command(model)), Started)
            assert len(self.shard.log) == before

    @rule(slot=SLOTS)
    def start_with_lost_answer(self, slot: int) -> None:
        model = self.families[slot]
        if model.parent is not None or (model.counter < 0 and not model.revoked):
            self.shard.ask_and_crash(self.start_command(model))
            self.started(model)
            self.forgotten()

    @rule(slot=SLOTS, back=st.integers(-1, 3))
    def rotate(self, slot: int, back: int) -> None:
        model = self.families[slot]
        counter = max(0, model.counter - back)
        expected = self.rotated(model, counter)
        answer = self.shard.ask(RotateSession(family_id=model.family_id, counter=counter, next_token_hash="t"))
        if isinstance(expected, SessionInvalid):
            assert answer == expected
        else:
            assert isinstance(answer, Rotated)
            assert (answer.counter, answer.expires_at, answer.user_id) == (*expected, model.user_id)

    @rule(slot=SLOTS, late_s=st.sampled_from([3, 11, 400]), crash=st.booleans(), forget=st.booleans(), wait_s=st.sampled_from([0, 9, 11]))
    def rotate_and_repeat_after_an_outage(self, slot: int, late_s: int, crash: bool, forget: bool, wait_s: int) -> None:
        """Whoever got 503 presents the token again, once the shard answers: nobody has used it twice."""
        model = self.families[slot]
        counter, fresh = max(0, model.counter), self.refused(model) is None
        self.rotated(model, counter)
        command = RotateSession(family_id=model.family_id, counter=counter, next_token_hash="t")
        if crash:
            self.shard.ask_and_crash(command, down_s=late_s)
            self.forgotten()
        else:
            self.shard.ask_in_vain(command, late_s)
            if fresh:
                model.applied_at = self.shard.now
        if forget:
            self.shard.commit(len(self.shard.log))
            self.restart()
        self.shard.pass_time(wait_s)
        expected = self.rotated(model, counter)
        answer = self.shard.ask(command)
        if isinstance(expected, SessionInvalid):
            assert answer == expected
            assert expected.reason != "reused" or wait_s > GRACE_S or timedelta(seconds=late_s) > OUTAGE
        else:
            assert isinstance(answer, Rotated)
            assert (answer.counter, answer.expires_at, answer.user_id) == (*expected, model.user_id)

    @rule(slot=SLOTS)
    def find(self, slot: int) -> None:
        model, before = self.families[slot], len(self.shard.log)
        expected = self.refused(model)
        answer = self.shard.ask(FindSession(family_id=model.family_id))
        assert len(self.shard.log) == before
        if expected is not None:
            assert answer == expected
        else:
            assert isinstance(answer, SessionFound)
            assert answer.user_id == model.user_id

    @rule(slot=SLOTS)
    def rotate_with_lost_answer(self, slot: int) -> None:
        model = self.families[slot]
        counter = max(0, model.counter)
        self.rotated(model, counter)
        self.shard.ask_and_crash(RotateSession(family_id=model.family_id, counter=counter, next_token_hash="t"))
        self.forgotten()

    @rule(slot=SLOTS)
    def revoke(self, slot: int) -> None:
        model = self.families[slot]
        before = len(self.shard.log)
        answer = self.shard.ask(RevokeSession(family_id=model.family_id, user_id=model.user_id, reason="logout"))
        assert isinstance(answer, Revoked)
        assert answer.user_id == model.user_id
        assert len(self.shard.log) - before == int(not model.revoked)
        model.revoked = True

    @rule(slot=SLOTS)
    def a_consumer_derives_the_start(self, slot: int) -> None:
        """The derive consumer appends the start of a registration's session by itself; the tail brings it."""
        model = self.families[slot]
        if model.parent is None:
            return
        payload = SessionStarted(
            family_id=model.family_id, user_id=model.user_id, token_hash="t0",
            expires_at=self.shard.now + timedelta(seconds=TTL_S),
        )
        event = Event(derived_id(model.parent, "session"), self.shard.now, model.family_id, payload)
        if model.counter == 0:
            return  # its own clock may differ by then; the unit tests state which of the two counts
        self.shard.log.append((event, version_of(1, len(self.shard.log))))
        self.shard.memory.apply(*self.shard.log[-1])
        if model.counter < 0:
            model.counter, model.rotated_at, model.expires_at = 0, self.shard.now, payload.expires_at

    @rule(seconds=st.sampled_from([1, 9, 11, 500, 1_000]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


FAMILY, OWNER = new_id(), new_id()


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Events of one family as rival shards may write them, and the same in another order with repetitions."""
    events: list[Event] = []
    for second in range(draw(st.integers(1, 6))):
        at = BEGIN + timedelta(seconds=second)
        expires_at = at + timedelta(seconds=TTL_S)
        kind = draw(st.sampled_from(["started", "rotated", "revoked"]))
        if kind == "started":
            payload: object = SessionStarted(family_id=FAMILY, user_id=OWNER, token_hash="t", expires_at=expires_at)
        elif kind == "rotated":
            payload = SessionRotated(
                family_id=FAMILY, user_id=OWNER, counter=draw(st.integers(1, 3)), token_hash="t", expires_at=expires_at
            )
        else:
            payload = SessionRevoked(family_id=FAMILY, user_id=OWNER, reason="logout")
        events.append(Event(new_id(), at, FAMILY, payload))
    shuffled = draw(st.permutations(events)) + draw(st.lists(st.sampled_from(events), max_size=4))
    return events, shuffled


@given(histories())
def test_events_of_rival_shards_in_any_order_give_one_state(history: tuple[list[Event], list[Event]]) -> None:
    """Otherwise a shard and its replacement would answer one token differently for good."""
    events, shuffled = history
    versions = {event.event_id: version_of(1, index) for index, event in enumerate(events)}
    straight, other = make(), make()
    for event in events:
        straight.apply(event, versions[event.event_id])
    for event in shuffled:
        other.apply(event, versions[event.event_id])
    now = BEGIN + timedelta(seconds=8)
    for memory in (straight, other):
        memory.load(FAMILY, None)
    for counter in range(5):
        command = RotateSession(family_id=FAMILY, counter=counter, next_token_hash="n")
        one, two = straight.decide(command, now), other.decide(command, now)
        assert one.answer((9,) * len(one.appends)) == two.answer((9,) * len(two.appends))
