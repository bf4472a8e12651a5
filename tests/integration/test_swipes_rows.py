"""The rows that shards load, and the simulated rows of the model-based tests: the same log gives the same memory."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from swipe_world import _rows, facts, folded, pair_states

from actors.swipes.person import Person, swipe_request, undo_request
from configs.contracts.events import Event, Matched, Swiped, SwipeUndone, Unmatched
from configs.contracts.ids import key64, match_id, new_id, pair, partition_of
from configs.contracts.positions import version_of
from configs.settings import Settings
from writers.connections import open_rows
from writers.loads.swipes import swipes as load_swipes
from writers.records import Fact
from writers.sinks import matches as matches_sink
from writers.sinks import swipes as swipes_sink

pytestmark = pytest.mark.servers

GENERATION = 1
MODELLED = ["own", "incoming", "pairs", "ended", "last", "requests"]


def history(seed: int, people: list[str]) -> tuple[list[tuple[int, int, Event]], list[tuple[int, int, Event]]]:
    """(swipe events, match events) as shards could have appended them today, each as (partition, offset, event)."""
    chance = random.Random(seed)
    at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    swiped: list[tuple[int, int, Event]] = []
    ended: list[tuple[int, int, Event]] = []
    last: dict[str, Swiped | None] = {}
    for number in range(120):
        at += timedelta(milliseconds=1)
        swiper, target = chance.sample(people, 2)
        payload: Any
        undoing = last.get(swiper)
        if undoing is not None and chance.random() < 0.2:
            key = undo_request(undoing.action, f"{number}")
            payload = SwipeUndone(
                swiper_id=swiper, swiped_id=undoing.swiped_id, undone_action=undoing.action, idempotency_key=key
            )
            last[swiper] = None
        else:
            action = chance.choice(["like", "pass", "super_like"])
            payload = Swiped(
                swiper_id=swiper, swiped_id=target, action=action, idempotency_key=swipe_request(action, f"{number}")  # type: ignore[arg-type]
            )
            last[swiper] = payload
        swiped.append((partition_of(swiper, 4), number, Event(new_id(), at, swiper, payload)))
    for low, high in {pair(*chance.sample(people, 2)) for _ in range(8)}:
        name = match_id(low, high)
        steps = [Matched(match_id=name, low_id=low, high_id=high, generation=1)]
        reason = chance.choice([None, "unmatched", "blocked", "undone"])
        if reason is not None:
            steps.append(Unmatched(  # type: ignore[arg-type]
                match_id=name, low_id=low, high_id=high, generation=1, ended_by=low, reason=reason  # type: ignore[arg-type]
            ))
        if reason == "undone" and chance.random() < 0.5:
            steps.append(Matched(match_id=name, low_id=low, high_id=high, generation=2))
        ended += [
            (partition_of(name, 4), len(ended) + number, Event(new_id(), at, name, step))
            for number, step in enumerate(steps)
        ]
    return swiped, ended


def memory(person: Person, others: list[str]) -> dict[str, object]:
    """What a shard would say of the person."""
    states = {other: person.pair(key64(other)) for other in others}
    return {
        "own": {other: person.own.get(key64(other)) for other in others},
        "incoming": {other: person.incoming.get(key64(other)) if person.incoming else 0 for other in others},
        "pairs": {other: state and (state.generation, state.code) for other, state in states.items()},
        "ended": person.ended or set(),
        "last": (person.last_target, person.last_action, person.last_at if person.last_target else None),
        "requests": [(person.requests.swiped(str(number)), person.requests.undone(str(number))) for number in range(120)],
    }


@pytest.mark.parametrize("seed", range(5))
def test_rows_and_simulated_rows_make_the_same_memory(servers: Settings, seed: int) -> None:
    people = sorted(new_id() for _ in range(9))
    swiped, ended = history(seed, people)
    with open_rows(servers, "test") as conn:
        for sink, events in ((swipes_sink.SINK, swiped), (matches_sink.SINK, ended)):
            recorded = [Fact(event, version_of(GENERATION, offset), partition) for partition, offset, event in events]
            for start in range(0, len(recorded), 50):
                with conn.transaction(), conn.cursor() as cursor:
                    sink.write(cursor, recorded[start : start + 50])
        stored = load_swipes(conn, people, datetime.now(UTC))
    by_swiper = folded(swiped, GENERATION)
    newest, states = facts(by_swiper), pair_states(ended)
    liked = {
        (event.payload.swiper_id, event.payload.swiped_id) for _, _, event in swiped
        if isinstance(event.payload, Swiped) and event.payload.action != "pass"
    }
    for user in people:
        real, simulated = Person(), Person()
        real.load(stored[user])
        simulated.load(_rows(user, by_swiper.get(user, []), newest, states))
        others = [other for other in people if other != user]
        told, expected = memory(real, others), memory(simulated, others)
        for other in others:  # of a pass, rows say only that it follows a like; the simulated ones leave all passes out
            for said in (told["incoming"], expected["incoming"]):
                assert isinstance(said, dict)
                if said[other] & 3 in (0, 2):
                    assert said is expected["incoming"] or not said[other] or (other, user) in liked
                    said[other] = 0
        assert {name: told[name] for name in MODELLED} == {name: expected[name] for name in MODELLED}
