"""What `sugar ranking` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from cluster.launch.ranking.operating import RankingOperator
from configs.contracts.changes import rfc3339
from configs.contracts.ranking import BASELINE, WAITING_LIKE, RankingConfiguration
from recommender.learning import Recipe

CHANGES: Final = 10


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON can hold it."""
    return asdict(recipe) | {"features": list(recipe.features)}


def sentence(configuration: RankingConfiguration) -> str:
    """A configuration in a few words."""
    said = [f"default {configuration.default_version}"]
    if (test := configuration.experiment) is not None:
        arms = ", ".join(
            f"{arm.name} = {arm.version} for {arm.share:g}"
            + ("" if arm.waiting_like is None else f" with waiting likes {arm.waiting_like:g}") for arm in test.arms
        )
        said.append(f"experiment {test.name} by {test.split} ({arms})")
    if configuration.exploration:
        said.append(f"exploration {configuration.exploration:g}")
    if configuration.waiting_like != WAITING_LIKE:
        said.append(f"waiting likes {configuration.waiting_like:g}")
    if configuration.people_table is not None:
        said.append(f"people table {configuration.people_table}")
    return ", ".join(said)


def overview(operator: RankingOperator) -> dict[str, Any]:
    """Everything that `list` shows, as plain values."""
    history = operator.history(CHANGES)
    present = operator.configuration()
    return {
        "configuration": msgspec.to_builtins(present),
        "models": [
            {
                "version": stored.version, "kind": stored.kind, "problem": stored.problem,
                "trained_at": stored.manifest.get("trained_at", ""), "metrics": stored.manifest.get("metrics", {}),
                "features": sorted(stored.manifest.get("features", {})), "serves": _serves(present, stored.version),
            }
            for stored in operator.models()
        ] + [{
            "version": BASELINE, "kind": "baseline", "problem": "", "trained_at": "", "metrics": {}, "features": [],
            "serves": _serves(present, BASELINE),
        }],
        "people_tables": operator.store.versions("people"),
        "shards": [asdict(shard) for shard in operator.shards()],
        "changes": [
            {
                "number": past.configuration.number, "at": rfc3339(past.configured_at), "reason": past.reason,
                "what": sentence(past.configuration),
            }
            for past in history
        ],
    }


def _serves(configuration: RankingConfiguration, version: str) -> str:
    parts = ["default"] if configuration.default_version == version and configuration.experiment is None else []
    if configuration.experiment is not None:
        parts += [f"arm {arm.name}" for arm in configuration.experiment.arms if arm.version == version]
    return ", ".join(parts)


def show_overview(console: Console, found: Mapping[str, Any]) -> None:
    models = Table("version", "kind", "trained", "like AUC", "log loss", "serves", "problem", title="Models")
    for model in found["models"]:
        models.add_row(
            model["version"], model["kind"], str(model["trained_at"])[:16], _number(model["metrics"], "like_auc"),
            _number(model["metrics"], "log_loss"), model["serves"], model["problem"],
        )
    console.print(models)
    shards = Table("actor", "configuration", "default model", "people table", "refused", title="Card shards")
    for shard in found["shards"]:
        refused = "; ".join(f"{version}: {why}" for version, why in shard["refused"].items())
        shards.add_row(
            shard["actor"], str(shard["configuration"]), shard["model_version"],
            f"{shard['people_table']} ({shard['people_in_table']})", refused,
        )
    console.print(shards)
    changes = Table("number", "at", "why", "what", title="Changes")
    for change in found["changes"]:
        changes.add_row(str(change["number"]), change["at"][:19], change["reason"], change["what"])
    console.print(changes)


def _number(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    return f"{value:.4f}" if isinstance(value, float) else ""


def trials(found: Sequence[Mapping[str, Any]]) -> Table:
    """One row a trial, best first."""
    shown = Table("model", "rule", "exposure", "parameters", "like AUC", "log loss", "base", "problem", title="Trials")
    for trial in sorted(found, key=lambda one: one.get("metrics", {}).get("log_loss", float("inf"))):
        recipe, metrics = trial["recipe"], trial.get("metrics", {})
        shown.add_row(
            recipe["model"], recipe["rule"], f"{recipe['exposure']:g}",
            " ".join(f"{name}={value}" for name, value in recipe["parameters"].items()),
            _number(metrics, "like_auc"), _number(metrics, "log_loss"), _number(metrics, "base_log_loss"),
            trial.get("problem", ""),
        )
    return shown


def document(found: Any) -> str:
    """One JSON document; what is not a number, a rate of nothing, is null in it."""
    return msgspec.json.encode(found, enc_hook=str).decode()


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def figures(found: Mapping[str, Mapping[str, float]]) -> Table:
    """One row a version."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    shown = Table("version", *names)
    for version, row in found.items():
        shown.add_row(version, *(f"{row[name]:.4g}" if name in row else "" for name in names))
    return shown


def show_explanation(console: Console, found: Mapping[str, Any]) -> None:
    console.print(
        f"{found['modelVersion']}, configuration {found['configuration']}, people table {found['peopleTable']}"
        + (f", arm {found['arm']} of {found['experiment']}" if found["experiment"] else ""), markup=False,
    )
    terms = Table("term", "ln", title="Score, the sum of its terms")
    for name, value in sorted(found["terms"].items(), key=lambda item: item[1]):
        terms.add_row(name, f"{value:+.5f}")
    terms.add_row("score", f"{found['score']:+.5f}", style="bold")
    console.print(terms)
    features = Table("feature", "value", title="Read from")
    for name, value in found["features"].items():
        features.add_row(name, f"{value:.5g}")
    console.print(features)
    shown = "both sides' preferences accept each other" if found["eligible"] else "would not be shown: preferences or radius"
    console.print(f"{found['distanceKm']:.1f} km; {shown}", markup=False)


def show_experiment(console: Console, found: Mapping[str, Any]) -> None:
    arms = Table(
        "arm", "version", "units", "viewers", "cards", "seen", "answered", "likes", "like rate", "95 %",
        title=f"{found['experiment']}, split by {found['split']}",
    )
    for arm in found["arms"]:
        arms.add_row(
            arm["arm"], arm["version"], *(str(arm[name]) for name in ("units", "viewers", "cards", "seen", "answered", "likes")),
            _rate(arm["like_rate"]), f"{_rate(arm['like_rate_low'])} to {_rate(arm['like_rate_high'])}",
        )
    console.print(arms)
    if any(arm["as_ranked"]["from_below"] for arm in found["arms"]):
        console.print(_as_ranked(found["arms"]))
    ratio = found["sample_ratio"]
    word = "[red]not as configured: do not trust this test[/red]" if ratio["suspect"] else "as configured"
    console.print(f"units {ratio['units']}: p = {ratio['p']:.4f}, {word}; {ratio['mixed']} units in more than one arm")
    matches = Table("first like", "second like", "matches", title="Matches by the arms of both sides")
    for first, row in found["matches"].items():
        for second, count in row.items():
            matches.add_row(first or "no card of this test", second or "no card of this test", str(count))
    console.print(matches)


def _as_ranked(arms: Sequence[Mapping[str, Any]]) -> Table:
    """What each arm's ranking would have earned without exploration."""
    shown = Table(
        "arm", "cards", "from below", "IPS", "self-normalised", "doubly robust", "worth cards",
        title="Likes a card had nobody been shown from below, by logged propensities (95 % over units)",
    )
    for arm in arms:
        found = arm["as_ranked"]
        shown.add_row(arm["arm"], str(found["cards"]), str(found["from_below"]), *(
            f"{_rate(found[name]['value'])} ({_rate(found[name]['low'])} to {_rate(found[name]['high'])})"
            for name in ("ips", "self_normalised", "doubly_robust")
        ), f"{found['ips']['effective']:.0f}")
    return shown
