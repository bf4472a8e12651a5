"""The capacity model and its page, on costs that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.launch.bench import everything
from cluster.launch.bench.accounting import APART, SERVING
from cluster.launch.bench.capacity import BUSY, capacity, of_cards, population_for, rates
from cluster.launch.bench.everything import LOADED_BY_EMBEDDED, loaded_by, variants
from cluster.launch.bench.page import RULER, figures, runs_of, write_page
from configs.contracts.errors import ConfigurationError

NOTHING: dict[str, Any] = {"bytes_a_person": 0.0, "bytes_a_swipe": 0.0, "bytes_a_socket": 0.0, "mib_a_process": {}}


def costs(**some: float) -> dict[str, float]:
    return dict.fromkeys((*SERVING, *APART), 0.0) | some


def test_cores_are_rates_times_costs_and_processes_share_them() -> None:
    found = capacity({"swipe": costs(replica=0.2, valkey=0.01)}, 100_000, **NOTHING)
    assert rates(100_000)["swipe"] == 10_000
    needs = {need.component: need for need in found.needs}
    assert needs["replica"].cores == pytest.approx(2.0)
    assert needs["replica"].processes == 4, "2 cores, 0.6 of a core a process"
    assert needs["replica"].full is None
    assert needs["valkey"].full == pytest.approx(0.1 / (3 * BUSY))
    assert (found.full_first, found.full_at) == ("valkey", 1_800_000)
    assert found.cores == pytest.approx(2.1)
    assert found.nodes == 1


def test_ten_times_the_people_need_ten_times_the_cores_and_memory() -> None:
    memory = NOTHING | {"bytes_a_person": 1_000.0, "bytes_a_swipe": 14.0, "bytes_a_socket": 25_000.0}
    small, large = (capacity({"feed": costs(replica=0.5)}, online, **memory) for online in (100_000, 1_000_000))
    assert large.cores == pytest.approx(10 * small.cores)
    assert large.memory_gib == pytest.approx(10 * small.memory_gib)
    assert small.memory_gib * 2**30 == pytest.approx(2_000_000 * (1_000 + 300 * 14) + 100_000 * 25_000)


def test_every_process_takes_memory_before_anybody_comes_and_every_node_has_its_own() -> None:
    # 20 cores of replicas: 34 processes, and 3 nodes of 16 cores at 60 %.
    found = capacity({"swipe": costs(replica=2.0)}, 100_000, **NOTHING | {"mib_a_process": {"replica": 512.0, "ray system": 1_024.0, "cards": 100.0}})
    assert (found.nodes, {need.component: need.processes for need in found.needs}["replica"]) == (3, 34)
    assert found.memory_gib == found.processes_gib == pytest.approx(34 / 2 + 3 * 1.0), "no process of the cards is needed"
    full = capacity({"swipe": costs(replica=2.0)}, 100_000, **NOTHING | {"mib_a_process": {"replica": 4_096.0, "ray system": 18.4 * 1_024}})
    assert full.nodes == 7, "136 GiB, of 38.4 a node 20 are left"


def test_a_plan_takes_the_costs_of_as_many_people_or_of_the_most_that_were_measured() -> None:
    measured = {"10000 people": 10_000, "1000000 people": 1_000_000, "100000 people": 100_000}
    assert population_for(50_000, measured) == population_for(100_000, measured) == "100000 people"
    assert population_for(2_000_000, measured) == "1000000 people"


def test_cards_are_a_mix_of_found_and_made_decks() -> None:
    assert of_cards(costs(replica=1.0), costs(replica=2.0, cards=1.0)) == pytest.approx(costs(replica=1.2, cards=0.2))


def outcome(rate: float) -> dict[str, Any]:
    return {"rate": rate, "p50_ms": 10.0, "p99_ms": 40.0, "max_ms": 90.0, "errors": 0.0}


def bench(*operations: str, cost: float, noop: float = RULER) -> dict[str, Any]:
    runs = []
    for operation in operations:
        for kind, rate in (("closed loop", 1_000.0), ("half peak", 475.0), ("peak", 950.0)):
            serving = {name: cost / len(SERVING) for name in SERVING}
            runs.append({
                "name": f"{operation} {kind}", "cpu_s_per_1000": cost, "times_noop": cost / noop, "serving": serving,
                "apart": dict.fromkeys(APART, 0.01), "outcome": outcome(rate),
            })
    return {"noop_cpu_s_per_1000": noop, "runs": runs}


def platform(people: int, cost: float, **plan: int) -> dict[str, Any]:
    told = {"cpu_s_per_1000": costs(gateway=0.1, broker=0.2, writer=0.1), "rate": 900.0, "sent": 900, "delivered": 900, "delivery_p50_ms": 50.0, "delivery_p99_ms": 90.0}
    return {
        "people": people, "plan": plan, "cores": 2, "idle_cores": {"broker": 0.06}, "memory_mib": {"cards": 100.0 + people / 1_000},
        "benches": {
            "swipe": bench("swipe", cost=cost), "cards": bench("cards warm", "cards cold", cost=cost),
            "feed": bench("feed", cost=cost), "messages": bench("messages", cost=cost), "login": bench("login", cost=30 * cost),
            "delivery": {"closed loop": told, "half peak": told},
        },
    }


def test_the_page_tells_every_operation_its_growth_and_both_plans(tmp_path: Path) -> None:
    found = {"10000 people": platform(10_000, 0.5), "100000 people": platform(100_000, 0.75), "2 gateways": platform(10_000, 0.5, GATEWAYS=2)}
    found["2 gateways"]["benches"] = {"sockets": {"bytes_a_socket": 25_000}}
    page = write_page(found, tmp_path).read_text()
    assert page.count("<svg") == 2
    for text in ("cards cold", "0.750 (1.50 ×)", "100,000 people online", "1,000,000 people online", "<td>0.500</td>"):
        assert text in page, text
    assert "<span class=missed>0.500</span>" not in page, "within the limit"
    assert "<span class=missed>0.540</span>" in page, "with what follows the answer it misses the aim"
    assert "not measured" not in page
    told = json.loads((tmp_path / "all.json").read_text())
    assert told["operations"]["10000 people"]["swipe"]["rate"] == 950.0, "the peak counts"
    assert 8 < told["memory"]["bytes_a_swipe"] <= 16, "the limit, of 300 swipes a person"
    assert told["memory"]["bytes_a_person"] == pytest.approx(2**20 / 1_000)
    assert set(told["capacity"]) == {"100000", "1000000"}
    assert told["capacity"]["100000"]["cores"] > 10
    dear = {"100000 people": platform(100_000, 0.75)}
    dear["100000 people"]["benches"]["sockets"] = {"bytes_a_socket": 25_000}
    assert told["capacity"]["100000"]["cores"] == pytest.approx(figures(dear)["capacity"]["100000"].cores), "what few people cost is no plan for many"
    assert told["costs_of"] == dict.fromkeys(("100000", "1000000"), "100000 people")
    assert page.count("costs as measured with 100000 people") == 2


def test_a_missed_limit_is_marked(tmp_path: Path) -> None:
    found = {"10000 people": platform(10_000, 0.9)}
    found["10000 people"]["benches"]["sockets"] = {"bytes_a_socket": 25_000}
    page = write_page(found, tmp_path).read_text()
    assert "<span class=missed>0.900</span>" in page
    assert "not measured: one population" in page


def test_a_slower_machine_is_judged_by_what_its_no_op_costs(tmp_path: Path) -> None:
    slow = platform(10_000, 0.9)
    slow["benches"] |= {
        "swipe": bench("swipe", cost=1.2, noop=2 * RULER),
        "sockets": {"bytes_a_socket": 25_000},
    }
    page = write_page({"10000 people": slow}, tmp_path).read_text()
    told = json.loads((tmp_path / "all.json").read_text())["operations"]["10000 people"]
    assert told["swipe"]["measured_cost"] == pytest.approx(1.2)
    assert told["swipe"]["cost"] == pytest.approx(0.6), "twice the no-op's cost, half of it the machine's"
    assert "<td>1.200</td>" in page
    assert "<td>0.600</td>" in page, "within the limit"
    # Delivery has no no-op of its own here: that of the other benches counts.
    assert told["delivery"]["noop"] == RULER


def test_figures_from_before_a_component_was_counted_apart_are_read() -> None:
    older = platform(10_000, 0.5)
    older["benches"]["sockets"] = {"bytes_a_socket": 25_000}
    for run in older["benches"]["swipe"]["runs"]:
        del run["serving"]["commerce"]
    del older["benches"]["delivery"]["closed loop"]["cpu_s_per_1000"]["commerce"]
    told = figures({"10000 people": older})["operations"]["10000 people"]
    assert told["swipe"]["costs"]["commerce"] == 0.0
    assert told["swipe"]["cost"] == pytest.approx(0.5 * (1 - 1 / len(SERVING)))


def test_what_is_missing_is_named() -> None:
    found = {"10000 people": platform(10_000, 0.5)}
    with pytest.raises(ConfigurationError):
        figures(found)
    del found["10000 people"]["benches"]["feed"]
    assert "feed" not in runs_of(found["10000 people"], RULER)


def test_every_population_and_number_of_replicas_has_a_platform() -> None:
    made = variants([100_000, 10_000], [1, 4])
    assert [variant.name for variant in made] == ["10000 people", "100000 people", "4 replicas", "2 gateways"]
    assert {variant.people for variant in made[2:]} == {10_000}
    assert made[2].plan == {"SERVE_REPLICAS": 4}


def test_a_report_is_written_again_from_what_was_measured_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(name: str, found: dict[str, Any]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        for bench, result in found.pop("benches").items():
            (folder / f"{bench}.json").write_text(json.dumps(result))
        (folder / "platform.json").write_text(json.dumps(found))

    keep("10000-people", platform(10_000, 0.5))
    keep("100000-people", platform(100_000, 0.75))
    gateways = platform(10_000, 0.5, GATEWAYS=2)
    gateways["benches"] = {"sockets": {"bytes_a_socket": 25_000}, "delivery": gateways["benches"]["delivery"]}
    keep("2-gateways", gateways)
    monkeypatch.setattr(everything, "_measure", None)
    everything.everything(tmp_path / "none", output=tmp_path, seconds=1, populations="10000,100000", replicas="1", sockets=1_000, minutes=0)
    assert "100,000 people online" in (tmp_path / "index.html").read_text()
    assert json.loads((tmp_path / "all.json").read_text())["people"] == {"10000 people": 10_000, "100000 people": 100_000}


def test_more_people_than_the_embedded_broker_bears_are_loaded_through_kafka() -> None:
    assert loaded_by(LOADED_BY_EMBEDDED) == {}
    assert loaded_by(LOADED_BY_EMBEDDED + 1) == {"SUGAR_BROKER": "kafka"}
