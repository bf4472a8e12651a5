"""What swipe shards keep in memory: facts by version, requests, rounds, deliveries; and whom their calls believe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.swipes.commands import Delivery, Verdict
from actors.swipes.facts import STALE, FactMap
from actors.swipes.outgoing import Outgoing
from actors.swipes.peers import RayPeers
from actors.swipes.people import People
from actors.swipes.person import ACTIVE, BLOCKED, UNDONE, Pair, Person, Requests, swipe_request, undo_request
from configs.contracts.errors import EpochFenced, ShardUnavailable
from configs.contracts.events import Swiped
from configs.contracts.ids import key64, new_id
from configs.contracts.positions import version_of
from configs.contracts.topics import MATCHING_SWIPE

NOW = datetime(2026, 3, 1, tzinfo=UTC)
A, B = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"


def test_an_older_or_repeated_fact_changes_nothing() -> None:
    facts = FactMap()
    assert facts.put(1, 9 << 2 | 1) == 0
    assert facts.put(1, 8 << 2 | 2) == STALE
    assert facts.put(1, 9 << 2 | 2) == STALE
    assert facts.get(1) == 9 << 2 | 1
    assert facts.put(1, 10 << 2) == 9 << 2 | 1
    assert facts.present().tolist() == []


def test_facts_of_two_generations_of_the_log_live_side_by_side() -> None:
    facts = FactMap()
    old, new = version_of(1, 5) << 2 | 1, version_of(2, 0) << 2 | 2
    facts.put(1, old)
    facts.put(2, new)
    facts.put(3, version_of(1, (1 << 40) - 1) << 2 | 3)
    assert (facts.get(1), facts.get(2)) == (old, new)
    assert facts.get(3) == version_of(1, (1 << 40) - 1) << 2 | 3


def test_a_remembered_swipe_costs_at_most_16_bytes() -> None:
    facts = FactMap()
    for number in range(300):
        facts.put(number * 7_919 % 1_000_003, version_of(1, number) << 2 | 1)
    assert facts.nbytes() <= 16 * 300


def test_requests_of_somebody_who_swipes_on_are_remembered_in_one_buffer() -> None:
    requests, sizes = Requests(), set()
    for number in range(500):
        requests.remember(swipe_request("like", f"key {number}"), new_id())
        if number > 64:
            sizes.add(sys.getsizeof(requests._entries))
    assert len(sizes) == 1


def test_the_newest_64_requests_are_remembered_and_a_repeated_one_takes_no_place() -> None:
    requests = Requests()
    for number in range(64):
        requests.remember(swipe_request("like", f"key {number}"), A)
    for _ in range(64):
        requests.remember(swipe_request("like", "key 63"), A)
    assert len(requests) == 64
    assert requests.swiped("key 0") == (key64(A), 1)
    requests.remember(swipe_request("like", "one more"), B)
    assert requests.swiped("key 0") is None
    assert requests.swiped("one more") == (key64(B), 1)


def test_a_request_of_before_swipes_named_their_action_is_known_by_its_target() -> None:
    requests = Requests()
    requests.remember("swipe k", A)
    requests.remember(swipe_request("pass", "k"), B)
    assert requests.swiped("k") == (key64(A), 0)
    assert len(requests) == 1


def test_one_key_may_name_a_swipe_and_an_undo() -> None:
    requests = Requests()
    requests.remember(undo_request("pass", "k"), A)
    assert requests.swiped("k") is None
    assert requests.undone("k") == (A, "pass")
    for number in range(64):
        requests.remember(swipe_request("like", str(number)), A)
    assert requests.undone("k") is None


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_states_of_a_pair_merge_in_any_order(order: Sequence[int]) -> None:
    states = [Pair(1, ACTIVE, 1, NOW), Pair(1, UNDONE, 2, NOW), Pair(2, ACTIVE, 3, NOW), Pair(2, BLOCKED, 4, NOW)]
    person = Person()
    for index in order:
        person.join(key64(B), states[index])
    assert person.pair(key64(B)) == states[3]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_a_block_that_knew_no_match_is_final_and_leaves_the_latest_generation(order: Sequence[int]) -> None:
    """As one that follows from rows that had not heard of the match."""
    states = [Pair(1, ACTIVE, 1, NOW), Pair(2, ACTIVE, 3, NOW), Pair(0, BLOCKED, 4, NOW)]
    person = Person()
    for index in order:
        person.join(key64(B), states[index])
    found = person.pair(key64(B))
    assert found is not None
    assert found.code == BLOCKED
    # Of a match that comes after its block nothing is wanted but that it be none.
    assert found.generation == (2 if order.index(2) > order.index(1) else 1 if order.index(2) > order.index(0) else 0)


def test_own_events_wait_for_rows_and_a_late_first_one_still_counts() -> None:
    person = Person()
    person.load(None)
    person.swiped(Swiped(swiper_id=A, swiped_id=B, action="like"), NOW, 51)
    other = "00000000-0000-7000-8000-00000000000c"
    assert person.swiped(Swiped(swiper_id=A, swiped_id=other, action="like"), NOW, 50) == 0
    assert person.swiped(Swiped(swiper_id=A, swiped_id=other, action="like"), NOW, 50) == STALE
    assert person.given(NOW.toordinal()) == (2, 0)
    assert person.last_target == B


def test_a_person_is_forgotten_only_after_every_partition_of_their_facts_is_in_rows() -> None:
    people = People([0], 1)
    people.load(A, None)
    people.changing(A, MATCHING_SWIPE, 0, 10)
    committed = {0: 10}

    def version(topic: str, partition: int) -> int:
        return committed[partition]

    for _ in range(3):
        people.turn_round(version)
        assert people.evict(0) == 0, "the rows hold everything below 10, and 10 is missing"
    committed[0] = 11
    people.turn_round(version)
    people.changing(A, MATCHING_SWIPE, 0, 12)
    assert people.evict(0) == 0, "what came since is not in the rows"
    committed[0] = 13
    for _ in range(2):
        people.turn_round(version)
    assert people.evict(0) == 1


def test_everybodys_bytes_are_estimated_by_people_from_the_first_to_the_last_who_came() -> None:
    people = People([0], 1)
    for number in range(1_000):
        user_id = new_id()
        people.load(user_id, None)
        person = people.changing(user_id, MATCHING_SWIPE, 0, number)
        for _ in range(60 if number >= 300 else 1):
            person.swiped(Swiped(swiper_id=user_id, swiped_id=new_id(), action="like"), NOW, number)
    told = sum(person.fact_bytes() for person in people)
    assert people.fact_bytes() == pytest.approx(told, rel=0.05)


def test_the_delivery_position_stays_at_the_oldest_delivery_that_was_not_taken() -> None:
    outgoing = Outgoing()
    outgoing.start({0: 5, 1: 0})
    outgoing.add(0, Delivery(A, B, 1, version_of(1, 4)))
    assert outgoing.drain() == [], "taken in an earlier life"
    first, second, third = (Delivery(A, target, 1, version_of(1, 7 + number)) for number, target in enumerate("xyz"))
    for delivery in (first, second, third):
        outgoing.add(0, delivery)
    outgoing.read(0, 8)
    assert outgoing.positions() == {0: 7, 1: 0}
    outgoing.taken(first)
    outgoing.taken(third)
    assert outgoing.positions()[0] == 8
    outgoing.taken(second)
    assert outgoing.positions()[0] == 8, "a predecessor's last write may still stand behind what was read"
    outgoing.read(0, 20)
    assert outgoing.positions()[0] == 20


def test_only_the_newest_fact_of_a_pair_is_delivered_and_hides_the_older() -> None:
    outgoing = Outgoing()
    outgoing.start({})
    like, undo = Delivery(A, B, 1, version_of(1, 1)), Delivery(A, B, 0, version_of(1, 2))
    outgoing.add(0, like)
    outgoing.add(0, undo)
    assert outgoing.drain() == [undo]
    outgoing.taken(like)
    assert outgoing.undoing(A, B)
    assert outgoing.positions() == {0: 1}
    outgoing.taken(undo)
    assert not outgoing.undoing(A, B)
    assert len(outgoing) == 0


class _Actor:
    def __init__(self, *epochs: int) -> None:
        self.epochs = list(epochs)

    async def call(self, service: str, method: str, commands: list[Any], traces: object = None) -> tuple[int, list[Any]]:
        return self.epochs.pop(0), [Verdict()] * len(commands)


async def test_an_answer_of_a_replaced_authority_is_no_answer() -> None:
    actors = [_Actor(2), _Actor(1), _Actor(3), _Actor(0, 3)]
    peers = RayPeers(resolve=lambda name: actors.pop(0))
    like = [Delivery(B, A, 1, 1)]
    assert await peers.deliver(0, like) == [Verdict()]
    peers.met(0, 3)
    with pytest.raises(EpochFenced):
        await peers.deliver(0, like)
    assert await peers.deliver(0, like) == [Verdict()]
    peers.met(0, 4)
    with pytest.raises(ShardUnavailable):
        await peers.deliver(0, like)
    with pytest.raises(EpochFenced):
        await peers.deliver(0, like)
    assert actors == []
