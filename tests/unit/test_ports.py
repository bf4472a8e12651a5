"""Two platforms that start at the same moment agree about who has which port."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster.embedded import process
from cluster.embedded.process import free_port
from cluster.launch.ports import choose_ports, claim
from configs.settings import load_settings

OTHER = "import sys; from cluster.launch.ports import claim; print(claim(int(sys.argv[1])), flush=True); sys.stdin.read()"


def test_a_port_that_nobody_wished_for_is_one_that_no_outgoing_connection_takes() -> None:
    assert all(free_port() in process.PORTS for _ in range(20))


def test_a_port_that_another_process_claimed_and_did_not_bind_yet_is_not_chosen(tmp_path: Path) -> None:
    wanted = free_port()
    command = [sys.executable, "-c", OTHER, str(wanted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "True\n"
        assert not claim(wanted)
        settings = load_settings("test", data_dir=tmp_path, port=free_port())
        assert choose_ports(settings, {"dashboard": wanted})["dashboard"] != wanted
        other.stdin.close()
    assert claim(wanted), "its process has ended"
    assert claim(wanted)
    assert choose_ports(settings, {"dashboard": wanted})["dashboard"] == wanted
