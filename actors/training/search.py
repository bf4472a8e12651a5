"""Training and parameter search as Ray tasks: every trial reads the export, which all nodes must see, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from configs.contracts.errors import PlatformError
from recommender.datasets import exported
from recommender.learning import Learned, Recipe, learn

CPU_SHARE: Final = 0.25
"""For placement: trials run beside the platform's actors, and use one thread each."""
TRIALS_MOST: Final = 1_000
NOT_JUDGED: Final = ("rule", "exposure", "recency_half_life_days")
"""Of a recipe: what comes after the model of a like, by which trials are compared."""

Progress = Callable[[int, int], None]
"""(trials done, trials in all)."""


def recipes(base: Recipe, grid: Mapping[str, Sequence[Any]]) -> list[Recipe]:
    """Every combination of the grid's values; ``model`` is the recipe's own, others parameters.

    Raises ValueError: more than ``TRIALS_MOST``, or a name that no trial can be told apart by.
    """
    names = list(grid)
    if alike := sorted(grid.keys() & set(NOT_JUDGED)):
        raise ValueError(
            f"a grid cannot search over {', '.join(alike)}: trials are compared by the log loss of one direction's like, which"
            " this does not change; give one value, and compare rankers with it in an experiment"
        )
    combined = list(itertools.islice(itertools.product(*grid.values()), TRIALS_MOST + 1))
    if len(combined) > TRIALS_MOST:
        raise ValueError(f"more than {TRIALS_MOST} combinations")
    found = []
    for values in combined:
        chosen = dict(zip(names, values, strict=True))
        own = {name: chosen.pop(name) for name in ("model",) if name in chosen}
        found.append(replace(base, **own, parameters=base.parameters | chosen))
    return found


def trial(directory: str, recipe: Recipe, seed: int) -> Learned | PlatformError:
    """One recipe learned from the export; what went wrong as a value, so that the other trials go on."""
    try:
        return learn(exported.read(directory), recipe, seed=seed)
    except PlatformError as error:
        return error


def run_here(directory: str, wanted: Sequence[Recipe], *, seed: int = 0, progress: Progress = lambda done, of: None) -> list[
    Learned | PlatformError
]:
    """Every recipe in this process, one after another; answers in order."""
    found = []
    for done, recipe in enumerate(wanted, 1):
        found.append(trial(directory, recipe, seed))
        progress(done, len(wanted))
    return found


def run_on_ray(directory: str, wanted: Sequence[Recipe], *, seed: int = 0, progress: Progress = lambda done, of: None) -> list[
    Learned | PlatformError
]:
    """Every recipe as a task of the Ray cluster that this process is connected to; answers in order.

    A task whose worker dies is tried again three times by Ray. Raises RayError: the cluster is gone.
    """
    import ray

    remote = ray.remote(num_cpus=CPU_SHARE, max_retries=3)(trial)
    waiting = {remote.remote(directory, recipe, seed): place for place, recipe in enumerate(wanted)}
    found: dict[int, Learned | PlatformError] = {}
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            found[waiting.pop(reference)] = ray.get(reference)
        progress(len(found), len(wanted))
    return [found[place] for place in range(len(wanted))]


def best_of(trials: Sequence[Learned | PlatformError]) -> Learned:
    """The trial with the least log loss on later swipes. Raises the first error when all failed."""
    learned = [one for one in trials if isinstance(one, Learned)]
    if not learned:
        raise next(one for one in trials if isinstance(one, PlatformError))
    return min(learned, key=lambda one: one.metrics.get("log_loss", float("inf")))
