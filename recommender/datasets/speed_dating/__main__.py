"""``python -m recommender.datasets.speed_dating PATH --protocol cold|warm|both|limits``: prints the table, writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recommender.datasets.speed_dating import limits, protocols, reading
from recommender.evaluation.calibration import log_loss


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recommender.datasets.speed_dating",
        description="Judges pre-date rankers on the Columbia speed-dating data. AUC within a wave, mean of waves, with "
        "95 % intervals by bootstrap over waves.",
    )
    parser.add_argument("path", type=Path, help="speed_dating.csv or speed_dating.csv.gz")
    parser.add_argument("--protocol", choices=("cold", "warm", "both", "limits"), default="both",
                        help="cold: leave one wave out; warm: five folds over pairs; limits: what the number of decisions "
                        "and waves leaves out of reach (default: both)")
    parser.add_argument("--waves", help="only these waves, as 1,2,5 or 1-14 (default: all in the file)")
    parser.add_argument("--seed", type=int, default=0, help="of the warm protocol's folds (default: 0)")
    parser.add_argument("--draws", type=int, default=10, help="of limits: drawn worlds, at least 1 (default: 10)")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="directory of the JSON file")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    try:
        dates = reading.read(options.path)
        if options.waves:
            dates = dates.of_waves(_numbers(options.waves))
    except (OSError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    results: dict[str, Any] = {"waves": dates.waves, "decisions": len(dates), "people": int(dates.side.size)}
    if options.protocol in ("cold", "both") and len(dates.waves) > 1:
        results["cold"] = _cold(dates, console)
    if options.protocol in ("warm", "both"):
        results["warm"] = _warm(dates, options.seed, console)
    if options.protocol == "limits":
        results["limits"] = _limits(dates, max(options.draws, 1), options.seed, console)
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / "speed_dating.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"{len(dates)} decisions, {len(dates.waves)} waves; written to {target}")
    return 0


def _cold(dates: reading.Dates, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    ruler, model = (protocols.judged(dates, run(dates)) for run in (protocols.cold_ruler, protocols.cold_model))
    base = log_loss(dates.match, protocols.base_rate(dates))
    constant = log_loss(dates.match, dates.match * 0.0 + dates.match.mean())
    found = {
        "plain regression": protocols.described(ruler), "model": protocols.described(model, ruler),
        "base_rate_log_loss": {"of the other waves": base, "of all": constant}, "seconds": time.monotonic() - began,
    }
    _print(console, "Cold: one wave left out, sign-up answers only", found)
    console.print(f"log loss of the base rate: {base:.4f} of the other waves, {constant:.4f} of all")
    return found


def _warm(dates: reading.Dates, seed: int, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    ruler, model = (protocols.judged(dates, run(dates, seed)) for run in (protocols.warm_ruler, protocols.warm_model))
    found = {
        "plain regression": protocols.described(ruler), "model": protocols.described(model, ruler), "seed": seed,
        "seconds": time.monotonic() - began,
    }
    _print(console, "Warm: five folds over pairs, the wave's other decisions known", found)
    return found


def _limits(dates: reading.Dates, draws: int, seed: int, console: Console) -> dict[str, Any]:
    ceiling, curve = limits.warm_ceiling(dates, draws, seed), limits.learning_curve(dates, seed=seed)
    worlds = {
        name: {"mean": float(values.mean()), "deviation": float(values.std()), "worlds": values.tolist()}
        for name, values in (("every effect known", ceiling.oracle), ("learned from as many decisions", ceiling.learned))
    }
    table = Table(title=f"Warm, {ceiling.oracle.size} worlds of the fitted model, variance of effects × {ceiling.widened:g}: like AUC (deviation between worlds)")
    for name in worlds:
        table.add_column(name, justify="right")
    table.add_row(*(f"{found['mean']:.4f} ({found['deviation']:.4f})" for found in worlds.values()))
    console.print(table)
    table = Table(title="Cold: like AUC by the number of waves learned from")
    for size in curve:
        table.add_column(f"{size} waves", justify="right")
    table.add_row(*(f"{value:.4f}" for value in curve.values()))
    console.print(table)
    return {"warm": worlds, "widened": ceiling.widened, "cold": {str(size): value for size, value in curve.items()}}


def _print(console: Console, title: str, found: dict[str, Any]) -> None:
    table = Table(title=f"{title} ({found['seconds']:.0f} s)")
    for heading in ("figure", "plain regression", "model", "gain"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    rows = (("like AUC", "like_auc"), ("match AUC", "match_auc"), ("match AUC, product", "product_auc"),
            ("match log loss", "match_log_loss"))
    for name, key in rows:
        plain, model, gain = found["plain regression"][key], found["model"][key], found["model"].get(f"{key}_gain")
        table.add_row(name, _interval(plain), _interval(model), _interval(gain) if gain else "")
    errors = [f"{found[column]['match_calibration_error']:.4f}" for column in ("plain regression", "model")]
    table.add_row("match calibration error", *errors, "")
    console.print(table)


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.4f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
