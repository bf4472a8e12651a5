"""The second walk that `make run` prints, as printed: a creator publishes a locked photo and a subscriber pays for it."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from running import Platform

from cluster.launch.walk import creator_walk

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]


def test_a_creator_earns_as_printed(platform: Platform) -> None:
    platform.wait_well()
    walked = subprocess.run(
        ["bash", "-c", creator_walk(platform.settings)], capture_output=True, text=True, timeout=200, check=True,
        env=dict(os.environ) | {"COLUMNS": "200"},
    )
    answers = [json.loads(line) for line in walked.stdout.splitlines() if line.startswith("{")]
    posts = [answer for answer in answers if "postId" in answer]
    assert [post["access"] for post in posts] == ["subscribe", "open"], walked.stdout + walked.stderr
    locked, opened = posts
    assert locked["caption"] is None
    assert locked["media"][0]["url"] is None
    assert opened["caption"] == "For my friends"
    assert opened["media"][0]["url"]
    assert (answers[-1]["status"], answers[-1]["cancelAtPeriodEnd"]) == ("active", True)
