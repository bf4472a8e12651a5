"""Two platforms that start at the same moment agree about who has which port."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.embedded.pids import began
from cluster.embedded.ports import PORTS, claim, free_port
from cluster.launch.ports import choose_ports
from configs.settings import load_settings

OTHER = "import sys; from cluster.embedded.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"


def test_a_port_that_another_process_chose_and_did_not_bind_yet_is_not_chosen(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        theirs = int(other.stdout.readline())
        assert not claim(theirs)
        assert free_port(theirs) != theirs
        settings = load_settings("test", data_dir=tmp_path, port=free_port())
        assert choose_ports(settings, {"dashboard": theirs})["dashboard"] != theirs
        other.stdin.close()
    assert claim(theirs), "its process has ended"
    assert claim(theirs)
    assert choose_ports(settings, {"dashboard": theirs})["dashboard"] == theirs


def test_what_a_process_claimed_is_not_kept_by_another_that_has_its_number_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert claim(12_345)
    (claimed,) = tmp_path.glob("sugar-ports-*/12345")
    pid, since = os.getppid(), began(os.getppid())
    claimed.write_text(f"{pid} {since}")
    assert not claim(12_345)
    claimed.write_text(f"{pid} {since}0")
    assert claim(12_345)


def test_no_port_is_one_that_the_next_outgoing_connection_may_take() -> None:
    assert all(free_port() in PORTS for _ in range(100))


def test_no_port_is_given_twice_though_nobody_has_bound_it_yet() -> None:
    given = [free_port() for _ in range(400)]
    assert len(set(given)) == len(given)
    assert free_port(given[0]) == given[0], "unless it is asked for"
