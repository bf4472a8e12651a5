"""From rows to a model on running shards and back, as an operator does it."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from running import Platform, eventually, sugar

from cluster.launch.ranking.asking import NotExplained
from cluster.launch.seeding import PASSWORD
from cluster.platform_client import PlatformClient
from configs.contracts.errors import ArtifactCorrupt, ArtifactMissing, DependencyUnavailable, PlatformError
from configs.contracts.ids import derived_id
from configs.contracts.impressions import unsealed
from configs.contracts.ranking import BASELINE, WAITING_LIKE
from recommender import artifacts
from recommender.datasets.exported import read
from recommender.features import FEATURES
from recommender.learning import evaluate
from recommender.logistic import Logistic
from writers.export import export

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

SEED, PEOPLE = 77, 160


def ranking(platform: Platform, *arguments: str, check: bool = True) -> str:
    done = sugar("ranking", *arguments, "--data-dir", str(platform.data_dir), timeout_s=180, check=check)
    return done.stdout


@pytest.fixture(scope="module")
def people(platform: Platform) -> list[str]:
    """People of the test's own in one city, visible in the read model."""
    platform.wait_well()
    sugar("seed", "--users", str(PEOPLE), "--near", "Lisbon", "--seed", str(SEED), "--data-dir", str(platform.data_dir), timeout_s=120)
    return [derived_id(f"demo:{SEED}", str(index)) for index in range(PEOPLE)]


@pytest.fixture(scope="module")
def client(platform: Platform, people: list[str]) -> Iterator[PlatformClient]:
    with PlatformClient.local(platform.data_dir) as connected:
        eventually(lambda: all(known(connected, people[0], person) for person in people), 60)
        connected.put_forward(0.0)  # orders are compared; likes that arrive meanwhile would change them
        yield connected
        if connected.status().configuration.default_version != BASELINE:
            connected.deploy(BASELINE)
        connected.put_forward(WAITING_LIKE)


def known(client: PlatformClient, viewer: str, person: str) -> bool:
    """Whether the card shards have heard of the person: they do so from the log, not from the read model."""
    try:
        return bool(client.explain(viewer, person))
    except (NotExplained, DependencyUnavailable):
        return False


def by_age(weight: float) -> Logistic:
    """Orders by age alone; so unlikely that ln P is as good as linear, and no two ages are one score."""
    return Logistic(("age_years",), np.array([weight]), np.array([FEATURES["age_years"].neutral]), -10_000.0)


def ages(cards: list[dict[str, Any]]) -> list[int]:
    return [card["age"] for card in cards]


def viewers(client: PlatformClient, people: list[str], count: int) -> list[str]:
    """People who are shown at least five others."""
    return list(itertools.islice((person for person in people if len(client.cards(person)) >= 5), count))


def test_a_changed_weight_changes_the_cards_within_seconds_and_back(client: PlatformClient, people: list[str]) -> None:
    (viewer,) = viewers(client, people, 1)
    young, old = client.publish(by_age(-100.0)), client.publish(by_age(100.0))
    client.deploy(young)
    first = client.cards(viewer, limit=100)
    client.deploy(old)
    second = client.cards(viewer, limit=100)
    assert {card["userId"] for card in first} == {card["userId"] for card in second}, "a deploy loses no card"
    assert ages(first) == sorted(ages(first))
    assert ages(second) == sorted(ages(second), reverse=True)
    impression = unsealed(second[0]["impressionId"])
    assert impression is not None
    assert old.startswith(impression.model_version)
    found = client.explain(viewer, second[0]["userId"])
    assert found["modelVersion"] == old
    assert sum(found["terms"].values()) == pytest.approx(found["score"], rel=1e-6)
    assert found["eligible"]
    client.rollback()
    assert ages(client.cards(viewer, limit=100)) == ages(first)
    # A look of the runtime that took too long tells of no shard.
    shards = eventually(lambda: client.status().shards, 60, every_s=0.5)
    assert all(shard.model_version == young and not shard.refused for shard in shards)


def test_models_change_under_load_and_no_request_for_cards_fails(
    client: PlatformClient, platform: Platform, people: list[str]
) -> None:
    chosen = [people.index(person) for person in viewers(client, people, 4)]
    statuses: Counter[int] = Counter()
    done = threading.Event()

    def look(index: int) -> None:
        with platform.client() as patient, httpx.Client(base_url=f"{platform.url}/api/v1", timeout=20) as http:
            signed_in = patient.post("/auth/login", json={"email": f"demo-{SEED}-{index}@example.com", "password": PASSWORD})
            headers = {"Authorization": f"Bearer {signed_in.json()['accessToken']}"}
            for low in itertools.cycle(range(18, 40)):  # another filter is another deck: each is ranked anew
                if done.is_set():
                    return
                answer = http.get("/matching/cards", headers=headers, params={"ageMin": low})
                statuses[answer.status_code] += 1

    versions = [client.publish(by_age(weight)) for weight in (-90.0, 90.0)]
    with ThreadPoolExecutor(len(chosen)) as threads:
        looking = [threads.submit(look, index) for index in chosen]
        try:
            for version in (*versions, *versions):
                before = statuses.total()
                client.deploy(version)
                eventually(lambda before=before: statuses.total() >= before + 20, 60)
            client.rollback()
        finally:
            done.set()
        for each in looking:
            each.result(timeout=60)
    assert set(statuses) == {200}, statuses


def test_a_waiting_like_is_put_forward_and_explained(client: PlatformClient, platform: Platform, people: list[str]) -> None:
    client.deploy(client.publish(by_age(0.2)))  # scores within 50 of each other, and nobody's activity counts
    (viewer,) = viewers(client, people[::-1], 1)
    last = client.cards(viewer, limit=100)[-1]["userId"]
    index = people.index(last)
    with platform.client() as http:
        signed_in = http.post("/auth/login", json={"email": f"demo-{SEED}-{index}@example.com", "password": PASSWORD})
        headers = {"Authorization": f"Bearer {signed_in.json()['accessToken']}"}
        assert http.post("/matching/swipe", headers=headers, json={"targetUserId": viewer, "action": "like"}).status_code == 200
    client.put_forward(50.0)
    try:
        eventually(lambda: client.cards(viewer, limit=100)[0]["userId"] == last, 60, every_s=0.3)
        found = client.explain(viewer, last)
        assert found["terms"]["waiting_like"] == 50.0
        assert found["features"]["waiting_like"] == 1.0
        assert sum(found["terms"].values()) == pytest.approx(found["score"], rel=1e-6)
    finally:
        client.put_forward(0.0)
    assert "waiting_like" not in client.explain(viewer, last)["terms"]


def test_what_cannot_be_served_is_refused_and_the_old_version_goes_on(platform: Platform, client: PlatformClient, people: list[str]) -> None:
    client.deploy(client.publish(by_age(0.3)))  # its order stays the same while time passes
    (viewer,) = viewers(client, people, 1)
    before = client.status().configuration
    cards = client.cards(viewer, limit=100)
    broken = client.publish(by_age(0.123))
    arrays = platform.data_dir / "artifacts" / "models" / broken / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-7] + b"damaged")
    with pytest.raises(ArtifactCorrupt):
        client.deploy(broken)
    with pytest.raises(ArtifactMissing):
        client.deploy("never-made")
    refused = sugar("ranking", "deploy", broken, "--data-dir", str(platform.data_dir), check=False)
    assert refused.returncode == 1
    assert "manifest" in refused.stdout
    assert client.status().configuration == before
    assert [card["userId"] for card in client.cards(viewer, limit=100)] == [card["userId"] for card in cards]
    listed = json.loads(ranking(platform, "list", "--json"))
    assert listed["configuration"]["number"] == before.number
    for arms, says in (({"a": ("baseline", 0.5), "b": ("baseline", 0.6)}, "sum to 1"), ({"a": ("never-made", 0.5), "b": ("baseline", 0.5)}, "no such version")):
        with pytest.raises(PlatformError, match=says):
            client.start_experiment("bad", "user", arms)
    assert client.status().configuration == before


def swiped(client: PlatformClient, platform: Platform, people: list[str], count: int) -> int:
    """People swipe what they are shown, liking the young; how many swipes were made."""
    made = 0
    with platform.client() as http:
        for index, person in enumerate(people):
            if made >= count:
                break
            signed_in = http.post("/auth/login", json={"email": f"demo-{SEED}-{index}@example.com", "password": PASSWORD})
            assert signed_in.status_code == 200, signed_in.text
            headers = {"Authorization": f"Bearer {signed_in.json()['accessToken']}"}
            cards = http.get("/matching/cards?limit=10", headers=headers).json()["cards"]
            assert [card["userId"] for card in cards] == [card["userId"] for card in client.cards(person, limit=10)]
            if cards:
                ids = [card["impressionId"] for card in cards]
                seen = http.post("/matching/impressions", headers=headers, json={"impressionIds": ids})
                assert seen.json() == {"recorded": len(ids)}
            for card in cards:
                action = "like" if card["age"] < 40 or index % 4 == 0 else "pass"
                body = {"targetUserId": card["userId"], "action": action, "impressionId": card["impressionId"]}
                assert http.post("/matching/swipe", headers=headers, json=body).status_code == 200
                made += 1
    return made


def test_an_experiment_is_split_logged_exported_trained_on_and_read(
    platform: Platform, client: PlatformClient, people: list[str], tmp_path: Path
) -> None:
    began = datetime.now(UTC)
    old, new = client.publish(by_age(-0.5)), client.publish(by_age(0.5))
    client.start_experiment("spring", "user", {"old": (old, 0.5), "new": (new, 0.5)})
    (viewer,) = viewers(client, people, 1)

    def split() -> bool:  # replicas hear of it through the read model, which may be later than the shards
        impression = unsealed(client.cards(viewer)[0]["impressionId"])
        return impression is not None and any(version.startswith(impression.model_version) for version in (old, new))

    eventually(split, 60)
    made = swiped(client, platform, people, 100)

    def reported() -> tuple[Path, dict[str, Any]] | None:
        # What was served is told to the log a moment after the answer, so a swipe may be in the rows before its card.
        out = tmp_path / f"export-{datetime.now(UTC):%H%M%S%f}"
        if export(platform.settings, out, began)["swipes"] != made:
            return None
        found = json.loads(ranking(platform, "experiment", "report", "--data", str(out), "--json"))
        whole = sum(arm["answered"] for arm in found["arms"]) == made and sum(arm["seen"] for arm in found["arms"]) >= made
        return (out, found) if whole else None

    data: Path
    report: dict[str, Any]
    data, report = eventually(reported, 120, every_s=0.5)
    assert {arm["arm"] for arm in report["arms"]} == {"old", "new"}
    assert sum(arm["seen"] for arm in report["arms"]) >= made
    assert report["sample_ratio"]["mixed"] == 0
    assert not report["sample_ratio"]["suspect"]
    client.stop_experiment()
    trained = json.loads(ranking(
        platform, "train", "--data", str(data), "--grid", "l2=1,10", "--out", str(tmp_path / "models"), "--json"
    ))
    assert len(trained["trials"]) == 2
    ranker = artifacts.load(trained["artifact"])
    assert evaluate(ranker, read(data))["like_auc"] > 0.6, "liking the young was planted"
    client.deploy(trained["version"])
    status = client.refresh(priced_for=trained["version"])
    assert status.cautions == []
    assert status.configuration.default_version == trained["version"]
    assert status.problems == []
    assert all(shard.people_in_table >= PEOPLE for shard in status.shards)
    client.rollback()
