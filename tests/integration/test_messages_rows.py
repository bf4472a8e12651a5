"""Messages in rows: batches, repetitions and writes of replaced shards give what the model says, and shards load it back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from message_world import counted, entry_of, rows_of

from actors.messages.conversation import Conversation
from cluster.connections.redis import apply, sync_client
from configs.contracts.conversations import (
    PAGE_MESSAGES,
    WINDOW,
    head_key,
    page_key,
    page_name,
    read_message,
    read_page,
    window_key,
)
from configs.contracts.events import TOPIC_OF, Event, Matched, MessageRead, MessageSent, Payload, Unmatched
from configs.contracts.ids import derived_id, match_id, new_id, pair
from configs.contracts.loading import ConversationRow
from configs.contracts.read_model import listing_keys
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.differences import head_differences
from writers.loader import Loader
from writers.loads import messages
from writers.projections.operations import changes_of
from writers.records import Fact

pytestmark = pytest.mark.servers

BEGIN = datetime(2026, 3, 1, 12, 0, 0, 250_001, tzinfo=UTC)


class Story:
    """One conversation's events in the order of the log, zombies among them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.low, self.high = pair(new_id(), new_id())
        self.name = match_id(self.low, self.high)
        self.facts: list[Fact] = []
        self.add(Matched(match_id=self.name, low_id=self.low, high_id=self.high, generation=1))
        sent = {self.low: 0, self.high: 0}
        seq = 0
        for epoch in range(1, self.chance.randint(1, 4) + 1):
            zombie = dict(sent)
            for _ in range(self.chance.randint(0, 5)):
                seq += 1
                self.send(seq, epoch, sent)
            if epoch > 1:
                # The life before goes on from what it knew, beside this one.
                for number in range(self.chance.randint(0, 3)):
                    self.send(seq - self.chance.randint(0, 1) + number, epoch - 1, zombie)
        for reader in (self.low, self.high):
            for mark in self.chance.sample(range(1, 9), 3):
                self.add(MessageRead(
                    conversation_id=self.name, reader_id=reader, other_id=self.other(reader), seq=mark, ordinal=mark // 2
                ))
        if self.chance.random() < 0.3:
            self.add(Unmatched(
                match_id=self.name, low_id=self.low, high_id=self.high, generation=1, ended_by=self.low, reason="unmatched"
            ))

    def other(self, member: str) -> str:
        return self.high if member == self.low else self.low

    def send(self, seq: int, epoch: int, sent: dict[str, int]) -> None:
        if seq < 1:
            return
        sender = self.chance.choice([self.low, self.high])
        sent[sender] += 1
        request = f"request {len(self.facts)} ä"
        self.add(MessageSent(
            message_id=derived_id(self.name, request), conversation_id=self.name, sender_id=sender,
            recipient_id=self.other(sender), seq=seq, ordinal=sent[sender], epoch=epoch, client_message_id=request,
            content=self.chance.choice((f"text {len(self.facts)} – 日本 🙂", "")), post_id=self.chance.choice([None, new_id()]),
            attachments=tuple(derived_id(self.name, f"media {number}") for number in range(self.chance.randint(0, 2))),
        ))

    def add(self, payload: Payload) -> None:
        at = BEGIN + timedelta(seconds=len(self.facts), microseconds=len(self.facts))
        self.facts.append(Fact(Event(new_id(), at, self.name, payload), 1 << 40 | len(self.facts) + 1, 0))

    def expected(self) -> ConversationRow:
        row = rows_of(self.name, [(fact.event, fact.version) for fact in self.facts], BEGIN)
        assert row is not None
        return ConversationRow(self.name, self.low, self.high, row.status, row.generation, b"", row.reads)


@pytest.fixture
def conn(servers: Settings) -> Iterator[Connection]:
    with open_rows(servers, "test") as opened:
        yield opened


def write(conn: Connection, facts: list[Fact]) -> None:
    with conn.transaction(), conn.cursor() as cur:
        write_facts(cur, facts)


def stored(conn: Connection, name: str) -> list[tuple[int, int, str, int]]:
    return conn.execute(
        "SELECT seq, epoch, id::text, version FROM messages WHERE conversation_id = %s ORDER BY seq", (name,)
    ).fetchall()


@pytest.mark.parametrize("seed", range(25))
def test_rows_hold_exactly_the_messages_that_count_in_whatever_batches_they_come(conn: Connection, seed: int) -> None:
    story = Story(seed)
    left = list(story.facts)
    while left:
        size = story.chance.randint(1, len(left))
        write(conn, left[:size])
        # Positions may go back: the same records once more.
        write(conn, left[: story.chance.randint(1, size)])
        left = left[size:]
    kept = counted([(fact.event, fact.version) for fact in story.facts])
    assert stored(conn, story.name) == [
        (fact.event.payload.seq, fact.event.payload.epoch, fact.event.payload.message_id, fact.version) for fact in kept
    ]
    row = messages.conversations(conn, [story.name, match_id(new_id(), new_id())])
    expected = story.expected()
    assert list(row) == [story.name]
    found = row[story.name]
    assert (found.low_id, found.high_id, found.status, found.generation, dict(found.reads)) == (
        expected.low_id, expected.high_id, expected.status, expected.generation, dict(expected.reads)
    )


def test_old_requests_are_found_by_their_message_and_by_digest(conn: Connection) -> None:
    story = Story(3)
    write(conn, story.facts)
    kept = counted([(fact.event, fact.version) for fact in story.facts])
    last, unknown = kept[-1].version, match_id(new_id(), new_id())
    wanted = [(story.name, fact.event.payload.message_id) for fact in kept] + [(story.name, new_id()), (unknown, new_id())]
    assert messages.sent(conn, wanted) == [(last, entry_of(fact)) for fact in kept] + [(last, b""), (0, b"")]
    [(stored_seq, digests), nothing] = messages.older_requests(conn, [(story.name, 4), (unknown, 9)])
    assert (stored_seq, nothing) == (last, (0, b""))
    assert {digests[at : at + 8] for at in range(0, len(digests), 8)} == {entry_of(fact)[:8] for fact in kept[:3]}


@pytest.mark.parametrize("seed", range(25))
def test_a_shard_that_loads_rows_remembers_what_one_remembers_that_saw_the_log(conn: Connection, seed: int) -> None:
    story = Story(seed)
    write(conn, story.facts)
    loaded, followed = Conversation(), Conversation()
    loaded.load(messages.conversations(conn, [story.name])[story.name])
    followed.load(None)
    for fact in story.facts:
        payload = fact.event.payload
        if isinstance(payload, MessageSent):
            followed.take(payload, fact.event.occurred_at, fact.version)
        elif isinstance(payload, MessageRead):
            followed.mark(payload, fact.event.occurred_at)
    assert [loaded.recent.number(seq) for seq in range(1, 30)] == [followed.recent.number(seq) for seq in range(1, 30)]
    assert {name: mark[:2] for name, mark in loaded.marks.items()} == {name: mark[:2] for name, mark in followed.marks.items()}


@pytest.mark.parametrize("seed", range(15))
def test_projected_heads_and_windows_equal_the_rows_whatever_came_late(
    servers: Settings, conn: Connection, seed: int
) -> None:
    story = Story(seed)
    left = list(story.facts)
    with sync_client(servers) as client:
        while left:
            size = story.chance.randint(1, len(left))
            for facts in (left[:size], left[: story.chance.randint(1, size)]):
                write(conn, facts)
                apply(client, changes_of(conn, by_topic(facts)).operations)
            left = left[size:]
        assert head_differences(client, messages.load_heads(conn, [story.name])) == []
        kept = counted([(fact.event, fact.version) for fact in story.facts])
        window = client.hgetall(window_key(story.name))
        assert {int(seq): read_message(value).message_id for seq, value in window.items()} == {
            fact.event.payload.seq: fact.event.payload.message_id for fact in kept
        }
        # Lost, and warmed from rows.
        client.delete(head_key(story.name), window_key(story.name))
        assert head_differences(client, messages.load_heads(conn, [story.name]))
        for found, operations in (
            messages.conversation_operations(conn, [story.name]),
            messages.page_operations(conn, [page_name(story.name, WINDOW), page_name(story.name, 0)]),
        ):
            assert found
            apply(client, operations)
        assert head_differences(client, messages.load_heads(conn, [story.name])) == []
        warmed = client.hgetall(window_key(story.name))
        assert {seq: value for seq, value in warmed.items() if seq != b"*"} == window


@pytest.mark.parametrize("message_first", [True, False])
def test_a_conversation_of_a_second_match_stands_at_its_newest_message_whichever_topic_is_projected_first(
    servers: Settings, conn: Connection, message_first: bool
) -> None:
    story = Story(0)
    story.facts = story.facts[:1]
    story.add(Unmatched(match_id=story.name, low_id=story.low, high_id=story.high, generation=1, ended_by=story.low, reason="unmatched"))
    before = list(story.facts)
    story.add(Matched(match_id=story.name, low_id=story.low, high_id=story.high, generation=2))
    story.send(1, 1, {story.low: 0, story.high: 0})
    matched, sent = story.facts[-2:]
    with sync_client(servers) as client:
        write(conn, before)
        apply(client, changes_of(conn, by_topic(before)).operations)
        write(conn, [matched, sent])
        for fact in (sent, matched) if message_first else (matched, sent):
            apply(client, changes_of(conn, by_topic([fact])).operations)
        at_ms = int(sent.event.occurred_at.timestamp() * 1_000)
        assert [client.zscore(listing_keys("conv", who)[0], story.name) for who in (story.low, story.high)] == [at_ms, at_ms]


def by_topic(facts: list[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for fact in facts:
        found.setdefault(TOPIC_OF[type(fact.event.payload)].name, []).append(fact)
    return found


def test_a_page_of_older_messages_exists_once_all_of_it_is_in_rows(servers: Settings, conn: Connection) -> None:
    story = Story(1)
    story.facts = story.facts[:1]
    sent = {story.low: 0, story.high: 0}
    for seq in range(1, PAGE_MESSAGES + 2):
        story.send(seq, 1, sent)
    write(conn, story.facts[:-3])
    pages = [page_name(story.name, 0), page_name(story.name, 1)]
    assert messages.page_operations(conn, pages) == ([], [])
    write(conn, story.facts)
    found, operations = messages.page_operations(conn, pages)
    assert found == pages[:1]
    with sync_client(servers) as client:
        apply(client, operations)
        assert [entry.seq for entry in read_page(client.get(page_key(pages[0])))] == list(range(1, PAGE_MESSAGES + 1))


async def test_the_loader_counts_the_others_messages_up_to_a_number(servers: Settings, conn: Connection) -> None:
    story = Story(3)
    write(conn, story.facts)
    kept = counted([(fact.event, fact.version) for fact in story.facts])
    loader = Loader(servers)
    try:
        places = [(story.name, seq, reader) for seq in range(1, len(kept) + 2) for reader in (story.low, story.high)]
        counts = await loader.ordinals(places)
        assert {stored for stored, _ in counts} == {kept[-1].version}
        for (_, seq, reader), (_, count) in zip(places, counts, strict=True):
            others = sum(fact.event.payload.sender_id != reader for fact in kept[:seq])
            assert count == (others if seq <= len(kept) else -1)
        assert list(await loader.conversations([story.name])) == [story.name]
    finally:
        await loader.close()
