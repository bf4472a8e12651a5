"""Weights tried in the simulator, one task a situation, here or on the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from actors.training.search import CPU_SHARE, Progress
from recommender.simulation.served import ServedOutcome
from recommender.simulation.tuning import Situation, Weights, tried

SITUATIONS_MOST: Final = 1_000


def tune(situations: Sequence[Situation], weights: Sequence[Weights], *, remote: bool,
         progress: Progress = lambda done, of: None) -> list[list[ServedOutcome]]:
    """For each situation the outcome of each of the weights, in the orders given.

    ``remote``: as tasks of the Ray cluster that this process is connected to; a task whose worker dies is tried again three
    times. Raises ValueError: more than ``SITUATIONS_MOST``. RayError: the cluster is gone.
    """
    if len(situations) > SITUATIONS_MOST:
        raise ValueError(f"more than {SITUATIONS_MOST} situations")
    if not remote:
        found = []
        for done, situation in enumerate(situations, 1):
            found.append(tried(situation, tuple(weights)))
            progress(done, len(situations))
        return found
    import ray

    task = ray.remote(num_cpus=CPU_SHARE, max_retries=3)(tried)
    waiting = {task.remote(situation, tuple(weights)): place for place, situation in enumerate(situations)}
    answers: dict[int, list[ServedOutcome]] = {}
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            answers[waiting.pop(reference)] = ray.get(reference)
        progress(len(answers), len(situations))
    return [answers[place] for place in range(len(situations))]
