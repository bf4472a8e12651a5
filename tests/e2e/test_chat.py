"""The walk that `make run` prints, as printed: two people register, match and chat in two terminals."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from media_world import picture
from running import Platform, sugar

from cluster.launch.walk import walk

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]


class Terminal:
    """A command with a keyboard and a screen."""

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=dict(os.environ) | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.shown: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip())

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def shows(self, text: str, within_s: float = 60.0) -> None:
        """Returns when the text has appeared."""
        deadline = time.monotonic() + within_s
        while not any(text in line for line in self.shown):
            try:
                self.shown.append(self._lines.get(timeout=max(0.01, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no {text!r} on the screen: {self.shown}") from None

    def leave(self) -> int:
        """Ctrl-D; the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(60)
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(5)
        self._reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def terminals(*commands: str) -> Iterator[list[Terminal]]:
    opened = [Terminal(command) for command in commands]
    try:
        yield opened
    finally:
        for terminal in opened:
            terminal.kill()


def test_two_terminals_chat_as_printed(platform: Platform, tmp_path: Path) -> None:
    picture_file = tmp_path / "a photo.jpg"
    picture_file.write_bytes(picture(seed=time.time_ns()))
    platform.wait_well()
    walked = subprocess.run(["bash", "-c", walk(platform.url)], capture_output=True, text=True, timeout=120, check=True)
    ada, ben = walked.stdout.strip().splitlines()[-2:]
    assert "--as Ada-" in ada, walked.stdout + walked.stderr
    with terminals(ada, ben) as (hers, his):
        hers.shows("with Ben")
        his.shows("with Ada")
        hers.shows("Ben is online")
        hers.type("Hello Ben")
        his.shows("Ada: Hello Ben")
        hers.shows("Ben has read up to message 1")
        hers.type("/photo no-such-file.jpg")
        hers.shows("not sent: No such file")
        hers.type(f"/photo {picture_file}")
        his.shows("Ada: (1 attached)")
        hers.shows("[photo 320x240 http")
        his.shows("[not to be seen now")
        his.type("Hello Ada; how are you?")
        hers.shows("Ben: Hello Ada; how are you?")
        assert hers.leave() == 0
        his.shows("Ada is away")
        with terminals(ada) as (again,):
            again.shows("me: Hello Ben")
            platform.kill("gateway")
            again.type("still there?")
            his.shows("Ada: still there?")
            assert again.leave() == 0
        assert his.leave() == 0
    platform.wait_well()


def test_chat_says_what_is_wrong(platform: Platform) -> None:
    platform.wait_well()
    refused = sugar("chat", "--url", platform.url, "--as", "nobody@example.com", check=False)
    assert refused.returncode == 1
    assert "refused to sign in" in refused.stdout


def test_status_names_the_ports_of_the_gateways(platform: Platform) -> None:
    found = platform.wait_well()
    gateways = [actor for actor in found["actors"] if actor["name"].startswith("gateway-")]
    assert len(gateways) == platform.settings.plan.gateways
    assert tuple(actor["figures"]["gateway"]["port"] for actor in gateways) == platform.settings.realtime.ports
