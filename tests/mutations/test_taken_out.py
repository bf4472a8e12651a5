"""A suite that passes without a check proves nothing about it: with the check taken out it must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("configs", "cluster", "recommender", "actors", "writers", "serve_apps", "tests")
TESTS_FAILED = 1
"""pytest's exit code; 2 to 5 would mean that nothing was judged."""


@dataclass(frozen=True)
class Mutation:
    """``present`` is replaced once in ``file``; the tests in ``judges`` must notice."""

    file: str
    present: str
    replacement: str
    judges: str


MUTATIONS = {
    "epoch of a writer": Mutation(
        "writers/positions.py", " AND stored.epoch = %(epoch)s", "", "tests/integration/test_writers_commit.py"
    ),
    "position of a writer": Mutation(
        "writers/positions.py", " AND stored.next_offset = moved.before", "", "tests/integration/test_writers_commit.py"
    ),
    "idempotency key of a swipe": Mutation(
        "actors/swipes/state.py", "if named is not None:", "if False:", "tests/unit/test_swipes_shard.py"
    ),
    "epoch of an answering shard": Mutation(
        "actors/sharding/client.py", "if epoch < known:", "if False:", "tests/unit/test_actor_pool.py"
    ),
    "epoch of a peer": Mutation("actors/swipes/peers.py", "if epoch < known:", "if False:", "tests/unit/test_swipes_memory.py"),
}


@pytest.mark.servers
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS)
def test_without_this_check_the_suite_fails(name: str, tmp_path: Path) -> None:
    mutation = MUTATIONS[name]
    for package in COPIED:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changed = tmp_path / mutation.file
    text = changed.read_text()
    assert text.count(mutation.present) >= 1, f"{mutation.file} no longer says: {mutation.present}"
    changed.write_text(text.replace(mutation.present, mutation.replacement, 1))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.judges],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=500,
        check=False,
    )
    assert run.returncode == TESTS_FAILED, run.stdout[-2_000:] + run.stderr[-2_000:]
