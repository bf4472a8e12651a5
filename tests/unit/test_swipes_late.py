"""Swipe shards that are late, replaced, cut off or restarted keep what they promise, on a simulated log."""

from __future__ import annotations

import asyncio
from typing import Any

from swipe_world import A, B, C, D, E, F, Life, World, run

from actors.swipes.commands import (
    Delivery,
    LastSwipe,
    Seen,
    Swipe,
    SwipeAnswer,
    Swiped,
    Undo,
    UndoRefused,
)
from configs.contracts.errors import LogUnavailable, ShardUnavailable
from configs.contracts.ids import key64
from configs.contracts.loading import ACTION_CODES
from configs.contracts.topics import MATCHING_SWIPE


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
        assert (await world.end(A, E, "unmatched")).ended is False

    assert run(scenario).states() == {(A, E): (1, "blocked")}


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
