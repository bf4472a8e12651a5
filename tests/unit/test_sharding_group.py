"""What a shard's turn promises: durable before visible, once each, and nothing forgotten while an append is late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from actors.posts.commands import NoPost, WritePost, Written
from actors.posts.state import PostAnswer, PostCommand, PostMemory
from actors.sharding.group import ShardGroup
from actors.sharding.memory import Append, Decision
from cluster.connections.kafka import Record
from configs.contracts.errors import AppendUnconfirmed, DependencyUnavailable, LogUnavailable, ShardUnavailable
from configs.contracts.events import Barrier, ContentRemoved, Event, NotificationRead, PostAccess, encode
from configs.contracts.ids import new_id, partition_of
from configs.contracts.positions import version_of
from configs.contracts.topics import CONTENT_PUBLISHED, NOTIFICATION_SEND

TOPIC = NOTIFICATION_SEND
PARTITIONS = 4


@dataclass(frozen=True)
class Claim:
    """Claims a name; the answer says whether this command was the first."""

    name: str


class ClaimMemory:
    """One fact a key: the version at which it was claimed."""

    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}
        self.loaded: set[str] = set()

    def needs(self, command: Claim) -> Sequence[str]:
        return (command.name,)

    def known(self, key: str) -> bool:
        return key in self.loaded

    def load(self, key: str, row: object | None) -> None:
        self.loaded.add(key)
        if isinstance(row, int):
            self.claimed.setdefault(key, row)

    def conflict_key(self, command: Claim) -> str:
        return command.name

    def decide(self, command: Claim, now: datetime) -> Decision[str]:
        if command.name in self.claimed:
            return Decision((), lambda versions: "taken")
        event = Event(new_id(), now, command.name, NotificationRead(notification_id=command.name, user_id="u"))
        return Decision((Append(TOPIC, command.name, event),), lambda versions: f"claimed {versions[0]}")

    def apply(self, event: Event, version: int) -> None:
        self.claimed[event.key] = max(version, self.claimed.get(event.key, 0))

    def entries(self) -> int:
        return len(self.loaded)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        gone = [key for key in self.loaded if self.claimed.get(key, 0) < committed(key)][: len(self.loaded) - limit]
        for key in gone:
            self.loaded.discard(key)
            self.claimed.pop(key, None)
        return len(gone)


class HeldLog:
    """A log whose acknowledgements a test releases by hand, or at once."""

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self.records: list[Record] = []
        self.waiting: list[tuple[asyncio.Future[list[int]], list[int]]] = []
        self.blocked = False

    def generation(self, topic: str) -> int:
        return 1

    def submit(self, records: Sequence[Record]) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        offsets = []
        for record in records:
            offsets.append(sum(1 for known in self.records if known.partition == record.partition))
            self.records.append(record)
        if self.held:
            self.waiting.append((future, offsets))
        else:
            future.set_result(offsets)
        return future

    def release(self) -> None:
        for future, offsets in self.waiting:
            future.set_result(offsets)
        self.waiting.clear()


async def no_rows(keys: Sequence[str]) -> Mapping[str, object]:
    return {}


SOON_S = 0.02
"""Deadline of appends where they are to miss it."""
LATE_S = 60.0
"""Where they are not, however long a busy machine takes."""


def group(log: HeldLog, load=no_rows, deaths: list[str] | None = None, deadline_s: float = LATE_S) -> ShardGroup[Claim, str]:
    return ShardGroup(
        ClaimMemory(), log, load, partitions=PARTITIONS, append_deadline_s=deadline_s,
        die=(deaths if deaths is not None else []).append,
    )


async def test_two_commands_of_one_key_in_one_batch_see_each_other() -> None:
    answers = await group(HeldLog()).record([Claim("a"), Claim("a"), Claim("b")])
    assert answers[0] == f"claimed {version_of(1, 0)}"
    assert answers[1] == "taken"
    assert str(answers[2]).startswith("claimed")


async def test_fifty_racing_batches_claim_a_name_once() -> None:
    log = HeldLog()
    shard = group(log)
    answers = await asyncio.gather(*(shard.record([Claim("a")]) for _ in range(50)))
    assert sorted(answer[0] for answer in answers)[:1] == [f"claimed {version_of(1, 0)}"]
    assert [answer[0] for answer in answers].count("taken") == 49
    assert len(log.records) == 1


async def waiting(log: HeldLog, appends: int = 1) -> None:
    while len(log.waiting) < appends:
        await asyncio.sleep(0)


async def test_calls_that_wait_for_an_append_share_the_next_one() -> None:
    log = HeldLog(held=True)
    shard = group(log)
    calls = [asyncio.create_task(shard.record([Claim("first")]))]
    await waiting(log)
    calls += [asyncio.create_task(shard.record([Claim(f"{number} a"), Claim(f"{number} b")])) for number in range(5)]
    await asyncio.sleep(0.005)
    assert len(log.records) == 1
    log.release()
    await waiting(log)
    assert len(log.records) == 11, "each call waited for an append of its own"
    log.release()
    answers = await asyncio.gather(*calls)
    assert [len(answer) for answer in answers] == [1, 2, 2, 2, 2, 2]
    assert len({claimed for answer in answers for claimed in answer}) >= 3, "one answer went to everybody"
    assert shard.describe()["turns"] == 2


async def test_a_call_of_a_busy_key_holds_no_other_call_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log = HeldLog(held=True)
    shard = group(log)
    monkeypatch.setattr(shard.memory, "apply", lambda event, version: None)  # so that each claim appends
    busy = asyncio.create_task(shard.record([Claim("a"), Claim("b"), Claim("a")]))
    other = asyncio.create_task(shard.record([Claim("c")]))
    await waiting(log)
    log.release()
    assert (await other)[0].startswith("claimed")
    assert not busy.done(), "its second claim is still to be appended"
    await waiting(log)
    log.release()
    assert len(await busy) == 3


async def test_a_fault_is_raised_to_its_callers_and_the_group_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = group(HeldLog())
    with monkeypatch.context() as patched:
        patched.setattr(shard.memory, "decide", lambda command, now: 1 / 0)
        faults = await asyncio.gather(*(shard.record([Claim("a")]) for _ in range(3)), return_exceptions=True)
    assert [type(fault) for fault in faults] == [ZeroDivisionError] * 3
    assert (await shard.record([Claim("a")]))[0].startswith("claimed")


async def test_calls_keep_to_themselves_where_a_group_is_made_so() -> None:
    log = HeldLog(held=True)
    shard = ShardGroup[Claim, str](
        ClaimMemory(), log, no_rows, partitions=PARTITIONS, append_deadline_s=5.0, die=lambda reason: None, joined=False,
    )
    calls = [asyncio.create_task(shard.record([Claim(f"{number} a"), Claim(f"{number} b")])) for number in range(3)]
    for appended in (2, 4, 6):
        await waiting(log)
        assert len(log.records) == appended
        log.release()
    await asyncio.gather(*calls)


async def test_nothing_is_visible_before_the_log_acknowledged() -> None:
    log = HeldLog(held=True)
    shard = group(log)
    task = asyncio.create_task(shard.record([Claim("a")]))
    while not log.waiting:
        await asyncio.sleep(0)
    assert shard.memory.claimed == {}
    log.release()
    assert (await task)[0] == f"claimed {version_of(1, 0)}"


async def test_a_late_append_refuses_new_work_and_takes_effect_when_it_succeeds() -> None:
    log = HeldLog(held=True)
    shard = group(log, deadline_s=SOON_S)
    late = (await shard.record([Claim("a")]))[0]
    assert isinstance(late, LogUnavailable)
    refused = (await shard.record([Claim("a")]))[0]
    assert isinstance(refused, ShardUnavailable)
    assert len(log.records) == 1
    log.release()
    log.held = False
    while shard.describe()["unsettled"]:
        await asyncio.sleep(0)
    assert (await shard.record([Claim("a")]))[0] == "taken"


async def test_an_append_that_can_never_be_known_discards_the_shard() -> None:
    log, deaths = HeldLog(held=True), []
    shard = group(log, deaths=deaths)
    task = asyncio.create_task(shard.record([Claim("a")]))
    while not log.waiting:
        await asyncio.sleep(0)
    log.waiting[0][0].set_exception(AppendUnconfirmed("gone"))
    assert isinstance((await task)[0], AppendUnconfirmed)
    assert len(deaths) == 1


async def test_rows_decide_what_memory_has_forgotten() -> None:
    async def rows(keys: Sequence[str]) -> Mapping[str, object]:
        return {"old": 7}

    assert await group(HeldLog(), rows).record([Claim("old"), Claim("new")]) == ["taken", f"claimed {version_of(1, 0)}"]


async def test_a_loader_that_fails_answers_unavailable_and_appends_nothing() -> None:
    async def rows(keys: Sequence[str]) -> Mapping[str, object]:
        raise DependencyUnavailable("down")

    log = HeldLog()
    assert isinstance((await group(log, rows).record([Claim("a")]))[0], ShardUnavailable)
    assert log.records == []


async def test_many_waiting_commands_ask_for_a_row_once() -> None:
    asked: list[str] = []

    async def rows(keys: Sequence[str]) -> Mapping[str, object]:
        asked.extend(keys)
        await asyncio.sleep(0)
        return {}

    shard = group(HeldLog(), rows)
    await asyncio.gather(*(shard.record([Claim("a"), Claim(str(number))]) for number in range(10)))
    assert asked.count("a") == 1


async def test_its_own_records_are_skipped_in_the_tail_and_foreign_ones_applied() -> None:
    log = HeldLog()
    shard = group(log)
    partition = partition_of("a", PARTITIONS)
    shard.follow(TOPIC.name, partition, 0)
    await shard.record([Claim("a")])
    foreign = Event(new_id(), datetime.now(UTC), "a", NotificationRead(notification_id="a", user_id="u"))
    barrier = Event(new_id(), datetime.now(UTC), "x", Barrier(nonce="x"))
    shard.memory.claimed.clear()
    shard.take(TOPIC.name, partition, [(0, log.records[0].value), (1, encode(barrier)), (2, b"not an event")])
    assert shard.memory.claimed == {}, "its own record was applied a second time, or a barrier or poison was"
    shard.take(TOPIC.name, partition, [(3, encode(foreign))])
    assert shard.memory.claimed == {"a": version_of(1, 3)}, "a predecessor's acknowledged record was discarded"


async def test_only_what_rows_hold_is_forgotten() -> None:
    shard = group(HeldLog())
    await shard.record([Claim(str(number)) for number in range(20)])
    uncommitted = await shard.evict(5, {}, 1)
    assert uncommitted == 0
    assert await shard.evict(5, dict.fromkeys(range(PARTITIONS), 100), 1) == 15


@pytest.mark.parametrize("batch", [0, 1])
async def test_an_empty_batch_is_answered(batch: int) -> None:
    assert len(await group(HeldLog()).record([Claim("a")] * batch)) == batch


def ordered_group(log: HeldLog, hurried: list[int], deadline_s: float) -> ShardGroup[Claim, str]:
    return ShardGroup(
        ClaimMemory(), log, no_rows, partitions=PARTITIONS, append_deadline_s=deadline_s, die=lambda reason: None,
        in_order=(TOPIC.name,), hurry=lambda: hurried.append(1),
    )


async def test_behind_a_record_that_it_does_not_know_nothing_is_acknowledged_before_the_tail_showed_it() -> None:
    log, hurried = HeldLog(), list[int]()
    shard = ordered_group(log, hurried, SOON_S)
    partition = partition_of("a", PARTITIONS)
    shard.follow(TOPIC.name, partition, 0)
    barrier = encode(Event(new_id(), datetime.now(UTC), "x", Barrier(nonce="x")))
    log.records.append(Record(TOPIC.name, partition, "x", barrier))
    assert isinstance((await shard.record([Claim("a")]))[0], LogUnavailable)
    assert hurried
    assert isinstance((await shard.record([Claim("a")]))[0], ShardUnavailable), "not even what it believes to know"
    await asyncio.sleep(0.05)
    assert shard.memory.claimed == {}
    shard.take(TOPIC.name, partition, [(0, barrier)])
    while shard.describe()["unsettled"]:
        await asyncio.sleep(0)
    assert (await shard.record([Claim("a")]))[0] == "taken"


async def test_a_tail_that_shows_it_in_time_delays_the_answer_only() -> None:
    log = HeldLog()
    shard = ordered_group(log, [], LATE_S)
    partition = partition_of("a", PARTITIONS)
    shard.follow(TOPIC.name, partition, 0)
    barrier = encode(Event(new_id(), datetime.now(UTC), "x", Barrier(nonce="x")))
    log.records.append(Record(TOPIC.name, partition, "x", barrier))
    asyncio.get_running_loop().call_later(0.005, shard.take, TOPIC.name, partition, [(0, barrier)])
    assert (await shard.record([Claim("a")]))[0] == f"claimed {version_of(1, 1)}"
    same = next(name for name in map(str, range(100)) if partition_of(name, PARTITIONS) == partition)
    assert (await shard.record([Claim(same)]))[0] == f"claimed {version_of(1, 2)}", "its own records stand side by side"


async def test_an_edit_that_stands_behind_a_removal_answers_with_the_removed_post() -> None:
    """Its answer is written into the read model: one that knew nothing of the removal would show the post for good."""
    log, creator, post = HeldLog(), new_id(), new_id()
    shard: ShardGroup[PostCommand, PostAnswer] = ShardGroup(
        PostMemory(), log, no_rows, partitions=PARTITIONS, append_deadline_s=LATE_S, die=lambda reason: None,
        in_order=(CONTENT_PUBLISHED.name,),
    )
    partition = partition_of(creator, PARTITIONS)
    shard.follow(CONTENT_PUBLISHED.name, partition, 0)
    public = PostAccess(visibility="public")
    made = WritePost(
        creator_id=creator, post_id=post, create=True, content_type="text", caption="words", access=public, state="published",
    )
    (published,) = await shard.record([made])
    assert isinstance(published, Written)
    assert published.record.state == "published"
    gone = ContentRemoved(post_id=post, creator_id=creator, reason="moderation", decision_id=new_id())
    removal = encode(Event(new_id(), datetime.now(UTC), creator, gone))
    log.records.append(Record(CONTENT_PUBLISHED.name, partition, creator, removal))
    asyncio.get_running_loop().call_later(0.005, shard.take, CONTENT_PUBLISHED.name, partition, [(1, removal)])
    (edited,) = await shard.record([WritePost(creator_id=creator, post_id=post, create=False, caption="other words")])
    assert isinstance(edited, Written)
    assert (edited.record.state, edited.record.version) == ("removed", version_of(1, 1))
    assert isinstance((await shard.record([WritePost(creator_id=creator, post_id=post, create=False, caption="again")]))[0], NoPost)
