"""Benches put services of their own into the platform's host: it must be able to build them."""

from __future__ import annotations

from functools import partial

from actors.sharding.host import Build
from cluster.launch.bench import geo_ray, shard
from configs.settings import Settings


def test_a_host_builds_the_services_of_benches() -> None:
    builds: list[Build] = [partial(geo_ray.services, 100, 1, 0.0), partial(shard.services, 100, 50, 1)]
    for build in builds:
        (service,) = build(Settings(profile="test"), "cards-0", None).values()
        assert all(callable(getattr(service, name)) for name in service.METHODS)
