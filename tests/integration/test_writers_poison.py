"""What cannot be applied goes to the dead letters, up to a limit; what is not the record's fault is raised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
from test_writers_commit import Bench, contents, record, swiped

from configs.contracts import events
from configs.contracts.errors import DeadLetterLimit
from configs.contracts.ids import new_id
from configs.settings import Settings
from writers.commit import Failure
from writers.connections import open_rows
from writers.dead_letters import list_letters, show_letter
from writers.records import LogRecord

pytestmark = pytest.mark.servers

GENERATIONS = count(1_000)


@pytest.fixture
def bench(servers: Settings) -> Iterator[Bench]:
    with open_rows(servers, "test") as conn:
        yield Bench(conn)


def test_poison_goes_to_the_dead_letters_with_its_bytes_and_everything_else_to_the_rows(
    bench: Bench, servers: Settings
) -> None:
    user = new_id()
    good = [swiped(user, new_id(), "like", offset) for offset in range(0, 40, 2)]
    bad = [
        LogRecord("matching.swipe", 0, 41, b"\xff", b"\x00not json", (("traceparent", b"\xfe"), ("none", None))),
        LogRecord("matching.swipe", 0, 43, None, None),
        swiped(user, "not-an-id", "like", 45),
        swiped(user, "0 a1b2c3-d4e5-7000-8000-00000000000 ", "like", 46),
        record(events.ProfileChanged(user_id=new_id(), display_name="x" * 101), 47),
        record(events.ProfileChanged(user_id=new_id(), bio="zero\0byte"), 49),
        record(events.UserCreated(user_id=new_id(), role="sugar_baby", display_name="A", birth_date="31 May"), 51),
    ]
    generation = next(GENERATIONS)
    bench.owned, bench.before = bench.claim({"matching.swipe": generation})
    copied: list[Failure] = []
    records = sorted(good + bad, key=lambda each: each.offset)
    outcome = bench.commit(records, copy=copied.extend)
    assert (outcome.dead, bench.position()) == (len(bad), 52)
    assert len(contents(bench.conn, user)["swipes"]) == len(good)
    letters = {
        letter.offset: letter for letter in list_letters(servers, topic="matching.swipe", limit=1_000)
        if letter.generation == generation
    }
    assert sorted(letters) == [each.offset for each in bad]
    for each in bad:
        shown = show_letter(servers, letters[each.offset].id)
        assert shown is not None
        assert shown.record == each
        assert shown.error
        assert "x" * 101 not in shown.error
    assert sorted(failed.offset for failed, _ in copied) == sorted(letters)


def test_past_the_limit_nothing_is_skipped_and_nothing_is_stored(bench: Bench) -> None:
    user = new_id()
    records = [swiped(user, new_id(), "like", 0), *(swiped(user, "no", "like", offset) for offset in range(1, 4))]
    generation = next(GENERATIONS)
    bench.owned, bench.before = bench.claim({"matching.swipe": generation})
    with pytest.raises(DeadLetterLimit) as caught:
        bench.commit(records, limit=2)
    assert caught.value.details["topic"] == "matching.swipe"
    assert bench.position() == 0
    assert not any(contents(bench.conn, user).values())
    assert bench.conn.execute("SELECT 1 FROM dead_letters WHERE generation = %s", (generation,)).fetchall() == []


def test_dead_letters_of_the_last_minute_count_whoever_stored_them(bench: Bench) -> None:
    generation = next(GENERATIONS)
    bench.owned, bench.before = bench.claim({"matching.swipe": generation})
    bench.conn.execute("UPDATE dead_letters SET failed_at = failed_at - interval '2 minutes' WHERE topic = 'matching.swipe'")
    bench.commit([swiped(new_id(), "no", "like", 0)], limit=1)
    restarted, position = bench.claim({"matching.swipe": generation})
    with pytest.raises(DeadLetterLimit):
        bench.commit([swiped(new_id(), "no", "like", 1)], owned=restarted, before=position, limit=1)


def test_what_is_not_the_records_fault_is_raised_and_not_dead_lettered(bench: Bench) -> None:
    with bench.conn.transaction(force_rollback=True):
        bench.conn.execute("ALTER TABLE swipes RENAME TO elsewhere")
        with pytest.raises(psycopg.ProgrammingError):
            bench.commit([swiped(new_id(), new_id(), "like", 0)])
    assert bench.position() == 0
