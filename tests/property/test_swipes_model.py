"""Swipe actors under late retries, lost acknowledgements, crashes, zombies and cut connections: the log and a dictionary
decide what must be true."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulated_log import VirtualTimeLoop
from swipe_world import World, facts
from swipe_world import settings as world_settings

from actors.swipes.commands import EndPair, IdempotencyConflict, PairEnded, Swipe, SwipeAnswer, Undo, Undone
from configs.contracts.errors import PlatformError
from configs.contracts.events import Matched, Swiped
from configs.contracts.ids import derived_id, key64, match_id, pair
from configs.contracts.loading import ACTION_CODES

PEOPLE = [f"00000000-0000-7000-8000-0000000000{number:02x}" for number in range(5)]
LIKES = ("like", "super_like")

people = st.sampled_from(PEOPLE)
couples = st.permutations(PEOPLE).map(lambda order: (order[0], order[1]))
actions = st.sampled_from(["like", "like", "pass", "super_like"])
slots = st.integers(0, 1)


class Swiping(RuleBasedStateMachine):
    """Clients that repeat each request until it is answered, sometimes again much later."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.world = World(world_settings(super_likes_a_day=1_000))
        self.keys = 0
        self.carried: list[tuple[str, Swipe | Undo]] = []
        self.latest: dict[tuple[str, str], str] = {}
        self.unanswered: set[tuple[str, str]] = set()
        self.had_zombie = False
        self.ended: set[tuple[str, str]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    @initialize()
    def begin(self) -> None:
        self.run(self.world.revive())

    # What people do.

    @rule(couple=couples, action=actions)
    def swipe(self, couple: tuple[str, str], action: str) -> None:
        command = Swipe(*couple, action, self.key())  # type: ignore[arg-type]
        self.answered(command, self.run(self.world.until("swipe", command)))

    @rule(couple=couples, action=st.sampled_from(["like", "super_like"]))
    def both_like_at_once(self, couple: tuple[str, str], action: str) -> None:
        one, other = Swipe(*couple, action, self.key()), Swipe(couple[1], couple[0], "like", self.key())  # type: ignore[arg-type]

        async def both() -> list[Any]:
            return await asyncio.gather(self.world.until("swipe", one), self.world.until("swipe", other))

        for command, answer in zip((one, other), self.run(both()), strict=True):
            self.answered(command, answer)

    @rule(couple=couples, action=actions)
    def swipe_and_give_up(self, couple: tuple[str, str], action: str) -> None:
        """The client never learns what became of it."""
        command = Swipe(*couple, action, self.key())  # type: ignore[arg-type]
        answer = self.run(self.world.ask("swipe", command))
        if isinstance(answer, PlatformError):
            self.unanswered.add(couple)
            self.carried.append(("swipe", command))
        else:
            self.answered(command, answer)

    @rule(user=people)
    def undo(self, user: str) -> None:
        command = Undo(user, self.key())
        before = self.world.states()
        answer = self.run(self.world.until("undo", command))
        if isinstance(answer, Undone):
            self.carried.append(("undo", command))
            self.latest[(user, answer.target_id)] = "undone"
            couple = pair(user, answer.target_id)
            state = self.world.states().get(couple)
            assert state is None or state[1] != "active", "acknowledged before the authority recorded it"
            if before.get(couple, (0, ""))[1] == "active":
                assert answer.ended_match

    @rule(couple=couples, reason=st.sampled_from(["unmatched", "blocked"]))
    def end(self, couple: tuple[str, str], reason: str) -> None:
        command = EndPair(*couple, reason)  # type: ignore[arg-type]
        answer = self.run(self.world.until("end", command))
        assert isinstance(answer, PairEnded)
        if reason == "blocked" or answer.ended:
            self.ended.add(pair(*couple))
            assert self.world.states()[pair(*couple)][1] in ("unmatched", "blocked")
        again = self.run(self.world.until("end", command))
        assert (again.ended, again.generation) == (answer.ended, answer.generation)
        assert again.version in (answer.version, 0)

    @precondition(lambda self: self.carried)
    @rule(data=st.data())
    def late_retry(self, data: st.DataObject) -> None:
        """A request arrives once more, long after it was carried out and others followed."""
        method, command = data.draw(st.sampled_from(self.carried))
        answer = self.run(self.world.until(method, command))
        if isinstance(command, Swipe):
            assert isinstance(answer, SwipeAnswer)
        if not self.had_zombie:
            assert self.appended(command) <= 1, "a known key was applied again"

    def appended(self, command: Swipe | Undo) -> int:
        """How often the command's key is in the log."""
        scope = "swipe" if isinstance(command, Swipe) else "undo"
        return sum(
            item.payload.swiper_id == command.swiper_id
            and (item.payload.idempotency_key or "").startswith(scope)
            and (item.payload.idempotency_key or "").endswith(f" {command.idempotency_key}")
            for _, _, item in self.world.log.events("matching.swipe")
        )

    def answered(self, command: Swipe, answer: Any) -> None:
        assert isinstance(answer, SwipeAnswer), answer
        couple = (command.swiper_id, command.target_id)
        if self.appended(command):
            self.carried.append(("swipe", command))  # a swipe that changed nothing leaves no key behind
        self.latest[couple] = command.action
        if answer.matched:
            states = self.world.states()
            assert states[pair(*couple)][0] >= answer.generation
            assert answer.match_id == match_id(*couple)

    # What machines do.

    @rule(slot=slots, mode=st.sampled_from(["lose", "lose_ack"]), couple=couples)
    def crash_in_the_append(self, slot: int, mode: str, couple: tuple[str, str]) -> None:
        self.world.lives[slot].appender.mode = mode  # type: ignore[assignment]

    @rule(slot=slots, mode=st.sampled_from(["late", "late_ack"]))
    def appends_are_late(self, slot: int, mode: str) -> None:
        life = self.world.lives[slot]
        life.appender.mode = mode  # type: ignore[assignment]
        self.loop.call_later(3, life.appender.release)

    @rule(slot=slots)
    def crash(self, slot: int) -> None:
        async def restart() -> None:
            await self.world.kill(self.world.lives[slot])
            await self.world.revive()

        self.run(restart())

    @rule(slot=slots)
    def crash_and_stay_away(self, slot: int) -> None:
        self.run(self.world.kill(self.world.lives[slot]))

    @rule(slot=slots, couple=couples, action=actions)
    def replaced_while_frozen(self, slot: int, couple: tuple[str, str], action: str) -> None:
        """The replaced actor's last append reaches the log after its successor has restored."""
        old = self.world.lives[slot]
        if old.dead or self.world.slot_of(couple[0]) != slot:
            return
        self.had_zombie = True
        self.unanswered.add(couple)

        async def replace() -> None:
            old.appender.mode = "late"
            pending = asyncio.ensure_future(self.world.ask("swipe", Swipe(*couple, action)))  # type: ignore[arg-type]
            await asyncio.sleep(0.2)
            await self.world.start(slot)
            old.appender.release()
            await pending

        self.run(replace())

    @rule(caller=slots)
    def cut_the_connection(self, caller: int) -> None:
        self.world.cut.add((caller, 1 - caller))
        self.loop.call_later(4, self.world.cut.discard, (caller, 1 - caller))

    @rule(share=st.sampled_from([0.3, 1.0]))
    def writers_commit(self, share: float) -> None:
        self.world.rows.commit(share)

    @rule(seconds=st.sampled_from([0.01, 1.5, 6]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(slot=slots)
    def memory_is_short(self, slot: int) -> None:
        service = self.world.lives[slot].service

        async def forget() -> None:
            service._limit = 0
            for _ in range(2):
                await service.evict()
            service._limit = 1_000

        self.run(forget())

    # What must be true.

    @invariant()
    def a_generation_begins_once(self) -> None:
        ids = Counter((event.payload.low_id, event.payload.high_id, event.payload.generation)
                      for event in {event.event_id: event for event in self.world.matches()}.values()
                      if isinstance(event.payload, Matched))
        assert all(count == 1 for count in ids.values())
        if not self.had_zombie:
            repeated = Counter(f"{event.event_id} {event.payload}" for event in self.world.matches())
            assert all(count == 1 for count in repeated.values()), [text for text, count in repeated.items() if count > 1]

    @invariant()
    def ended_pairs_never_match_again(self) -> None:
        states = self.world.states()
        assert all(states[couple][1] in ("unmatched", "blocked") for couple in self.ended)

    def teardown(self) -> None:
        try:
            self.run(self.world.settle())
            self.check_log()
            self.check_memory()
            for slot in range(self.world.slots):
                self.crash(slot)
            self.run(self.world.settle())
            self.check_memory()
        finally:
            self.run(self.world.close())
            self.loop.close()

    def check_log(self) -> None:
        newest = facts(self.world.swipes())
        codes = {couple: fact & 3 for couple, fact in newest.items()}
        states = self.world.states()
        for couple, action in self.latest.items():
            if couple not in self.unanswered:
                assert codes[couple] == ACTION_CODES[action], f"an acknowledged swipe is not what stands: {couple} {action}"
        likes = (ACTION_CODES["like"], ACTION_CODES["super_like"])
        for index, low in enumerate(PEOPLE):
            for high in PEOPLE[index + 1 :]:
                both = codes.get((low, high)) in likes and codes.get((high, low)) in likes
                state = states.get((low, high), (0, "none"))[1]
                if both:
                    assert state != "none", "a mutual like has no match"
                    assert state != "undone", "a mutual like after an undo has no match"
                if state == "active":
                    assert 0 not in (codes[(low, high)], codes[(high, low)]), "an undone swipe keeps its match"
        for event in self.world.matches():
            payload = event.payload
            if isinstance(payload, Matched):
                assert event.event_id == derived_id(payload.match_id, f"matched:{payload.generation}")
                liked = {(item.payload.swiper_id, item.payload.swiped_id)
                         for _, _, item in self.world.log.events("matching.swipe")
                         if isinstance(item.payload, Swiped) and item.payload.action in LIKES}
                assert {(payload.low_id, payload.high_id), (payload.high_id, payload.low_id)} <= liked
        if not self.had_zombie:
            keys = Counter(item.payload.idempotency_key for _, _, item in self.world.log.events("matching.swipe"))
            assert all(count == 1 for key, count in keys.items() if key is not None)

    def check_memory(self) -> None:
        """Memory equals rows and tail: what the shards answer is what the whole log says."""
        newest, states = facts(self.world.swipes()), self.world.states()
        for user in PEOPLE:
            life = self.world.lives[self.world.slot_of(user)]
            self.run(life.service.swipes.ensure_loaded([user]))
            person = life.service.people.used(user)
            seen = {couple[1] for couple, fact in newest.items() if couple[0] == user and fact & 3}
            for (low, high), (_, state) in states.items():
                if user in (low, high) and state in ("unmatched", "blocked"):
                    seen.add(high if user == low else low)
                if user == low:
                    known = person.pair(key64(high))
                    assert known is not None
                    assert (known.generation, known.code) == (states[(low, high)][0], _code(state))
            assert person.seen(np.array([key64(other) for other in PEOPLE], np.uint64)).tolist() == [other in seen for other in PEOPLE]
            assert len(person.seen_set().keys) == 8 * len(seen)
            for other in PEOPLE:
                if other != user:
                    assert person.own.get(key64(other)) == newest.get((user, other), 0)


def _code(state: str) -> int:
    return {"active": 1, "unmatched": 2, "blocked": 3, "undone": 4}[state]


TestSwiping = Swiping.TestCase
TestSwiping.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

__all__ = ["IdempotencyConflict", "TestSwiping"]
