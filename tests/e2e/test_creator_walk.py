"""The second walk that `make run` prints, as printed: a creator publishes a locked photo, a follower subscribes and sees it."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from running import Platform

from cluster.launch.walk import creator_walk

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]


def test_a_creator_earns_as_printed(platform: Platform) -> None:
    platform.wait_well()
    walked = subprocess.run(
        ["bash", "-c", creator_walk(platform.settings)], capture_output=True, text=True, timeout=500, check=False,
        env=dict(os.environ) | {"COLUMNS": "200"},
    )
    assert walked.returncode == 0, walked.stdout + walked.stderr
    answers = [json.loads(line) for line in walked.stdout.splitlines() if line.startswith("{")]
    assert answers.count({"success": True}) == 1, "who subscribes follows first"
    posts = [answer for answer in answers if "postId" in answer]
    assert [post["access"] for post in posts] == ["subscribe", "open"], walked.stdout + walked.stderr
    locked, opened = posts
    assert locked["caption"] is None
    assert locked["media"][0]["url"] is None
    assert opened["caption"] == "For my friends"
    assert opened["media"][0]["url"]
    tip = next(answer for answer in answers if answer.get("amount") == "5.00" and "clientSecret" in answer)
    assert (tip["status"], tip["livemode"]) == ("completed", False)
    subscription = next(answer for answer in answers if "cancelAtPeriodEnd" in answer)
    assert (subscription["status"], subscription["cancelAtPeriodEnd"]) == ("active", True)
    (balance,) = answers[-1]["balances"]
    assert (balance["currency"], balance["pending"], balance["owed"]) == ("EUR", "12.00", "0.00"), "four fifths of 14.99"
    assert "agree" in walked.stdout
