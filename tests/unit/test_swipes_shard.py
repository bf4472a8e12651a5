"""What swipe shards promise a client, on a simulated log."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from swipe_world import A, B, C, D, E, World, people_of, run

from actors.swipes.commands import (
    IdempotencyConflict,
    LimitReached,
    PairEnded,
    Seen,
    SeenKeys,
    SeenSet,
    Swipe,
    SwipeAnswer,
    Undo,
    Undone,
    UndoRefused,
)
from configs.contracts.errors import ShardUnavailable
from configs.contracts.ids import derived_id, key64, match_id, packed_keys


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
    low, high = people_of(0, 200), [user for user in people_of(1, 400) if user > D][:200]

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
        for other in (Swipe(A, C, "pass", "first"), Swipe(A, B, "like", "first"), Swipe(A, B, "pass", "second")):
            assert isinstance(await world.ask("swipe", other), IdempotencyConflict)
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
