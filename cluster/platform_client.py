"""A platform as a notebook sees it: cards as they are served, and the models that rank them.

    with PlatformClient.local(".sugar") as platform:
        version = platform.publish(ranker)
        platform.deploy(version)
        platform.cards(user_id)

``local`` takes the data directory of a platform on this machine. ``remote`` needs what an operator's machine has: the
platform's settings (``DATABASE_URL``, ``KAFKA_BROKERS``, ``SUGAR_AUTH__…``) and the API's URL, not that of a public edge,
which refuses the service token of ``explain``. ``refresh`` works on the machine of the platform's head node only: its
export names people and never leaves the cluster; elsewhere ``ranking.refresh_period_s`` does it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from cluster.launch.ranking import asking, job
from cluster.launch.ranking.operating import RankingOperator, Serving, ShardState, Stored, behind
from cluster.launch.state import read_state, running_settings
from configs.contracts.access_tokens import AccessTokens
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.contracts.ids import new_id
from configs.contracts.ranking import Arm, Experiment, RankingConfiguration, Split
from configs.settings import Settings, load_settings
from recommender import artifacts
from recommender.datasets import exported
from recommender.datasets.exported import Exported
from recommender.ranking import Ranker
from writers.connections import open_rows
from writers.export import export

TIMEOUT_S: Final = 20.0
PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class RankingStatus:
    """What ranks cards now. ``problems``: what keeps requests or shards from the configuration, in sentences; ``cautions``:
    what serves worse than it could (no people table, or prices of another model)."""

    configuration: RankingConfiguration
    shards: list[ShardState]
    problems: list[str]
    cautions: list[str]


class PlatformClient:
    """One platform. Every method may raise DependencyUnavailable: a server of it does not answer."""

    def __init__(self, settings: Settings, url: str, data_dir: Path | None) -> None:
        """``url``: root of the HTTP API. ``data_dir`` None: the platform runs elsewhere."""
        self._operator = RankingOperator(settings)
        self._tokens = AccessTokens(settings.auth)
        self._data_dir = data_dir
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S)

    @classmethod
    def local(cls, data_dir: Path | str = ".sugar") -> Self:
        """The platform that runs on a data directory. Raises ConfigurationError: none does."""
        directory = Path(data_dir)
        settings = running_settings(directory)
        return cls(settings, f"http://127.0.0.1:{read_state(directory).ports['api']}", directory)

    @classmethod
    def remote(cls, url: str, settings: Settings) -> Self:
        """A platform elsewhere, with the settings that it was started with (``configs.settings.load_settings``)."""
        return cls(settings, url, None)

    @classmethod
    def told(cls, environment: Mapping[str, str]) -> Self | None:
        """The platform that variables name: ``SUGAR_DATA_DIR`` one on this machine, ``SUGAR_URL`` one elsewhere, whose
        settings are those of ``SUGAR_PROFILE`` (production) and the environment. None: neither is set.

        Raises ConfigurationError: no platform runs there, or the settings are incomplete.
        """
        if directory := environment.get("SUGAR_DATA_DIR"):
            return cls.local(directory)
        if url := environment.get("SUGAR_URL"):
            return cls.remote(url, load_settings(environment.get("SUGAR_PROFILE", "production")))
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def cards(self, user_id: str, **filters: Any) -> list[dict[str, Any]]:
        """The first cards that the person would be shown now, as the API serves them; it is logged as served.

        ``filters`` are those of the route, e.g. ``maxDistanceKm=20`` and ``limit=50``.
        """
        token = self._tokens.issue(user_id, new_id())
        answer = self._http.get(
            f"{PREFIX}/matching/cards", params=filters, headers={"Authorization": f"Bearer {token}"}
        )
        if answer.status_code != 200:
            raise DependencyUnavailable("the API refused", status=answer.status_code, problem=answer.text[:500])
        cards: list[dict[str, Any]] = answer.json()["cards"]
        return cards

    def people(self, count: int = 100) -> list[str]:
        """Ids of some people who have a place and a role, the same ones each time; for operators, not for apps."""
        with open_rows(self._operator.settings, "people") as conn:
            found = conn.execute(
                "SELECT id::text FROM users WHERE cell IS NOT NULL AND role IS NOT NULL ORDER BY id LIMIT %s", (count,)
            ).fetchall()
        return [row[0] for row in found]

    def exported(self, since: datetime) -> Exported:
        """Pseudonymous rows since a time, as `sugar ranking export` writes them, as arrays; keeps no file."""
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "export"
            export(self._operator.settings, out, since)
            return exported.read(out)

    def status(self) -> RankingStatus:
        """What is configured, and what the shards reported last."""
        return self._status(self._operator.configuration(), self._operator.serving())

    def models(self) -> list[Stored]:
        """Every model in the store with its manifest, newest first."""
        return self._operator.models()

    def publish(self, ranker: Ranker, metadata: Mapping[str, Any] | None = None) -> str:
        """Puts a ranker into the store and returns its version; one that is there already stays as it is.

        Raises ValueError: the ranker is of no kind that can be stored. ArtifactCorrupt: it cannot score.
        """
        if ranker.version in self._operator.store.versions("models"):
            return ranker.version
        with tempfile.TemporaryDirectory() as scratch:
            artifacts.save(ranker, Path(scratch) / "model", {"code_version": job.code_version()} | dict(metadata or {}))
            return self._operator.publish(Path(scratch) / "model")

    def deploy(self, version: str) -> RankingStatus:
        """Ranks everybody's cards with a version; returns once requests and shards serve by it, or says why not.

        Raises ArtifactMissing, ArtifactCorrupt, FeaturesDiffer: nothing was changed.
        """
        return self._followed(self._operator.deploy(version))

    def rollback(self) -> RankingStatus:
        """Back to the default version before the present one; a running experiment ends."""
        return self._followed(self._operator.rollback())

    def start_experiment(
        self, name: str, split: Split, arms: Mapping[str, tuple[str, float]], *, period_s: int = 3_600,
        waiting_likes: Mapping[str, float] | None = None,
    ) -> RankingStatus:
        """Splits viewers among ``arms``: name -> (version, share). ``waiting_likes``: arm -> boost of waiting likes, the
        configuration's for others."""
        boosts = waiting_likes or {}
        made = tuple(Arm(arm, version, share, boosts.get(arm)) for arm, (version, share) in arms.items())
        return self._followed(self._operator.start_experiment(Experiment(name, split, made, period_s)))

    def stop_experiment(self) -> RankingStatus:
        """Everybody gets the default version again."""
        return self._followed(self._operator.stop_experiment())

    def put_forward(self, boost: float) -> RankingStatus:
        """Adds this much to the score of people whose like waits for the viewer's answer; 0: as everybody else."""
        return self._followed(self._operator.put_forward(boost))

    def explain(self, viewer_id: str, candidate_id: str, version: str = "") -> dict[str, Any]:
        """The exact terms of one card's score, from the shard that holds the candidate.

        Raises NotExplained: one of the two has no place or does not exist.
        """
        return asking.explain(self._operator.settings, str(self._http.base_url).rstrip("/"), viewer_id, candidate_id, version)

    def refresh(self, priced_for: str | None = None) -> RankingStatus:
        """Makes a new people table on the cluster and hands it to the shards.

        ``priced_for``: the model version that exposure prices are made for, say before it is deployed; None: the one that
        serves and reads prices, else the default version. Raises ConfigurationError: the platform runs elsewhere.
        """
        made = job.on_cluster(self._here(), "refresh", {"priced_for": priced_for})
        return self._followed(self._operator.use_table(str(made["version"])))

    def _here(self) -> Path:
        if self._data_dir is None:
            raise ConfigurationError(
                "this needs the platform's own machine: connect with PlatformClient.local, or set ranking.refresh_period_s"
            )
        return self._data_dir

    def _followed(self, configuration: RankingConfiguration) -> RankingStatus:
        return self._status(configuration, self._operator.wait(configuration))

    def _status(self, configuration: RankingConfiguration, serving: Serving) -> RankingStatus:
        return RankingStatus(
            configuration, serving.shards, behind(serving, configuration), self._operator.cautions(configuration)
        )
