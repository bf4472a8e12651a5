"""A leak is found under what was stored rightly, and noise is none."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.launch.bench.soak import (
    Sample,
    Soak,
    _lasts,
    cores,
    exempt,
    failures,
    lag_growth,
    restarted,
    slopes,
)
from cluster.launch.bench.soak_load import COUPLES, Load
from configs.contracts.errors import ConfigurationError
from configs.settings import load_settings

MIB = 2**20
SIZE = 32 * MIB
MEASURE = """
import json, mmap, psutil
from cluster.launch.bench.soak import of_its_own

process = psutil.Process()
def figures():
    return {{"its own": of_its_own(process), "resident": process.memory_info().rss}}
def told(before):
    print(json.dumps({{name: value - before[name] for name, value in figures().items()}}))
content = b"x" * {size}
figures()
"""
OF_A_FILE = MEASURE + """
with open({path!r}, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    before = figures()
    assert sum(mapped[at] for at in range(0, {size}, mmap.PAGESIZE)) > 0
    told(before)
with mmap.mmap(-1, {size}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
    before = figures()
    taken.write(content)
    told(before)
"""
SHARED = MEASURE + """
with mmap.mmap(-1, {size}) as shared:  # as PostgreSQL's buffers, MAP_SHARED
    before = figures()
    shared.write(content)
    told(before)
"""


def sample(minute: int, lag: int = 5, **memory: float) -> Sample:
    """Each process by its MiB; of ``swipes`` 1 MiB a minute was stored."""
    known = {f"{name}/1": int(value * MIB) for name, value in memory.items()}
    stored = {"swipes/1": minute * MIB} if "swipes/1" in known else {}
    return Sample(minute * 60.0, known, known, stored, {"swipes/1": 100 * minute} if stored else {}, lag)


def test_what_was_stored_is_no_leak_and_what_was_not_is_one() -> None:
    run = [sample(minute, swipes=200 + minute, replica=100 + minute / 30, gateway=150) for minute in range(61)]
    found = {slope.process: slope for slope in slopes(run)}
    assert found["swipes/1"].percent_an_hour == pytest.approx(0, abs=1e-6)
    assert (found["swipes/1"].stored_mib, found["swipes/1"].new_entries) == (30.0, 3_000)
    assert found["replica/1"].mib_an_hour == pytest.approx(2, rel=1e-3)
    assert found["replica/1"].percent_an_hour == pytest.approx(2, rel=0.02)
    assert next(iter(slopes(run))).process == "replica/1", "the steepest first"


def test_the_allocators_share_of_what_is_stored_is_no_leak_and_more_than_that_is() -> None:
    # MiB an hour, of some 110 MiB after the warm-up; a third of it was there by then and is taken for the allocator's.
    for leaked, percent in ((0.0, 0.0), (3.0, 1.83)):
        run = [
            replace(sample(minute, valkey=1.2 * (60 + minute) + leaked * minute / 60), stored={"valkey/1": (60 + minute) * MIB})
            for minute in range(61)
        ]
        (slope,) = slopes(run)
        assert slope.percent_an_hour == pytest.approx(percent, abs=0.1)


def test_pages_of_a_mapped_file_are_the_systems_and_what_was_allocated_is_the_processes(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"x" * SIZE)
    os.sync()
    mapped, taken = _in_a_new_process(OF_A_FILE.format(path=str(tmp_path / "index"), size=SIZE))
    assert mapped["resident"] > SIZE / 2, "its pages are in memory"
    assert mapped["its own"] < SIZE / 2
    assert taken["its own"] > SIZE / 2


def test_shared_memory_is_nobodys_own_although_only_one_process_has_touched_it() -> None:
    (shared,) = _in_a_new_process(SHARED.format(size=SIZE))
    assert shared["resident"] > SIZE / 2
    assert shared["its own"] < SIZE / 2


def test_what_grows_in_steps_is_a_leak_and_the_largest_step_is_told() -> None:
    for every in (1, 5, 15):
        run = [sample(minute, replica=100 + every * (minute // every) / 30) for minute in range(121)]
        (slope,) = slopes(run)
        assert slope.percent_an_hour == pytest.approx(2, rel=0.1), every
        assert slope.step_mib == pytest.approx(every / 30, rel=1e-3)


def test_warming_up_and_noise_are_no_leak() -> None:
    run = [sample(minute, replica=min(100, 50 + 10 * minute) + (minute % 2)) for minute in range(61)]
    (slope,) = slopes(run)
    assert abs(slope.percent_an_hour) < 0.2


def test_the_embedded_brokers_log_is_not_judged_and_kafka_is() -> None:
    run = [sample(minute, broker=100 + minute, replica=100) for minute in range(61)]
    for broker, judged in (("memory", ["replica/1"]), ("kafka", ["broker/1", "replica/1"])):
        found = slopes(run, exempt(load_settings("test", broker=broker)))
        assert [slope.process for slope in found if slope.judged] == judged


def test_a_process_that_was_replaced_is_named_and_has_no_slope() -> None:
    run = [*(sample(minute, replica=100, gateway=150) for minute in range(30)), *(sample(minute, replica=100) for minute in range(30, 60))]
    assert restarted(run) == ["gateway/1"]
    assert [slope.process for slope in slopes(run)] == ["replica/1"]


def test_a_lag_that_grows_is_told_from_one_that_varies() -> None:
    assert lag_growth([sample(minute, lag=10 * minute) for minute in range(60)]) == pytest.approx(400)
    assert lag_growth([sample(minute, lag=50 * (minute % 2)) for minute in range(60)]) == pytest.approx(0, abs=1)


def test_a_process_that_shares_most_of_its_memory_is_measured_against_all_of_it() -> None:
    run = [sample(minute, backend=2 + minute / 600) for minute in range(61)]
    shared = [replace(one, resident={"backend/1": 20 * MIB}) for one in run]
    assert slopes(run)[0].percent_an_hour == pytest.approx(5, rel=0.05)
    assert slopes(shared)[0].percent_an_hour == pytest.approx(0.5, rel=0.05)


def test_what_costs_more_each_quarter_is_shown_by_component() -> None:
    run = [replace(sample(minute), cpu={"broker/1": 0.01 * minute**2, "broker/2": 6.0 * minute, "replica/3": 30.0 * minute}) for minute in range(61)]
    run[-1] = replace(run[-1], cpu={**run[-1].cpu, "writer/9": 100.0})
    found = cores(run)
    assert list(found) == ["replica", "broker"], "whoever was not there at a part's beginning is not in it"
    assert found["replica"] == pytest.approx([0.5] * 4)
    assert found["broker"] == pytest.approx([0.1 + 0.01 * (end**2 - (end - 15) ** 2) / 900 for end in (15, 30, 45, 60)])


def soaked(samples: list[Sample], *, minutes: float = 60, offered: int = 100_000, errors: int = 0) -> list[str]:
    return failures(Soak(200.0, minutes, offered=offered, errors=errors, samples=samples))


def test_a_run_whose_requests_failed_does_not_end_well_however_short_it_was() -> None:
    steady = [sample(minute, replica=100) for minute in range(61)]
    assert soaked(steady, errors=100) == []
    for minutes in (60, 5):
        (why,) = soaked(steady, minutes=minutes, errors=101)
        assert "101 of 100000" in why
    assert soaked(steady, offered=0)


def test_a_leak_that_ends_with_the_death_of_its_process_is_no_good_end() -> None:
    leaking = [sample(minute, swipes=100 + 10 * minute, replica=100) for minute in range(61)]
    died = [replace(one, memory={"swipes/2" if name == "swipes/1" else name: held for name, held in one.memory.items()}) for one in leaking]
    late = [*leaking[:45], *died[45:]]
    (why,) = soaked(late)
    assert "swipes/1" in why
    assert "swipes/2" in why
    assert soaked([*leaking[:15], *(sample(minute, replica=100) for minute in range(15, 61))]) == [], "in the warm-up it may be replaced"


def test_connections_and_workers_come_and_go() -> None:
    run = [replace(sample(minute, replica=100), memory={"replica/1": MIB, f"postgres/{minute}": MIB, f"ray system/{minute}": MIB}) for minute in range(61)]
    run = [replace(one, resident=one.memory) for one in run]
    assert soaked(run) == []


def test_what_grows_is_named_once_the_run_is_long_enough() -> None:
    run = [sample(minute, lag=100 * minute, replica=100 + minute) for minute in range(61)]
    assert soaked(run) == ["grows: replica/1, lag"]
    assert soaked(run, minutes=5) == []


def test_a_load_that_would_change_on_the_way_is_refused_before_it_begins() -> None:
    with pytest.raises(ConfigurationError, match="too few people") as raised:
        _lasts(2_000, 583, 120)
    assert 80 < int(raised.value.details["minutes"].split()[0]) < 100  # where one was seen to change
    _lasts(4_000, 583, 120)
    _lasts(2_000, 583, 60)


def test_people_swipe_each_other_once_those_who_do_most_most_and_only_then_back() -> None:
    load = object.__new__(Load)
    load.ids = [str(number) for number in range(2 * COUPLES + 300)]
    pairs = 300 * 299 // 2
    drawn = list(itertools.islice(load._distinct(np.random.default_rng(1)), 2 * pairs))
    assert len(set(drawn)) == 2 * pairs
    assert {(swiped, swiper) for swiper, swiped in drawn[:pairs]} == set(drawn[pairs:])
    assert {place for pair in drawn for place in pair} == set(range(2 * COUPLES, len(load.ids)))
    early = drawn[: pairs // 4]
    for side in (0, 1):
        least, *_, most = sorted(Counter(pair[side] for pair in early).values())
        assert most > 4 * least, "nobody's lists grow when everybody's do"
        assert most < 300 / 2 * 0.9, "and nobody has met all in half the time that is run"


def _in_a_new_process(script: str) -> list[dict[str, int]]:
    """The figures that it prints, by line: this process has hundreds of megabytes of other tests, taken and given back meanwhile."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in ran.stdout.splitlines()]
