"""What an operator should know of a configuration that is sound and still serves worse than it could."""

from __future__ import annotations

from cluster.connections.artifacts import ArtifactStore
from configs.contracts.errors import PlatformError
from configs.contracts.ranking import BASELINE, RankingConfiguration
from recommender import artifacts
from recommender.datasets.pricing import priced_as
from recommender.exposure import PRICE
from recommender.people_table import PRICED_AS, PRICED_FOR, read_from_table


def cautions(store: ArtifactStore, configuration: RankingConfiguration) -> list[str]:
    """Sentences about models that serve without the people table they read, or with prices made for another model.

    Nothing is refused: neutral history and other prices are no error. Raises ArtifactMissing, ArtifactCorrupt,
    FeaturesDiffer, DependencyUnavailable: what is named cannot be read.
    """
    rankers = {version: artifacts.load(store.fetch("models", version)) for version in configuration.versions() if version != BASELINE}
    readers = {version: ranker for version, ranker in rankers.items() if read_from_table(ranker.features)}
    table = configuration.people_table
    if table is None:
        return [
            f"{version} reads {', '.join(read_from_table(ranker.features))} from a people table, and none is in force: it serves"
            " as if nobody had a history; run `sugar ranking refresh`" for version, ranker in readers.items()
        ]
    manifest = artifacts.read_manifest(store.fetch("people", table))
    return [
        f"{version} reads exposure prices, and those of {table} were made for {manifest.get(PRICED_FOR, 'no model it names')};"
        f" run `sugar ranking refresh --for {version}`"
        for version, ranker in readers.items() if PRICE in ranker.features and manifest.get(PRICED_AS) != priced_as(ranker)
    ]


def told(store: ArtifactStore, configuration: RankingConfiguration) -> list[str]:
    """``cautions``, or why there are none to be had."""
    try:
        return cautions(store, configuration)
    except PlatformError as error:
        return [f"whether the people table fits cannot be told: {error}"]
