"""What a roll deploys, and that only code and wish make it another release."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from actors.sharding import shapes
from cluster.launch import rolling, serving
from cluster.launch.rolling import next_release
from cluster.launch.serving import RELEASE, SHAPES, code_digest, deployment_config
from configs.contracts.errors import ConfigurationError
from configs.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Serve's, at its first import


@pytest.mark.parametrize(("present", "again", "expected"), [
    ("", False, "new"), ("old", False, "new"), ("old.3", True, "new"), ("new", False, "new"), ("new.2", False, "new.2"),
    ("new", True, "new.1"), ("new.9", True, "new.10"),
])
def test_other_code_is_another_release_and_the_same_code_only_by_wish(present: str, again: bool, expected: str) -> None:
    assert next_release(present, "new", again=again) == expected


def test_serve_takes_the_config_and_starts_a_new_replica_before_it_ends_an_old_one() -> None:
    from ray.serve._private.deploy_utils import get_app_code_version
    from ray.serve.schema import ServeDeploySchema

    def application(release: str, **plan: int) -> object:
        settings = load_settings("test")
        settings = settings.model_copy(update={"plan": settings.plan.model_copy(update=plan)})
        (found,) = ServeDeploySchema.model_validate(deployment_config(settings, release)).applications
        assert found.args == {RELEASE: release, SHAPES: shapes.digest()}
        assert found.deployments[0].max_surge_percent > 0
        return get_app_code_version(found)

    assert application("one") != application("two")
    assert application("one", serve_replicas=2) == application("one", serve_replicas=5), "more replicas restart none"


@pytest.mark.parametrize(("most", "bounds"), [(0, None), (2, None), (20, (2, 20))])
def test_serve_adds_replicas_under_load_only_where_the_plan_says_up_to_how_many(most: int, bounds: tuple[int, int] | None) -> None:
    from ray.serve.schema import ServeDeploySchema

    settings = load_settings("test", plan={"serve_replicas": 2, "serve_replicas_max": most})
    ((api,),) = (found.deployments for found in ServeDeploySchema.model_validate(deployment_config(settings, "one")).applications)
    if bounds is None:
        assert api.num_replicas == 2
        assert "autoscaling_config" not in api.model_dump(exclude_unset=True), "their number is fixed"
        return
    from ray.serve.config import AutoscalingConfig

    scaled = AutoscalingConfig.model_validate(api.autoscaling_config)
    assert (scaled.min_replicas, scaled.max_replicas) == bounds
    assert scaled.target_ongoing_requests == settings.plan.serve_target_ongoing_requests
    assert scaled.downscale_delay_s > scaled.upscale_delay_s, "quick to help, slow to go"


def test_the_digest_is_that_of_the_code() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12


def test_replicas_whose_calls_the_running_shards_would_not_understand_are_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed: list[str] = []
    monkeypatch.setattr(serving, "release", lambda: "old")
    monkeypatch.setattr(serving, "deploy", lambda settings, wanted: deployed.append(wanted))
    monkeypatch.setattr(serving, "details", lambda: {"applications": {serving.APPLICATION: {"status": "RUNNING", "deployments": {}}}})
    for others in ("", "another"):
        monkeypatch.setattr(serving, "carried", lambda others=others: others)
        with pytest.raises(ConfigurationError, match="sugar down"):
            rolling.roll(load_settings("test"), print, again=False, timeout_s=1)
    assert deployed == []
    monkeypatch.setattr(serving, "carried", shapes.digest)
    rolling.roll(load_settings("test"), print, again=False, timeout_s=1)
    assert deployed == [code_digest()]


def test_nothing_is_deployed_beside_shards_that_would_not_understand_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.launch import deployment

    class Connected(Exception):
        """Where a deployment that is not refused goes on."""

    def goes_on(call: object) -> None:
        raise Connected

    monkeypatch.setattr(deployment, "prepare", lambda settings: settings)
    monkeypatch.setattr(deployment, "_connect", lambda address, environment: None)
    monkeypatch.setattr(deployment, "_runtime", MagicMock)
    monkeypatch.setattr(deployment, "_ask", goes_on)

    def deploy() -> None:
        deployment.deploy(load_settings("test"), "127.0.0.1:1", print, 1)

    monkeypatch.setattr(serving, "carried", lambda: "another")
    with pytest.raises(ConfigurationError, match="cluster remove"):
        deploy()
    for carried in ("", shapes.digest()):
        monkeypatch.setattr(serving, "carried", lambda carried=carried: carried)
        with pytest.raises(Connected):
            deploy()
