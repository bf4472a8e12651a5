"""What logging one response of cards costs: ``python -m actors.impressions.measure [--cards 20] [--responses 2000]``."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time, time
from typing import Any

from rich.console import Console
from rich.table import Table

from actors.impressions.client import FACTS_A_COMMAND
from actors.impressions.commands import Append, Shown
from actors.impressions.shard import record_of
from configs.contracts.events import CardsServed
from configs.contracts.ids import new_id


def served(cards: int, candidates: tuple[str, ...]) -> Shown:
    """One response, as a replica makes it."""
    return Shown.of(new_id(), int(time() * 1e6), CardsServed(
        viewer_id=candidates[0], configuration=3, model_version="boosted-like:0123456789ab",
        decided_at=datetime.fromtimestamp(1.7e9, UTC), candidate_ids=candidates, positions=tuple(range(cards)),
        scores=tuple(-0.1 * place for place in range(cards)), propensities=(1.0,) * cards,
    ))


def measured(cards: int, responses: int) -> dict[str, float]:
    """Microseconds of CPU a response by step, and bytes in the log."""
    candidates = [tuple(new_id() for _ in range(cards)) for _ in range(responses)]
    facts: list[Shown] = []
    packed: list[bytes] = []
    unpacked: list[Append] = []
    records: list[Any] = []
    batches = [slice(first, first + FACTS_A_COMMAND) for first in range(0, responses, FACTS_A_COMMAND)]
    return {
        "replica: make": _cost(lambda: facts.extend(served(cards, ids) for ids in candidates), responses),
        "replica: pickle": _cost(lambda: packed.extend(pickle.dumps(Append(tuple(facts[part])), 5) for part in batches), responses),
        "shard: unpickle": _cost(lambda: unpacked.extend(map(pickle.loads, packed)), responses),
        "shard: record": _cost(lambda: records.extend(record_of(fact, 16) for one in unpacked for fact in one.facts), responses),
        "bytes in the log": sum(len(record.value) for record in records) / responses,
    }


def _cost(step: Callable[[], object], responses: int) -> float:
    began = process_time()
    step()
    return (process_time() - began) / responses * 1e6


def main(arguments: list[str]) -> None:
    """Prints the table and writes ``impressions.json``."""
    parser = argparse.ArgumentParser(prog="python -m actors.impressions.measure", description=__doc__)
    parser.add_argument("--cards", type=int, default=20, help="cards in a response")
    parser.add_argument("--responses", type=int, default=2_000, help="responses to measure")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory for the JSON")
    options = parser.parse_args(arguments)
    found = measured(options.cards, options.responses)
    table = Table("step", "µs a response", title=f"{options.cards} cards a response, batches of {FACTS_A_COMMAND}, without Ray")
    for name, value in found.items():
        table.add_row(name, f"{value:.1f}")
    Console().print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "impressions.json").write_text(json.dumps(vars(options) | {"figures": found}, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
