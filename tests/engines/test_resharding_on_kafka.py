"""`sugar reshard` on Apache Kafka: a platform goes on with twice the partitions where it stopped, and back again."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx
import pytest
from running import Platform, eventually, sugar

from cluster.connections.topics import partition_counts
from configs.contracts.topics import TOPICS

pytestmark = [pytest.mark.platform, pytest.mark.proved_elsewhere, pytest.mark.timeout(1_200)]

PASSWORD = "correct horse battery"
PATIENCE_S = 30.0


class People:
    """Two who like each other, and what they see."""

    def __init__(self, platform: Platform) -> None:
        self.url = platform.url + "/api/v1"
        self.names = [f"reshard-{uuid.uuid4().hex}@example.com" for _ in range(2)]
        self.ids, self.tokens = ["", ""], ["", ""]

    def ask(self, who: int, method: str, path: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if self.tokens[who] else {}
        until = time.monotonic() + PATIENCE_S
        again = (404, 503) if path == "/messaging/send" else (503,)  # 404: the conversation of a new match opens by the log
        while True:
            answer = httpx.request(method, self.url + path, headers=headers, json=body or None, timeout=20)
            # As every client does; tests before this one have killed the read model, which may still be made anew.
            if answer.status_code not in again or time.monotonic() > until:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        assert answer.status_code < 300, answer.text
        return dict(answer.json()) if answer.content else {}

    def register(self) -> None:
        for who, role in enumerate(("sugar_baby", "sugar_daddy")):
            made = self.ask(who, "POST", "/auth/register", email=self.names[who], password=PASSWORD, role=role,
                            displayName="Resharded", birthDate="1994-05-17")
            self.ids[who], self.tokens[who] = made["userId"], made["accessToken"]

    def sign_in(self) -> None:
        for who in (0, 1):
            self.tokens[who] = ""
            self.tokens[who] = self.ask(who, "POST", "/auth/login", email=self.names[who], password=PASSWORD)["accessToken"]

    def like(self, who: int) -> dict[str, Any]:
        return self.ask(who, "POST", "/matching/swipe", targetUserId=self.ids[1 - who], action="like")

    def say(self, who: int, conversation: str, text: str) -> dict[str, Any]:
        return self.ask(who, "POST", "/messaging/send", conversationId=conversation, content=text, clientMessageId=str(uuid.uuid4()))

    def said(self, who: int, conversation: str) -> list[tuple[int, str]]:
        messages = self.ask(who, "GET", f"/messaging/conversations/{conversation}/messages")["messages"]
        return sorted((message["seq"], message["content"]) for message in messages)


def test_partitions_change_and_nothing_is_lost_or_told_twice(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.wait_well()
    before = platform.settings.log
    people = People(platform)
    people.register()
    assert people.like(0) == {"matched": False}
    # A match that took the other person's shard longer than half a second is told to who asks again.
    conversation = eventually(lambda: people.like(1).get("matchId"), 30.0)
    expected = []
    try:
        for count in (before.partitions * 2, before.partitions):
            expected.append((len(expected) + 1, f"before {count}"))
            assert people.say(0, conversation, expected[-1][1])["seq"] == len(expected)
            refused = sugar("reshard", "--partitions", str(count), "--data-dir", str(platform.data_dir), "--yes", check=False)
            assert refused.returncode == 1
            assert "stop it first" in refused.stdout
            platform.stop()
            wrong = sugar("reshard", "--partitions", "3", "--data-dir", str(platform.data_dir), "--yes", check=False)
            assert wrong.returncode != 0
            # With another count it would not even start; topics are as they were.
            sugar("reshard", "--profile", "test", "--partitions", str(count), "--data-dir", str(platform.data_dir), "--yes", timeout_s=180)
            monkeypatch.setenv("SUGAR_LOG__PARTITIONS", str(count))
            platform.up()
            platform.wait_well()
            settings = platform.settings
            assert set(partition_counts(settings, TOPICS).values()) == {count}
            assert all(number > before.generations[name] for name, number in settings.log.generations.items() if not name.endswith(".dead"))
            before = settings.log

            people.sign_in()
            eventually(lambda: people.said(1, conversation) == expected, 30.0)
            expected.append((len(expected) + 1, f"with {count}"))
            assert people.say(1, conversation, expected[-1][1])["seq"] == len(expected)
            for who in (0, 1):
                eventually(lambda who=who: people.said(who, conversation) == expected, 30.0)
                [match] = people.ask(who, "GET", "/matching/matches")["matches"]
                assert match["matchId"] == conversation
            assert people.like(0)["matchId"] == conversation, "the same answer again"
            eventually(
                lambda: sugar("reconcile", "--data-dir", str(platform.data_dir), timeout_s=120, check=False).returncode == 0, 120.0,
                every_s=2.0,
            )
    finally:
        monkeypatch.undo()
        if not platform.processes():
            platform.up()  # the tests after this one are told nothing of what went wrong here
