"""The scripts of the Redis Cluster's pods (cluster/k8s/valkey.yaml), run as pods are: addresses that change, names that stay."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from certificates import certify
from pydantic import SecretStr
from running import eventually

from cluster.connections.redis import sync_client
from cluster.connections.redis_cluster import ClusterRedis
from cluster.embedded.ports import free_port
from cluster.embedded.valkey import binary
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings, load_settings

pytestmark = pytest.mark.timeout(300)

FILES = Path(__file__).parents[2] / "cluster" / "k8s" / "valkey.yaml"
PODS = 6
SERVICE = "sugar-redis"
PASSWORD = "secret"


def _without_tls(script: str) -> str:
    for words in ('--tls-cert-file "$TLS/tls.crt" --tls-key-file "$TLS/tls.key" --tls-ca-cert-file "$TLS/ca.crt" --tls-auth-clients no',
                  "--tls-cluster yes --tls-replication yes", '--tls --cacert "$TLS/ca.crt"', "--port 0"):
        script = script.replace(words, "")
    return script.replace("--tls-port", "--port")


def name_of(number: int) -> str:
    return f"{SERVICE}-{number}.{SERVICE}"


class Pods:
    """Six pods: each a server and the one that keeps it together with the others, on an address of its own.

    The wheel's server was built without TLS: with it Debian's Redis runs, which takes the same words.
    """

    def __init__(self, directory: Path, *, tls: bool) -> None:
        self.directory, self.tls = directory, tls
        self.port, self.bus = free_port(), free_port()
        self.addresses = {number: f"127.0.1.{number + 1}" for number in range(PODS)}
        self._running: dict[int, list[subprocess.Popen[bytes]]] = {}
        scripts = next(part for part in yaml.safe_load_all(FILES.read_text()) if part["kind"] == "ConfigMap")["data"]
        for name, text in scripts.items():
            (directory / name).write_text(text if tls else _without_tls(text))
        (directory / "bin").mkdir()
        if tls:
            for tool, there in (("server", "redis-server"), ("cli", "redis-cli")):
                (directory / "bin" / f"valkey-{tool}").symlink_to(str(shutil.which(there)))
        self._names()
        self._certify()

    def _names(self) -> None:
        """What the cluster's DNS says, to whoever asks `getent hosts NAME`."""
        tools = self.directory / "bin"
        (self.directory / "hosts").write_text("".join(f"{at} {name_of(number)}\n" for number, at in self.addresses.items()))
        (tools / "getent").write_text(f'#!/bin/sh\ngrep " $2$" {self.directory / "hosts"}\n')
        (tools / "getent").chmod(0o755)

    def _certify(self) -> None:
        certificate, key = certify(self.directory, hosts=[name_of(number) for number in range(PODS)])
        for name, there in (("ca.crt", certificate), ("tls.crt", certificate), ("tls.key", key)):
            (self.directory / name).symlink_to(there)

    def start(self, number: int) -> None:
        data = self.directory / f"data-{number}"
        data.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.directory / 'bin'}:{binary().parent}:{os.environ['PATH']}", "PORT": str(self.port), "BUS": str(self.bus),
            "DATA": str(data), "TLS": str(self.directory), "SERVICE": SERVICE, "NODE_TIMEOUT_MS": "1000", "REPLACED_AFTER_S": "4",
            "PAUSE_S": "0.5", "POD_NAME": f"{SERVICE}-{number}", "POD_IP": self.addresses[number], "PASSWORD": PASSWORD,
            "MAX_MEMORY": "64mb",
        }
        with (self.directory / f"{number}.log").open("ab") as log:
            self._running[number] = [
                subprocess.Popen(["sh", str(self.directory / script)], env=environment, stdout=log, stderr=log, start_new_session=True)
                for script in ("start.sh", "together.sh")
            ]

    def kill(self, number: int) -> None:
        for process in self._running.pop(number, []):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def move(self, number: int) -> None:
        """The pod is made anew elsewhere, with its disk and its name."""
        self.kill(number)
        host, _, last = self.addresses[number].rpartition(".")
        self.addresses[number] = f"{host}.{int(last) + PODS}"
        self._names()
        self.start(number)

    def asked(self, number: int, *words: str) -> str:
        """What one of them answers."""
        with redis.Redis(
            host=self.addresses[number], port=self.port, password=PASSWORD, ssl=self.tls, ssl_cert_reqs="none", socket_timeout=2,
        ) as client:
            told: bytes = client.execute_command(*words)
        return told.decode()

    def whole(self) -> bool:
        """Whether each of the six serves, and knows three primaries with slots and three replicas under their present addresses."""
        for number in range(PODS):
            try:
                serves = "cluster_state:ok" in self.asked(number, "CLUSTER", "INFO")
                nodes = [line.split() for line in self.asked(number, "CLUSTER", "NODES").splitlines()]
            except redis.RedisError:
                return False
            here = {node[1].partition("@")[0]: node for node in nodes if node[7] == "connected" and "fail" not in node[2]}
            if not serves or not {f"{at}:{self.port}" for at in self.addresses.values()} <= here.keys():
                return False
            if sum(len(node) > 8 for node in here.values()) != 3 or sum("slave" in node[2] for node in here.values()) != 3:
                return False
        return True


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def pods(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    if request.param and shutil.which("redis-server") is None:
        pytest.skip("apt-get install redis-server; CI has it")
    made = Pods(tmp_path, tls=request.param)
    real = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        names = {name_of(number): at for number, at in made.addresses.items()}
        text = host.decode() if isinstance(host, bytes) else host
        return real(names.get(text, text), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    try:
        for number in range(PODS):
            made.start(number)
        yield made
    finally:
        for number in range(PODS):
            made.kill(number)


@pytest.fixture
def settings(pods: Pods) -> Settings:
    encrypted, option = ("s", f"?ssl_ca_certs={pods.directory / 'ca.crt'}") if pods.tls else ("", "")
    url = f"redis{encrypted}+cluster://:{PASSWORD}@{name_of(0)}:{pods.port}{option}"
    return load_settings("test").model_copy(update={"redis_url": SecretStr(url)})


def test_pods_form_a_cluster_lose_nothing_with_one_of_them_and_find_each_other_after_all_have_moved(pods: Pods, settings: Settings) -> None:
    eventually(pods.whole, 60)
    keys = [f"key-{number}" for number in range(60)]
    with sync_client(settings) as client:
        assert isinstance(client, ClusterRedis)
        assert {owner.rpartition(":")[0] for owner in client.topology(renewed=True).primaries} == {name_of(0), name_of(1), name_of(2)}
        for key in keys:
            client.set(key, "there")

        pods.move(1)
        eventually(pods.whole, 60)

        def kept() -> bool:
            try:
                client.topology(renewed=True)
                return [client.get(key) for key in keys] == [b"there"] * len(keys)
            except (DependencyUnavailable, redis.RedisError):
                return False

        eventually(kept, 30)
        assert name_of(4) in {owner.rpartition(":")[0] for owner in client.topology(renewed=True).primaries}, "the replica took over"

    for number in range(PODS):
        pods.kill(number)
    for number in range(PODS):
        pods.move(number)
    eventually(pods.whole, 90)
    with sync_client(settings) as client:
        for key in keys:
            client.set(key, "again")
        assert [client.get(key) for key in keys] == [b"again"] * len(keys)
