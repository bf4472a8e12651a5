"""What swipe shards promise a client, on a simulated log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from simulated_log import VirtualTimeLoop
from swipe_world import Life, World, settings

from actors.swipes.commands import (
    Delivery,
    IdempotencyConflict,
    LastSwipe,
    LimitReached,
    PairEnded,
    Seen,
    SeenKeys,
    SeenSet,
    Swipe,
    SwipeAnswer,
    Swiped,
    Undo,
    Undone,
    UndoRefused,
)
from configs.contracts.errors import LogUnavailable, ShardUnavailable
from configs.contracts.ids import derived_id, key64, match_id, packed_keys
from configs.contracts.loading import ACTION_CODES
from configs.contracts.topics import MATCHING_SWIPE


def _people(slot: int, count: int) -> list[str]:
    """Ids in rising order that live in this slot of two."""
    world = World(settings())
    ids = (f"00000000-0000-7000-8000-{number:012x}" for number in range(10_000))
    found = [user_id for user_id in ids if world.slot_of(user_id) == slot]
    return found[:count]


A, B, C, D = _people(0, 4)
"""People of slot 0, A the lowest."""
E, F = _people(1, 40)[-2:]
"""People of slot 1, above A, B, C and D: their pairs' authority is slot 0."""
assert D < E


def run(scenario: Callable[[World], Awaitable[None]], **limits: int) -> World:
    loop = VirtualTimeLoop()
    world = World(settings(**limits))

    async def whole() -> None:
        await world.revive()
        await scenario(world)
        await world.settle()
        await world.close()

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()
    return world


@pytest.mark.parametrize("other", [B, E], ids=["one actor", "two actors"])
def test_two_likes_make_one_match_that_both_are_told(other: str) -> None:
    async def scenario(world: World) -> None:
        assert await world.swipe(A, other, "like") == SwipeAnswer(recorded=True)
        told = await world.swipe(other, A, "super_like")
        assert (told.matched, told.generation, told.recorded) == (True, 1, True)
        assert told.match_id == match_id(A, other)
        again = await world.swipe(A, other, "like")
        assert again == SwipeAnswer(True, told.match_id, 1, told.match_version, told.matched_at, recorded=False)

    [event] = run(scenario).matches()
    assert event.event_id == derived_id(match_id(A, other), "matched:1")


def test_two_hundred_pairs_that_like_at_once_match_once_each() -> None:
    """Both sides' swipes and a retry of each are in flight together, in both actors."""
    low, high = _people(0, 200), [user for user in _people(1, 400) if user > D][:200]

    async def scenario(world: World) -> None:
        commands = [
            Swipe(one, other, "like", f"{one} {other}")
            for a, b in zip(low, high, strict=True) for one, other in ((a, b), (b, a)) for _ in range(2)
        ]
        answers = await asyncio.gather(*(world.until("swipe", command) for command in commands))
        told = {answer.match_id for answer in answers if answer.matched}
        assert len(told) == 200, "of two that like each other, at least the later one is told"

    matches = Counter(event.payload.match_id for event in run(scenario).matches())
    assert len(matches) == 200
    assert set(matches.values()) == {1}


def test_a_late_retry_does_not_undo_a_newer_decision() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "pass", "first")
        await world.swipe(A, B, "like", "second")
        assert (await world.swipe(A, B, "pass", "first")).recorded is False
        assert isinstance(await world.ask("swipe", Swipe(A, C, "pass", "first")), IdempotencyConflict)
        assert (await world.swipe(B, A, "like")).matched

    assert len(run(scenario).swipes()[A]) == 2


def test_keys_and_limits_outlive_the_actor() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "pass", "first")
        await world.swipe(A, B, "like", "second")
        await world.swipe(A, C, "like")
        for committed in (False, True):
            if committed:
                world.rows.commit()
            await world.kill(world.lives[0])
            await world.revive()
            assert (await world.swipe(A, B, "pass", "first")).recorded is False
            assert await world.swipe(A, D, "like") == LimitReached(datetime(2026, 3, 2, tzinfo=UTC))

    run(scenario, likes_a_day=2)


def test_limits_are_by_day_and_kind_and_an_undo_gives_nothing_back() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "like")
        assert isinstance(await world.undo(A), Undone)
        assert isinstance(await world.swipe(A, C, "like"), LimitReached)
        assert (await world.swipe(A, C, "super_like")).recorded
        assert isinstance(await world.swipe(A, D, "super_like"), LimitReached)
        assert (await world.swipe(A, D, "pass")).recorded
        world.pass_time(12 * 3_600)
        assert (await world.swipe(A, E, "like")).recorded

    run(scenario, likes_a_day=1, super_likes_a_day=1)


@pytest.mark.parametrize("other", [B, E], ids=["one actor", "two actors"])
def test_an_undo_ends_the_match_and_the_pair_may_match_again(other: str) -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, other, "like")
        await world.swipe(other, A, "like")
        undone = await world.undo(other, "once")
        assert (undone.target_id, undone.action, undone.ended_match) == (A, "like", True)
        assert undone.match_version > 0
        repeated = await world.undo(other, "once")
        assert (repeated.target_id, repeated.action, repeated.ended_match) == (A, "like", True)
        assert await world.undo(other) == UndoRefused("nothing_to_undo")
        again = await world.swipe(other, A, "like")
        assert (again.matched, again.generation) == (True, 2)

    assert [event.payload.TYPE for event in run(scenario).matches()] == ["matched", "unmatched", "matched"]


def test_a_repeated_undo_never_withdraws_another_swipe() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "like")
        await world.undo(A, "once")
        await world.swipe(A, C, "like")
        world.rows.commit()
        await world.kill(world.lives[0])
        await world.revive()
        assert (await world.undo(A, "once")).target_id == B

    assert len(run(scenario).swipes()[A]) == 3


def test_only_the_last_swipe_within_the_window_can_be_undone() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "like")
        world.pass_time(301)
        assert await world.undo(A) == UndoRefused("too_late")

    run(scenario, undo_window_s=300)


def test_an_undo_that_comes_when_the_conversation_may_not_be_held_any_more_does_not_begin() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, B, "like")
        late = await world.ask("undo", Undo(A, None, B, until=world.now - timedelta(seconds=1)))
        assert isinstance(late, ShardUnavailable)
        in_time = await world.ask("undo", Undo(A, None, B, until=world.now + timedelta(seconds=7)))
        assert in_time.target_id == B

    assert len(run(scenario).swipes()[A]) == 2


def test_a_changed_mind_withdraws_the_like_but_does_not_end_a_match() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(E, A, "like")
        await world.swipe(E, A, "pass")
        assert not (await world.swipe(A, E, "like")).matched
        assert (await world.swipe(E, A, "like")).matched
        assert (await world.swipe(E, A, "pass")).matched, "the match stays, and so says the answer"

    assert run(scenario).states() == {(A, E): (1, "active")}


def test_an_unmatched_or_blocked_pair_never_matches_again() -> None:
    async def scenario(world: World) -> None:
        for other, reason in ((B, "unmatched"), (E, "blocked")):
            await world.swipe(A, other, "like")
            await world.swipe(other, A, "like")
            ended = await world.end(other, A, reason)
            assert ended.ended
            assert await world.end(A, other, reason) == ended, "repeating changes nothing"
            await world.swipe(A, other, "super_like")
            assert not (await world.swipe(other, A, "super_like")).matched

    assert len(run(scenario).matches()) == 4


def test_a_block_without_a_match_keeps_the_pair_from_matching() -> None:
    async def scenario(world: World) -> None:
        assert await world.end(A, B, "unmatched") == PairEnded(match_id(A, B), ended=False)
        blocked = await world.end(A, B, "blocked")
        assert (blocked.ended, blocked.generation) == (True, 0)
        assert not (await world.end(A, B, "unmatched")).ended
        await world.swipe(A, B, "like")
        assert not (await world.swipe(B, A, "like")).matched

    assert run(scenario).states() == {(A, B): (0, "blocked")}


@pytest.mark.parametrize("restored", ["alive", "log", "rows"])
def test_seen_are_the_swiped_and_the_ended_of_either_side(restored: str) -> None:
    async def scenario(world: World) -> None:
        await world.swipe(E, A, "pass")
        await world.swipe(E, B, "like")
        await world.undo(E)
        await world.end(C, E, "blocked")
        await asyncio.sleep(1)
        if restored != "alive":
            if restored == "rows":
                world.rows.commit()
            for life in list(world.lives.values()):
                await world.kill(life)
            await world.revive()
        service = world.lives[1].service
        [seen] = await service.seen([Seen(E, packed_keys((A, B, C, D)))])
        assert seen == bytes([1, 0, 1, 0])
        [answer] = await service.seen_set([SeenSet(E)])
        assert isinstance(answer, SeenKeys)
        assert np.frombuffer(answer.keys, "<u8").tolist() == sorted([key64(A), key64(C)])
        assert (await world.lives[0].service.seen([Seen(C, packed_keys((E,)))])) == [b"\1"]

    run(scenario)


def test_a_like_is_answered_years_later_from_rows() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(E, A, "like")
        world.rows.commit()
        for life in list(world.lives.values()):
            await world.kill(life)
        await world.revive()
        assert (await world.swipe(A, E, "like")).matched

    run(scenario)


def test_an_authority_that_is_away_delays_the_match_but_not_the_swipe() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, E, "like")
        await world.kill(world.lives[0])
        assert await world.ask("swipe", Swipe(E, A, "like")) == SwipeAnswer(recorded=True)
        await world.start(0)
        await asyncio.sleep(10)
        assert world.states() == {(A, E): (1, "active")}, "ten seconds after recovery"

    run(scenario)


def test_a_like_is_delivered_after_its_own_actor_died() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, E, "like")
        world.cut.add((1, 0))
        await world.swipe(E, A, "like")
        world.rows.commit()
        await asyncio.sleep(2)
        await world.kill(world.lives[1])
        world.cut.clear()
        await world.start(1)
        await asyncio.sleep(1)
        assert world.states() == {(A, E): (1, "active")}

    run(scenario)


def test_an_undo_is_acknowledged_only_once_the_authority_knows_it() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, E, "like")
        await world.swipe(E, A, "like")
        world.cut.add((1, 0))
        assert isinstance(await world.ask("undo", Undo(E, "u")), ShardUnavailable)
        refused = await world.ask("swipe", Swipe(E, A, "pass"))
        assert isinstance(refused, ShardUnavailable), "a newer swipe would hide the undo from the authority"
        world.cut.clear()
        assert (await world.undo(E, "u")).ended_match
        await world.swipe(E, A, "pass")

    assert run(scenario).states() == {(A, E): (1, "undone")}


def test_an_undo_of_a_named_target_leaves_a_newer_swipe_alone() -> None:
    """Whoever looked whom an undo would concern must not undo something else that came between."""

    async def scenario(world: World) -> None:
        assert await world.ask("last", LastSwipe(A)) == Swiped(None)
        await world.swipe(A, E, "like")
        await world.swipe(E, A, "like")
        assert await world.ask("last", LastSwipe(A)) == Swiped(E)
        await world.swipe(A, F, "pass")
        assert await world.until("undo", Undo(A, "u", E)) == UndoRefused("changed")
        undone = await world.until("undo", Undo(A, "u", F))
        assert (undone.target_id, undone.ended_match) == (F, False)
        assert await world.ask("last", LastSwipe(A, "u")) == Swiped(F, undone=True)
        ended = await world.until("undo", Undo(E, "v", A))
        assert (ended.ended_match, ended.generation) == (True, 1)

    run(scenario)


def test_a_late_append_takes_effect_and_is_delivered() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, E, "like")
        world.lives[1].appender.mode = "late"
        assert isinstance(await world.ask("swipe", Swipe(E, A, "like", "k")), LogUnavailable)
        world.lives[1].appender.release()
        await asyncio.sleep(3)
        assert world.states() == {(A, E): (1, "active")}

    run(scenario)


def test_rows_that_do_not_come_answer_unavailable_and_append_nothing() -> None:
    async def scenario(world: World) -> None:
        world.rows.down = True
        assert isinstance(await world.ask("swipe", Swipe(A, B, "like")), ShardUnavailable)
        [refused] = await world.lives[0].service.seen([Seen(A, bytes(8))])
        assert isinstance(refused, ShardUnavailable)

    assert run(scenario).swipes() == {}


def test_a_like_that_only_a_replaced_authority_took_is_delivered_to_its_successor() -> None:
    """The successor has restored; the swiper's actor does not know yet and hands the like to the frozen life."""

    async def scenario(world: World) -> None:
        old = world.lives[0]
        await world.swipe(E, B, "pass")
        [outbox] = [item for slot, item in enumerate(world.lives[1].service._outboxes) if slot == 0]
        await world.swipe(E, B, "like")
        service: Any = world.lives[1].service
        service._tail._task.cancel()  # its tail lags: the successor's barrier is not seen
        await world.start(0)
        zombie_took = await world.ask("swipe", Swipe(E, A, "like"))
        assert zombie_took.recorded
        await asyncio.sleep(0.1)
        assert len(outbox) == 0
        assert key64(E) in dict(old.service.people.changing(A, MATCHING_SWIPE, 0, 0).incoming.items())
        service._tail.follow()  # and now it catches up
        await asyncio.sleep(1)
        assert (await world.swipe(A, E, "like")).matched

    run(scenario)


def test_a_replaced_actor_ends_when_it_reads_its_successors_barrier() -> None:
    async def scenario(world: World) -> None:
        old = world.lives[0]
        await world.start(0)
        await asyncio.sleep(1)
        assert old.dead

    run(scenario)


async def _replaced_with_a_match_pending(world: World) -> Life:
    """A and E like each other; slot 0 froze while appending their match, and its successor knows nothing of E's like
    until the cut connection heals."""
    await world.swipe(A, E, "like")
    await asyncio.sleep(2)
    frozen = world.lives[0]
    frozen.appender.mode = "late"
    assert not (await world.ask("swipe", Swipe(E, A, "like"))).matched
    world.cut.add((1, 0))
    await world.start(0)
    return frozen


async def _wake(frozen: Life) -> None:
    frozen.appender.dead = False
    frozen.appender.release()
    await asyncio.sleep(2)


def test_a_replaced_authoritys_last_match_does_not_outlive_an_undo() -> None:
    async def scenario(world: World) -> None:
        frozen = await _replaced_with_a_match_pending(world)
        assert isinstance(await world.ask("undo", Undo(E, "u")), ShardUnavailable)
        world.cut.clear()
        assert not (await world.undo(E, "u")).ended_match
        assert world.matches() == []
        await _wake(frozen)

    assert run(scenario).states() == {(A, E): (1, "undone")}


def test_a_replaced_authoritys_last_match_does_not_outlive_a_block() -> None:
    async def scenario(world: World) -> None:
        frozen = await _replaced_with_a_match_pending(world)
        assert (await world.end(A, E, "blocked")).generation == 0
        await _wake(frozen)
        world.cut.clear()

    assert run(scenario).states() == {(A, E): (1, "unmatched")}


def test_only_people_whose_facts_rows_hold_are_forgotten() -> None:
    async def scenario(world: World) -> None:
        await world.swipe(A, E, "like")
        service: Any = world.lives[0].service
        service._limit = 0
        assert [await service.evict() for _ in range(3)] == [0, 0, 0]
        world.rows.commit()
        assert await service.evict() > 0
        assert len(service.people) == 0
        assert (await world.swipe(E, A, "like")).matched, "and come back from rows"

    run(scenario)


def test_a_person_whose_rows_are_on_their_way_is_not_forgotten() -> None:
    """The rows were read before the like came; forgetting the like before they arrive would lose it."""

    async def scenario(world: World) -> None:
        service: Any = world.lives[0].service
        service._limit = 0
        world.cut.add((1, 0))
        await world.swipe(E, A, "like")
        loading = asyncio.ensure_future(service.swipes.ensure_loaded([A]))
        await asyncio.sleep(0.001)
        await service.evict()
        service._swipe_memory.note(Delivery(E, A, ACTION_CODES["like"], world.swipes()[E][0][0]))
        world.rows.commit()
        for _ in range(3):
            await service.evict()
        await loading
        assert service.people.used(A).incoming.get(key64(E))

    run(scenario)


def test_many_deliveries_at_once_wait_for_rows_together() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.swipe(user, A, "like") for user in (B, C, D, E, F)))
        answers = [await world.swipe(A, user, "like") for user in (B, C, D, E, F)]
        assert all(answer.matched for answer in answers)

    run(scenario)
