"""The small server's Compose file fits its specification and the platform's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_deploy_files import ANY, COMPOSE, SECRETS, known_only

from configs.settings import load_settings


def test_the_small_server_starts_with_settings_that_production_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    platform = compose["services"]["platform"]
    example = (COMPOSE.parent / "platform.env.example").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    known = SECRETS | {"DATABASE_URL": "postgresql://sugar:p@postgres/sugar", "REDIS_URL": "redis://:p@valkey:6379/0"}
    for name, value in (variables | platform["environment"]).items():
        if name.endswith("_FILE"):
            (tmp_path / Path(value).name).write_text(known[name.removesuffix("_FILE")] + "\n")
            assert Path(value).name in platform["secrets"]
            value = str(tmp_path / Path(value).name)
        monkeypatch.setenv(name, value)
    settings = load_settings("production")
    assert settings.kafka_brokers == "kafka:9092"
    published = {int(port.split(":")[1]) for port in platform["ports"]}
    assert published == {settings.port, *settings.realtime.ports}
    assert all(port.startswith("127.0.0.1:") for port in platform["ports"]), "only an edge that ends TLS reaches it"


COMPOSE_FIELDS: dict[str, Any] = {
    "name": {}, "networks": ANY, "volumes": ANY, "secrets": ANY,
    "services": {
        "image": {}, "build": {"context": {}, "dockerfile": {}}, "command": {}, "restart": {}, "init": {}, "stop_grace_period": {},
        "shm_size": {}, "ulimits": {"nofile": {}}, "networks": {}, "ports": {}, "env_file": {}, "environment": ANY, "secrets": {},
        "depends_on": ANY, "healthcheck": {"test": {}, "interval": {}, "timeout": {}, "retries": {}, "start_period": {}},
        "volumes": {"type": {}, "source": {}, "target": {}, "read_only": {}, "bind": {"create_host_path": {}}},
    },
}


"""Those of the Compose specification, as far as the file needs them; under services, of each."""


def test_compose_uses_known_fields() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    of_services = compose.pop("services")
    known = COMPOSE_FIELDS | {"services": {}}
    assert compose.keys() <= known.keys()
    for name, service in of_services.items():
        known_only(service, COMPOSE_FIELDS["services"], f"services.{name}", "a compose file")
        for other, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            assert "healthcheck" in of_services[other]
        for duration in ("interval", "timeout", "start_period"):
            assert re.fullmatch(r"\d+[sm]", service["healthcheck"].get(duration, "1s"))


def test_compose_names_only_what_it_declares() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert compose["networks"]["engines"] == {"internal": True}
    for name, service in compose["services"].items():
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service["networks"]) <= set(compose["networks"])
        volumes = service.get("volumes", ())
        assert {volume.split(":")[0] for volume in volumes if isinstance(volume, str)} <= set(compose["volumes"])
        for bound in (volume for volume in volumes if not isinstance(volume, str)):
            assert bound["bind"] == {"create_host_path": False}, "a directory that nobody made belongs to root"
        assert ":" in service["image"]
        assert "healthcheck" in service
        if name != "platform":
            assert "ports" not in service, "engines are reached by the platform only"
            assert service["networks"] == ["engines"]
