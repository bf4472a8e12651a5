"""Changing what ranks cards on a running platform: one event a change, followed until requests and shards serve by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec
from redis.exceptions import RedisError

from actors.cards.models import require_usable
from cluster.connections.artifacts import ArtifactStore, artifact_store
from cluster.connections.kafka import Record
from cluster.connections.redis import sync_client
from cluster.launch.ranking.cautions import told
from cluster.launch.report import read_report
from cluster.launch.state import read_state
from configs.contracts.errors import ArtifactCorrupt, DependencyUnavailable, PlatformError
from configs.contracts.events import Event, RankingConfigured, encode
from configs.contracts.ids import new_id, partition_of
from configs.contracts.ranking import (
    BASELINE,
    KEY,
    ConfigurationRefused,
    Experiment,
    RankingConfiguration,
    checked,
)
from configs.contracts.read_model import RANKING, read_ranking
from configs.contracts.topics import RANKING_CONFIGURED
from configs.settings import Settings
from recommender import artifacts, people_table
from writers.appending import ThreadAppender
from writers.connections import open_rows
from writers.loads.ranking import Configured, history, present

STORED_WAIT_S: Final = 20.0
SERVING_WAIT_S: Final = 15.0
POLL_S: Final = 0.1
RECENT: Final = 100
"""Changes within which a change is looked for that was made a moment ago."""

Reason = Literal["deploy", "rollback", "experiment", "refresh"]


class ConfigurationRaced(PlatformError):
    """Somebody else changed the configuration at the same moment: look at it and try again."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """What one card actor serves with, as it reported last."""

    actor: str
    configuration: int
    model_version: str
    loaded: tuple[str, ...]
    people_table: str
    people_in_table: int
    refused: dict[str, str]


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves now. ``configuration``: the number of the one that requests read; None: Redis does not answer."""

    shards: list[ShardState]
    configuration: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """One version in the store. ``problem``: why it cannot be used; empty when it can."""

    version: str
    kind: str
    manifest: dict[str, Any]
    problem: str = ""


class RankingOperator:
    """Reads and changes the ranking of the platform that runs with these settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store: ArtifactStore = artifact_store(settings)

    def configuration(self) -> RankingConfiguration:
        """The configuration in force, as the rows hold it. Raises DependencyUnavailable."""
        with open_rows(self.settings, "ranking") as conn:
            return present(conn)

    def history(self, limit: int | None = None, reasons: Sequence[Reason] | None = None) -> list[Configured]:
        """The newest configurations, newest first: all, or only those that these reasons brought.

        Raises DependencyUnavailable.
        """
        with open_rows(self.settings, "ranking") as conn:
            return history(conn, limit, reasons)

    def experiments(self) -> dict[str, Experiment]:
        """Every experiment that was ever started, by name, the newest last. Raises DependencyUnavailable."""
        return {
            past.configuration.experiment.name: past.configuration.experiment
            for past in reversed(self.history(reasons=("experiment",))) if past.configuration.experiment is not None
        }

    def cautions(self, configuration: RankingConfiguration) -> list[str]:
        """What serves worse than it could by this configuration, in sentences: see ``cautions.cautions``."""
        return told(self.store, configuration)

    def models(self) -> list[Stored]:
        """Every model in the store, newest first, whether or not it can be used."""
        found = []
        for version in self.store.versions("models"):
            try:
                manifest = artifacts.read_manifest(self.store.fetch("models", version))
            except ArtifactCorrupt as error:
                found.append(Stored(version, "", {}, str(error)))
            else:
                found.append(Stored(version, str(manifest.get("kind")), manifest))
        return found

    def shards(self) -> list[ShardState]:
        """What the card actors reported last; empty where no runtime reports into the data directory."""
        state = read_state(self.settings.data_dir)
        report = read_report(self.settings.data_dir, state.pids.get("runtime"))
        if report is None:
            return []
        found = []
        for actor in report.actors:
            cards = actor.figures.get("services", {}).get("cards")
            if not actor.answers or cards is None or "ranking" not in cards:
                continue
            ranking = cards["ranking"]
            found.append(ShardState(
                actor.name, ranking["configuration"], cards["model_version"], tuple(ranking["loaded"]),
                ranking["people_table"], ranking["people_in_table"], ranking["refused"],
            ))
        return found

    def publish(self, directory: Path) -> str:
        """Puts a saved model into the store; its version. Raises ArtifactCorrupt, FeaturesDiffer, ArtifactExists."""
        ranker = artifacts.load(directory)
        require_usable(ranker)
        self.store.publish("models", ranker.version, directory)
        return ranker.version

    def require(self, version: str) -> None:
        """Returns when this code can serve with the version.

        Raises ArtifactMissing, ArtifactCorrupt, FeaturesDiffer (naming the difference), DependencyUnavailable.
        """
        if version != BASELINE:
            require_usable(artifacts.load(self.store.fetch("models", version)))

    def deploy(self, version: str) -> RankingConfiguration:
        """Everybody's cards are ranked by this version from now on.

        Raises as ``require`` and ``change`` do; ConfigurationRefused: an experiment runs.
        """
        def deployed(now: RankingConfiguration) -> RankingConfiguration:
            if now.experiment is not None:
                raise ConfigurationRefused(
                    "an experiment runs; end it first with `sugar ranking experiment stop`", experiment=now.experiment.name
                )
            return msgspec.structs.replace(now, default_version=version)

        return self.change(deployed, "deploy")

    def rollback(self) -> RankingConfiguration:
        """Back to the default version before the present one; a running experiment ends.

        Raises ConfigurationRefused: there was none before.
        """
        before = version_before(self.history(reasons=("deploy", "rollback")))
        if before is None:
            raise ConfigurationRefused("there is no earlier version to go back to")
        return self.change(
            lambda now: msgspec.structs.replace(now, default_version=before, experiment=None), "rollback"
        )

    def serving(self) -> Serving:
        """What the card actors reported last, and what requests for cards read at this moment."""
        return Serving(self.shards(), self._read_by_requests())

    def _read_by_requests(self) -> int | None:
        try:
            with sync_client(self.settings) as client:
                value = client.get(RANKING)
        except RedisError:
            return None
        return read_ranking(cast("bytes | None", value)).number

    def start_experiment(self, experiment: Experiment) -> RankingConfiguration:
        """Starts an A/B test.

        Raises as ``require`` and ``change`` do; ConfigurationRefused: one runs already, or one of this name has run, whose
        split and rows would be mixed with the new one's.
        """
        if experiment.name in self.experiments():
            raise ConfigurationRefused("an experiment of this name has run; choose another name", name=experiment.name)

        def started(now: RankingConfiguration) -> RankingConfiguration:
            if now.experiment is not None:
                raise ConfigurationRefused(
                    "one experiment runs at a time; end it first with `sugar ranking experiment stop`",
                    experiment=now.experiment.name,
                )
            return msgspec.structs.replace(now, experiment=experiment)

        return self.change(started, "experiment")

    def stop_experiment(self) -> RankingConfiguration:
        """Ends the running A/B test; everybody gets the default version."""
        def stopped(now: RankingConfiguration) -> RankingConfiguration:
            if now.experiment is None:
                raise ConfigurationRefused("no experiment runs")
            return msgspec.structs.replace(now, experiment=None)

        return self.change(stopped, "experiment")

    def explore(self, rate: float) -> RankingConfiguration:
        """With this probability (at most a half) every fifth place shows somebody from further below; 0: never."""
        return self.change(lambda now: msgspec.structs.replace(now, exploration=rate), "experiment")

    def put_forward(self, boost: float) -> RankingConfiguration:
        """This much is added to the score of people whose like waits for the viewer's answer; 0: as everybody else."""
        return self.change(lambda now: msgspec.structs.replace(now, waiting_like=boost), "experiment")

    def use_table(self, version: str | None) -> RankingConfiguration:
        """Shards read history and prices from this people table; None: from none."""
        if version is not None:
            people_table.load(self.store.fetch("people", version))
        return self.change(lambda now: msgspec.structs.replace(now, people_table=version), "refresh")

    def change(
        self, changed: Callable[[RankingConfiguration], RankingConfiguration], reason: Reason
    ) -> RankingConfiguration:
        """The next configuration, durable and in the rows. Requests and shards take it in within a second or two: see ``wait``.

        Raises ConfigurationRefused, ArtifactMissing, ArtifactCorrupt, FeaturesDiffer: nothing was changed.
        ConfigurationRaced: another change came first. DependencyUnavailable: it may have been changed or not.
        """
        now = self.configuration()
        wanted = checked(msgspec.structs.replace(changed(now), number=now.number + 1))
        for version in wanted.versions():
            self.require(version)
        event_id = new_id()
        # In a thread of its own: a notebook's thread has a running event loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._append, event_id, wanted, reason).result()
        self._wait_stored(event_id, wanted)
        return wanted

    def _append(self, event_id: str, wanted: RankingConfiguration, reason: Reason) -> None:
        appender = ThreadAppender(self.settings, "sugar-ranking")
        try:
            event = Event(event_id, datetime.now(UTC), KEY, RankingConfigured(configuration=wanted, reason=reason))
            partition = partition_of(KEY, self.settings.log.partitions)
            appender.append([Record(RANKING_CONFIGURED.name, partition, KEY, encode(event))])
        finally:
            appender.close()

    def _wait_stored(self, event_id: str, wanted: RankingConfiguration) -> None:
        deadline = time.monotonic() + STORED_WAIT_S
        while True:
            with open_rows(self.settings, "ranking") as conn:
                stored = next((c for c in history(conn, RECENT) if c.configuration.number == wanted.number), None)
            if stored is not None:
                if stored.event_id != event_id:
                    raise ConfigurationRaced(
                        "somebody else changed the ranking at the same moment; look at `sugar ranking list` and try again",
                        number=wanted.number,
                    )
                return
            if time.monotonic() > deadline:
                raise DependencyUnavailable("the writers have not stored the change yet; look at `sugar status`")
            time.sleep(POLL_S)

    def wait(self, configuration: RankingConfiguration, timeout_s: float = SERVING_WAIT_S) -> Serving:
        """What serves once requests and all card actors have the configuration, or as it is after ``timeout_s``.

        Without shards when the platform runs elsewhere: their reports cannot be read from here.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.serving()
            elsewhere = not found.shards and not read_state(self.settings.data_dir).running()
            done = (bool(found.shards) or elsewhere) and not _still(found, configuration)
            if done or time.monotonic() > deadline:
                return found
            time.sleep(POLL_S)


def version_before(past: Sequence[Configured]) -> str | None:
    """The default version to which a rollback leads, from changes newest first; None: there is none.

    A rollback takes the deploy before it back: two in a row lead two deploys back.
    """
    deployed = [BASELINE]
    for change in reversed(past):
        version = change.configuration.default_version
        if change.reason == "rollback":
            if len(deployed) > 1:
                deployed.pop()
        elif version != deployed[-1]:
            deployed.append(version)
    return deployed[-2] if len(deployed) > 1 else None


def behind(serving: Serving, configuration: RankingConfiguration) -> list[str]:
    """What keeps a configuration from serving everywhere, in sentences; empty when nothing does."""
    return _still(serving, configuration) + [
        f"{shard.actor} refuses {version}: {why}" for shard in serving.shards for version, why in shard.refused.items()
    ]


def _still(serving: Serving, configuration: RankingConfiguration) -> list[str]:
    late = [
        f"{shard.actor} still serves configuration {shard.configuration}"
        for shard in serving.shards if shard.configuration < configuration.number
    ]
    if serving.configuration is None:
        return [*late, "Redis does not answer, so which configuration requests have is not known"]
    if serving.configuration < configuration.number:
        return [*late, f"requests still have configuration {serving.configuration}"]
    return late
