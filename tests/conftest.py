"""Shared fixtures: real servers for integration tests, a whole platform for end-to-end and failure tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import late_readers
import pytest
from running import MakeBroker, Platform, start_servers

from cluster.embedded.broker import EmbeddedBroker
from cluster.engines.kafka import KafkaCluster
from cluster.launch.servers import EmbeddedServers
from configs.settings import Settings

WHOLE_PLATFORM = "whole platform"
WHOLE_PLATFORM_TESTS = (
    "tests/chaos/", "tests/cluster/", "tests/e2e/",
    "tests/notebooks/test_notebooks.py::test_a_notebook_deploys_a_weight_to_a_running_platform",
    "tests/engines/test_kafka.py", "tests/engines/test_redis_lost.py", "tests/engines/test_chatting_apart.py",
    "tests/engines/test_resharding_on_kafka.py", "tests/engines/test_rolling.py",
)
"""How their ids begin."""
LONG_TESTS = ("tests/engines/test_ray_nodes.py", "tests/engines/test_chaos_on_kafka.py")
"""What starts a platform of its own: before what is short, so that two workers end at about the same time."""
LAST_ON_THE_PLATFORM = "tests/engines/test_rolling.py"
"""It waits until nothing heavy runs beside it."""
RUNNING = pytest.StashKey[Platform]()
"""The session's platform while it runs."""

# How long an example takes, or its making, is the machine's business; what hangs is ended by pytest's own timeout.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engines", action="store_true", help="run on the engines of a cluster (Apache Kafka: Java, Maven; Redis Cluster)")
    parser.addoption("--late", action="store_true", help="readers of the log read late and in small parts: tests that do not wait for them fail")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of the engines themselves are no part of a run on the embedded servers (``make test-engines`` runs them)."""
    return True if collection_path.name == "engines" and not config.getoption("--engines") else None


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--engines"):
        os.environ |= {"SUGAR_BROKER": "kafka", "SUGAR_REDIS": "cluster", "SUGAR_PLAN__MESSAGE_ACTORS": "2"}
    if config.getoption("--late"):
        late_readers.install()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes whole modules; those of the whole platform go to one worker, which alone starts it."""
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return WHOLE_PLATFORM if nodeid.startswith(WHOLE_PLATFORM_TESTS) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # the order of collection is wanted
    return Lanes(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Modules that need the session's servers come after those that need none, those of the whole platform last.

    What a session keeps running costs every later test a part of the machine, also when it is idle. Beside other workers
    the whole platform comes first: its modules are the longest row that one of them has to run.
    """
    late: dict[Path, float] = {}
    platform = -1 if hasattr(config, "workerinput") else 2
    for item in items:
        needs = 1 if "servers" in getattr(item, "fixturenames", ()) else 0
        late[item.path] = max(late.get(item.path, 0), needs)
        if item.nodeid.startswith(WHOLE_PLATFORM_TESTS):
            late[item.path] = platform + (0.5 if item.nodeid.startswith(LAST_ON_THE_PLATFORM) else 0)
        if item.nodeid.startswith(LONG_TESTS):
            late[item.path] = -0.25
    items.sort(key=lambda item: late[item.path])
    # Where a test leaves less behind than it found, and says so, the module's own order counts.
    for module in {item.module for item in items if getattr(getattr(item, "module", None), "IN_ORDER", False)}:
        places = [place for place, item in enumerate(items) if item.module is module]
        ordered = sorted((items[place] for place in places), key=lambda item: item.location[1] or 0)
        for place, item in zip(places, ordered, strict=True):
            items[place] = item


@pytest.fixture(scope="session")
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Makes a broker that keeps its files in a directory; to start, and to stop."""
    def make(directory: Path) -> EmbeddedBroker | KafkaCluster:
        return KafkaCluster(directory / "kafka", directory) if request.config.getoption("--engines") else EmbeddedBroker(directory)

    return make


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """PostgreSQL, Valkey and the broker, empty: no table, no topic. Do not stop or kill them."""
    servers = start_servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def servers(running_servers: EmbeddedServers) -> Settings:
    """Settings (profile test) of servers that are migrated and hold every topic; shared by the whole session.

    Tests use ids of their own and expect rows, keys and records of others.
    """
    from cluster.launch.prepare import prepare

    return prepare(running_servers.settings())


@pytest.fixture
def fresh_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], EmbeddedServers]]:
    """Makes servers of one's own, to kill, stop and restart; ``prepare(servers.settings())`` fills them."""
    made: list[EmbeddedServers] = []

    def make() -> EmbeddedServers:
        made.append(start_servers(tmp_path_factory.mktemp("servers")))
        return made[-1]

    yield make
    for servers in made:
        servers.stop()


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One whole platform (profile test), shared by the session; leave it running and well.

    Failure tests may kill its processes; they wait until ``status()`` is well again.
    """
    running = request.session.stash[RUNNING] = Platform.start(tmp_path_factory.mktemp("platform"))
    yield running
    stop_platform(request.session)


def stop_platform(session: pytest.Session) -> None:
    """Stops the session's platform if it runs."""
    running = session.stash.get(RUNNING, None)
    if running is not None:
        del session.stash[RUNNING]
        running.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """An idle platform takes a quarter of two cores: it goes with the last of its tests, which come in one row."""
    yield
    if item.nodeid.startswith(WHOLE_PLATFORM_TESTS) and not (nextitem and nextitem.nodeid.startswith(WHOLE_PLATFORM_TESTS)):
        stop_platform(item.session)
