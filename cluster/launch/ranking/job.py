"""Work on the cluster: runs as ``python -m cluster.launch.ranking.job DATA_DIR WHAT [JSON]`` under the platform's Ray
environment, which alone reaches its Ray. ``WHAT``: ``search`` or ``refresh``. The last line printed is a JSON document.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from actors.training.search import CPU_SHARE, best_of, run_here, run_on_ray
from actors.training.tables import table_of
from cluster.connections.artifacts import TABLES_KEPT, ArtifactStore, artifact_store
from cluster.launch.ray_head import command_environment
from cluster.launch.state import running_settings
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import NAMESPACE
from configs.contracts.ranking import BASELINE
from configs.settings import Settings, load_settings
from recommender import artifacts, people_table
from recommender.baseline import Baseline
from recommender.datasets.pricing import priced_as
from recommender.exposure import PRICE
from recommender.learning import Learned, Recipe
from recommender.ranking import Ranker
from writers.connections import open_rows
from writers.export import export
from writers.loads.ranking import present

Progress = Callable[[int, int], None]


def search(directory: Path, wanted: list[Recipe], out: Path, *, seed: int, remote: bool, progress: Progress) -> dict[str, Any]:
    """Runs every recipe, saves the best ranker's artifact under ``out`` and returns what came of each."""
    run = run_on_ray if remote else run_here
    trials = run(str(directory.resolve()), wanted, seed=seed, progress=progress)
    best = best_of(trials)
    path = save(best, directory, out)
    return {
        "version": best.ranker.version, "artifact": str(path),
        "trials": [
            {"recipe": asdict(recipe)} | (
                {"metrics": found.metrics, "version": found.ranker.version} if isinstance(found, Learned) else {"problem": str(found)}
            )
            for recipe, found in zip(wanted, trials, strict=True)
        ],
    }


def save(learned: Learned, directory: Path, out: Path) -> Path:
    """Saves a learned ranker with what it was learned from; the artifact's directory. One that is there stays."""
    path = out / learned.ranker.version
    if not path.exists():
        exported = json.loads((directory / "manifest.json").read_text())
        artifacts.save(learned.ranker, path, {
            "recipe": asdict(learned.recipe), "metrics": learned.metrics, "trained_at": datetime.now(UTC).isoformat(),
            "data": {name: exported[name] for name in ("since", "until", "rows")} | {
                "taught_until": datetime.fromtimestamp(learned.taught_until_s, UTC).isoformat(),
            },
            "code_version": code_version(),
        })
    return path


def taught_until(manifest: Mapping[str, Any]) -> datetime | None:
    """The time of the newest swipe that taught a stored model, or that may have; None: it was not learned from an export."""
    data = manifest.get("data")
    return None if data is None else datetime.fromisoformat(data.get("taught_until") or data["until"])


def code_version() -> str:
    """The commit of this checkout; ``unknown`` outside of one."""
    root = Path(__file__).resolve().parents[3]
    try:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def make_table(settings: Settings, priced_for: str | None = None) -> str:
    """Exports the rows, makes the people table of them and publishes it; its version. Older tables are removed.

    ``priced_for``: the model version that exposure prices are made for; None: as ``_reader_of_prices`` finds.

    Of the rows only people are needed, whose counts are of all time: no swipe, match or impression is exported. The export
    holds real ids: it stays in a private directory for as long as this takes.
    """
    store = artifact_store(settings)
    priced_for = priced_for or _reader_of_prices(settings, store)
    ranker = _ranker(store, priced_for)
    version = f"people-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    scratch = Path(tempfile.mkdtemp(prefix="sugar-people-"))
    try:
        export(settings, scratch / "export", datetime.now(UTC), identified=True)
        people_table.save(
            table_of(scratch / "export", version, ranker), scratch / "table",
            {people_table.PRICED_FOR: priced_for, people_table.PRICED_AS: priced_as(ranker)},
        )
        store.publish("people", version, scratch / "table")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in store.versions("people")[TABLES_KEPT:]:
        store.remove("people", old)
    return version


def _reader_of_prices(settings: Settings, store: ArtifactStore) -> str:
    """The version that prices are for: of those that serve, the default first, the first that reads prices; else the default."""
    with open_rows(settings, "ranking") as conn:
        versions = present(conn).versions()
    return next((version for version in versions if PRICE in _ranker(store, version).features), versions[0])


def _ranker(store: ArtifactStore, version: str) -> Ranker:
    return Baseline() if version == BASELINE else artifacts.load(store.fetch("models", version))


def on_cluster(data_dir: Path, what: str, document: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Runs ``what`` in a process of its own on the platform's cluster and returns its answer.

    Raises DependencyUnavailable: it failed; the end of what it said is in the details. PlatformError: it was refused.
    """
    settings = running_settings(data_dir)
    command = [sys.executable, "-m", "cluster.launch.ranking.job", str(data_dir), what, json.dumps(document)]
    last = ""
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
        command, env=command_environment(settings), stdout=subprocess.PIPE, stderr=said, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            if line.startswith("progress ") and progress is not None:
                done, of = line.split()[1:]
                progress(int(done), int(of))
        if process.wait():
            said.seek(0)
            raise DependencyUnavailable("the work on the cluster failed", what=what, tail=said.read()[-2_000:])
    answer: dict[str, Any] = json.loads(last)
    if "refused" in answer:
        raise PlatformError(answer["refused"])
    return answer


def main(arguments: list[str]) -> None:
    """Entry point of the process on the cluster."""
    data_dir, what, document = arguments
    asked = json.loads(document)
    settings = running_settings(Path(data_dir))
    ray.init(address=settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)

    def progress(done: int, of: int) -> None:
        print(f"progress {done} {of}", flush=True)

    try:
        if what == "refresh":
            # The task reads the settings itself: secrets do not travel.
            task = ray.remote(num_cpus=CPU_SHARE, max_retries=1)(lambda: make_table(load_settings(), asked.get("priced_for")))
            answer = {"version": ray.get(task.remote())}
        else:
            wanted = [Recipe(**{**recipe, "features": tuple(recipe["features"])}) for recipe in asked["recipes"]]
            answer = search(
                Path(asked["data"]), wanted, Path(asked["out"]), seed=asked["seed"], remote=True, progress=progress
            )
    except (PlatformError, RayError) as error:
        answer = {"refused": str(error)}
    finally:
        ray.shutdown()
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
