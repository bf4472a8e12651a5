"""Asking the card shards of a running platform why a card has its score.

Runs as ``python -m cluster.launch.ranking.asking DATA_DIR VIEWER CANDIDATE [VERSION]`` under the platform's Ray
environment and prints one JSON document.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import ray

from actors.cards.client import CardsClient
from actors.cards.commands import Explain
from actors.sharding.client import ActorPool
from cluster.connections.redis import sync_client
from cluster.launch.ray_head import environment
from cluster.launch.state import read_state, running_settings
from configs.contracts.errors import ConfigurationError, PlatformError
from configs.contracts.loading import NAMESPACE
from configs.contracts.ranking import assigned
from configs.contracts.read_model import RANKING, newest_likes, read_ranking, read_record, record_key
from configs.settings import Settings
from recommender.waiting import LIKES_MOST
from serve_apps.matching.decks import waiting_keys
from serve_apps.matching.filters import NO_FILTERS, narrowed


class NotExplained(PlatformError):
    """There is nothing to explain; the message says why."""


def explain(data_dir: Path, viewer_id: str, candidate_id: str, version: str = "") -> dict[str, Any]:
    """The explanation of one card, asked in a process of its own, which alone reaches the platform's Ray.

    Raises NotExplained: one of the two has no place, or does not exist. ConfigurationError: no platform runs here.
    """
    settings = running_settings(data_dir)
    command = [sys.executable, "-m", "cluster.launch.ranking.asking", str(data_dir), viewer_id, candidate_id, version]
    done = subprocess.run(
        command, env=environment(settings, read_state(data_dir).ports), check=False, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise ConfigurationError("the shards could not be asked", tail=done.stderr[-2_000:])
    answer: dict[str, Any] = json.loads(lines[-1])
    if "refused" in answer:
        raise NotExplained(answer["refused"])
    return answer


async def _asked(settings: Settings, viewer_id: str, candidate_id: str, version: str) -> dict[str, Any]:
    with sync_client(settings) as client:
        values: Any = client.mget(record_key(viewer_id), RANKING)
        likes: Any = client.execute_command(*newest_likes(viewer_id, LIKES_MOST))
    if values[0] is None:
        return {"refused": "the viewer is not known"}
    viewer = read_record(values[0])
    if viewer.role is None or viewer.latitude is None:
        return {"refused": "the viewer has no location"}
    wish = narrowed(viewer, NO_FILTERS)
    if wish is None:
        return {"refused": "the viewer's preferences accept nobody"}
    assignment = assigned(read_ranking(values[1]), viewer_id, viewer.cell, datetime.now(UTC).timestamp())
    query = msgspec.structs.replace(
        wish, model_version=version or assignment.version, waiting=waiting_keys(likes), waiting_boost=assignment.waiting_like
    )
    found = await CardsClient(ActorPool(settings)).explain(Explain(query, candidate_id))
    if found is None:
        return {"refused": "the candidate is not known, or has no location"}
    return {
        "viewer": viewer_id, "candidate": candidate_id, "experiment": assignment.experiment, "arm": assignment.arm,
        **msgspec.to_builtins(found),
    }


def main(arguments: list[str]) -> None:
    """Entry point of the process that asks."""
    data_dir, viewer_id, candidate_id, version = arguments
    settings = running_settings(Path(data_dir))
    ray.init(address=settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    try:
        print(json.dumps(asyncio.run(_asked(settings, viewer_id, candidate_id, version))))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
