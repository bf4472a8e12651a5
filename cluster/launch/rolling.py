"""`sugar roll`: the API's replicas replaced one after another while they serve.

Of one machine's platform it runs as ``python -m cluster.launch.rolling DATA_DIR TIMEOUT_S [again]`` under the platform's Ray
environment; in somebody's cluster within `sugar cluster roll`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors.sharding import shapes
from cluster.launch import serving
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.settings import Settings

POLL_S: Final = 0.5
ROLL_S: Final = 600.0
"""A guess: twenty replicas, each started in the time that one takes on two busy cores."""


def next_release(present: str, code: str, *, again: bool) -> str:
    """What to deploy where ``present`` runs; the same where nothing is to be done."""
    running, _, times = present.partition(".")
    if running != code:
        return code
    return f"{code}.{int(times or 0) + 1}" if again else present


def roll(settings: Settings, announce: Callable[[str], None], *, again: bool, timeout_s: float) -> int:
    """Replaces every replica that runs other code, with ``again`` every one; how many. Returns once all are new and serve.

    A new replica is ready before an old one gets no more requests and ends what it has. Where new ones do not start, Serve
    stops trying and the old ones stay. Call it in a process that has joined the platform's Ray cluster.
    Raises DependencyUnavailable: Serve does not answer, new replicas do not start, or it took too long.
    ConfigurationError: the shards that run would not understand the new replicas.
    """
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        wanted = next_release(present := serving.release(), serving.code_digest(), again=again)
        if wanted == present:
            announce("every replica runs this code")
            return 0
        if serving.carried() != shapes.digest():
            raise ConfigurationError(
                "this code asks shards otherwise than the shards that run: start the platform anew (`sugar down` and `up`; "
                "in a cluster `sugar cluster remove` and `deploy`)"
            )
        before = {replica.replica for replica in serving.replicas(serving.details())}
        serving.deploy(settings, wanted)
        _wait_replaced(before, announce, time.monotonic() + timeout_s)
    except (RayError, RayServeException) as error:
        raise DependencyUnavailable("Ray Serve does not answer", kind=type(error).__name__) from error
    return len(before)


def _wait_replaced(before: set[str], announce: Callable[[str], None], deadline: float) -> None:
    shown = -1
    while time.monotonic() < deadline:
        told = serving.details()
        old = len(before & {replica.replica for replica in serving.replicas(told)})
        if shown != old:
            shown = old
            announce(f"{len(before) - old} of {len(before)} replicas replaced")
        if not old and serving.running(told):
            return
        if problem := serving.failure():
            raise DependencyUnavailable("new replicas do not start; the old ones serve", replicas_left=old, tail=problem)
        time.sleep(POLL_S)
    raise DependencyUnavailable("not every replica was replaced in time", replicas_left=shown)


def main() -> None:
    import ray

    from cluster.launch.state import running_settings
    from configs.contracts.loading import NAMESPACE

    settings = running_settings(Path(sys.argv[1]))
    ray.init(address=settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    try:
        roll(settings, print, again="again" in sys.argv[3:], timeout_s=float(sys.argv[2]))
    except (DependencyUnavailable, ConfigurationError) as error:
        print(error.message, {name: fact for name, fact in error.details.items() if name != "tail"})
        print(error.details.get("tail", ""))
        sys.exit(1)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
