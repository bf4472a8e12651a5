"""Faults are the same from the same seed, and the checker finds what a platform may not do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chaos.under_load import serves_again
from chaos.workload import Person, Workload

from cluster.launch.chaos import command
from cluster.launch.chaos.checker import Held, contradictions
from cluster.launch.chaos.clock import Clocks
from cluster.launch.chaos.history import History, Operation, read_history
from cluster.launch.chaos.platform import ChaosPlatform
from cluster.launch.chaos.proxy import Proxy
from cluster.launch.chaos.schedule import NEMESES, ON_KAFKA, Nemesis, Step, schedule
from cluster.launch.state import State, write_state
from configs.contracts.ids import match_id

ANN, BOB, CAT = (f"0192d4e0-0000-7000-8000-00000000000{number}" for number in (1, 2, 3))
PAIR = match_id(ANN, BOB)
OPERATIONS = [
    Operation(ANN, "swipe", 1, 2, "ok", {"target": BOB, "action": "like"}),
    Operation(BOB, "swipe", 2, 3, "ok", {"target": ANN, "action": "like", "match": PAIR}),
    Operation(ANN, "send", 4, 5, "ok", {"conversation": PAIR, "content": "a/1", "seq": 1}),
    Operation(BOB, "send", 5, 6, "unknown", {"conversation": PAIR, "content": "b/1"}),
    Operation(ANN, "send", 6, 7, "ok", {"conversation": PAIR, "content": "a/2", "seq": 3}),
    Operation(BOB, "look", 7, 8, "ok", {"matches": [PAIR]}),
]
HELD = Held(
    swipes={(ANN, BOB): "like", (BOB, ANN): "like"},
    matches=[(ANN, BOB, PAIR, "active"), (BOB, ANN, PAIR, "active")],
    messages={PAIR: [(1, ANN, "a/1"), (2, BOB, "b/1"), (3, ANN, "a/2")]},
    notified={(ANN, PAIR): 1, (BOB, PAIR): 1},
)
BLOCKED = Operation(ANN, "block", 9, 10, "ok", {"target": BOB})
ENDED = replace(HELD, matches=[(ANN, BOB, PAIR, "blocked"), (BOB, ANN, PAIR, "blocked")])


def test_the_same_seed_makes_the_same_faults_and_each_comes_before_any_comes_again() -> None:
    assert schedule(7, 600) == schedule(7, 600)
    assert schedule(7, 600) != schedule(8, 600)
    steps = schedule(7, 600)
    assert len({step.nemesis for step in steps[:len(NEMESES)]}) == len(NEMESES)
    assert sum(step.wait_s + step.lasts_s for step in steps) <= 600


def test_a_platform_that_keeps_its_word_contradicts_nothing() -> None:
    assert contradictions(OPERATIONS, HELD) == []
    assert contradictions([*OPERATIONS, BLOCKED, Operation(BOB, "look", 11, 12, "ok", {"matches": []})], ENDED) == []


def test_a_swipe_that_was_never_answered_may_have_taken_effect_or_not() -> None:
    for action in ("like", "pass"):
        late = [*OPERATIONS, Operation(ANN, "swipe", 9, 99, "unknown", {"target": BOB, "action": "pass"})]
        assert contradictions(late, replace(HELD, swipes={**HELD.swipes, (ANN, BOB): action})) == []


def test_of_processes_alike_the_seed_says_which_one(tmp_path: Path) -> None:
    brokers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(3)]
    try:
        named = {f"broker-{number}" if number > 1 else "broker": broker.pid for number, broker in enumerate(brokers, 1)}
        write_state(tmp_path, State(pids=named | {"payments": os.getpid()}))
        found = ChaosPlatform(tmp_path, 1, seed=1)._pids("broker")
        assert found == [broker.pid for broker in brokers]
        steps = [step for seed in range(20) for step in schedule(seed, 60, ON_KAFKA)]
        assert {pid for step in steps for pid in step.one_of(found)} == set(found)
        assert [step.one_of(found) for step in steps] == [step.one_of(found) for seed in range(20) for step in schedule(seed, 60, ON_KAFKA)]
        assert steps[0].one_of([]) == []
    finally:
        for broker in brokers:
            broker.kill()
            broker.wait()


KILL = Step(0.0, Nemesis("kill", "broker"), 0.0)
PAUSE = Step(0.0, Nemesis("pause", "broker", 8.0), 0.0)


async def test_a_fault_that_finds_nobody_is_missed_and_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FOUND_S", 0.0)
    history = History(tmp_path / "history.jsonl")
    write_state(tmp_path, State(pids={"broker": 0}))
    assert not await command.carry_out(KILL, ChaosPlatform(tmp_path, 1, seed=1), history)
    history.close()
    assert '"phase": "missed"' in history.path.read_text()
    assert '"phase": "begins"' not in history.path.read_text()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as started:
        yield started
        started.kill()


async def test_a_fault_waits_for_the_successor_of_a_process_that_has_just_died(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    history = History(tmp_path / "history.jsonl")
    write_state(tmp_path, State(pids={"broker": 0}))
    carried_out = asyncio.create_task(command.carry_out(KILL, ChaosPlatform(tmp_path, 1, seed=1), history))
    await asyncio.sleep(0.1)
    assert not carried_out.done()
    write_state(tmp_path, State(pids={"broker": process.pid}))
    assert await carried_out
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL
    history.close()


def test_a_kind_of_fault_that_never_hit_anybody_fails_the_run() -> None:
    assert command.never_hit([KILL, PAUSE, KILL], [KILL, PAUSE]) == [], "of two of a kind one hit"
    assert command.missed([KILL, PAUSE, KILL], [KILL, PAUSE]) == {"kill broker": 1}
    (problem,) = command.never_hit([KILL, PAUSE, PAUSE], [KILL])
    assert "pause broker: 2" in problem


async def test_a_platform_serves_again_once_everybody_was_answered_and_not_one_of_them_often() -> None:
    workload = Workload("http://127.0.0.1:1")
    workload.people = [Person(ANN, "a", ""), Person(BOB, "b", "")]
    workload.people[0].answered = workload.tally.statuses[200] = 5

    async def answer() -> None:
        for _ in range(100):
            workload.people[0].answered += 1
            workload.tally.statuses[200] += 1
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="1 people"):
        await asyncio.gather(serves_again(workload, timeout_s=0.3), answer())
    for person in workload.people:
        person.answered = 0
    waiting = asyncio.create_task(serves_again(workload))
    await asyncio.sleep(0)
    for person in workload.people:
        person.answered = 2
    assert await waiting >= 0


@pytest.mark.parametrize(("held", "what"), [
    (replace(HELD, swipes={(BOB, ANN): "like"}), "swipe"),
    (replace(HELD, swipes={**HELD.swipes, (ANN, BOB): "pass"}), "swipe"),
    (replace(HELD, matches=[]), "no active match"),
    (replace(HELD, matches=HELD.matches[:1]), "rows"),
    (replace(HELD, matches=[*HELD.matches, HELD.matches[0]]), "rows"),
    (replace(HELD, matches=[(ANN, BOB, PAIR, "active"), (BOB, ANN, PAIR, "unmatched")]), "one of them"),
    (replace(HELD, notified={(ANN, PAIR): 2, (BOB, PAIR): 1}), "2 notifications"),
    (replace(HELD, messages={}), "message"),
    (replace(HELD, messages={PAIR: [*HELD.messages[PAIR], (4, ANN, "a/1")]}), "rows have it at [1, 4]"),
    (replace(HELD, messages={PAIR: [(1, ANN, "a/1"), (3, ANN, "a/2")]}), "gaps"),
    (replace(HELD, messages={PAIR: [*HELD.messages[PAIR], (4, CAT, "c/1")]}), "by nobody"),
])
def test_what_the_rows_lack_double_or_mix_up_is_found(held: Held, what: str) -> None:
    assert any(what in problem for problem in contradictions(OPERATIONS, held))


@pytest.mark.parametrize(("later", "held"), [
    (Operation(BOB, "look", 11, 12, "ok", {"matches": [PAIR]}), ENDED),
    (Operation(BOB, "send", 11, 12, "ok", {"conversation": PAIR, "content": "b/2", "seq": 4}), replace(
        ENDED, messages={PAIR: [*HELD.messages[PAIR], (4, BOB, "b/2")]},
    )),
    (Operation(CAT, "look", 11, 12, "ok", {"matches": []}), HELD),
])
def test_an_ended_match_that_goes_on_is_found(later: Operation, held: Held) -> None:
    assert contradictions([*OPERATIONS, BLOCKED, later], held)


def test_what_began_before_the_end_was_acknowledged_may_show_it() -> None:
    assert contradictions([*OPERATIONS, BLOCKED, Operation(BOB, "look", 9.5, 12, "ok", {"matches": [PAIR]})], ENDED) == []


def test_numbers_out_of_order_are_found() -> None:
    swapped = [replace(one, about=one.about | {"seq": {1: 3, 3: 1}[one.about["seq"]]}) if "seq" in one.about else one for one in OPERATIONS]
    held = replace(HELD, messages={PAIR: [(1, ANN, "a/2"), (2, BOB, "b/1"), (3, ANN, "a/1")]})
    assert any("out of order" in problem for problem in contradictions(swapped, held))


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.note(seed=1)
    for one in OPERATIONS:
        history.add(one)
    history.close()
    assert list(read_history(history.path)) == OPERATIONS


async def test_a_partition_holds_back_what_is_sent_and_lets_it_through_afterwards() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1")
    proxy = Proxy(server.sockets[0].getsockname()[1], 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
    writer.write(b"one")
    assert await asyncio.wait_for(reader.read(100), 30) == b"one"
    proxy.weather = "partition"
    writer.write(b"two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(100), 0.2)
    proxy.weather = "pass"
    assert await asyncio.wait_for(reader.read(100), 30) == b"two"
    writer.close()
    await proxy.close()
    server.close()


@pytest.mark.skipif(not Clocks.possible(), reason="needs a C compiler, as the faults of clocks do")
def test_a_clock_is_moved_in_one_process_and_back_again(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    environment = {**os.environ, **clocks.environment()}
    show = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", show], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    def wrong_by(process: subprocess.Popen[str]) -> tuple[float, float]:
        """(wall clock, monotonic clock) against this process's."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("now\n")
        process.stdin.flush()
        wall, steady = map(float, process.stdout.readline().split())
        return wall - time.time(), steady - time.monotonic()

    try:
        for moved in (-60.0, 60.0):
            clocks.move([processes[0].pid], moved)
            assert wrong_by(processes[0]) == (pytest.approx(moved, abs=5), pytest.approx(0, abs=5))
            assert wrong_by(processes[1])[0] == pytest.approx(0, abs=5)
        clocks.restore()
        assert wrong_by(processes[0])[0] == pytest.approx(0, abs=5)
    finally:
        for process in processes:
            process.communicate(timeout=10)
