"""The client of the realtime socket fills what it missed, also when no list has it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cluster.launch.chat import attachments
from cluster.launch.chat import client as chat
from cluster.launch.chat.client import RealtimeClient
from configs.contracts import frames

CONVERSATION = "11111111-1111-4111-8111-111111111111"


class History:
    """The API's pages of one conversation."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.told: list[frames.Message] = []
        """What the client made of them."""
        self.attachments: list[dict[str, Any]] = []
        """Of every message."""
        self.asked = 0
        self.ended = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.ended:
            return httpx.Response(404, json={"code": "not_found"})
        return httpx.Response(200, json={"messages": [
            {"messageId": str(seq), "seq": seq, "senderId": "ada", "content": text, "sentAt": "2026-11-26T12:00:00Z",
             "clientMessageId": f"c{seq}", "postId": None, "attachments": self.attachments}
            for seq, text in reversed(list(enumerate(self.texts, 1)))
        ]})


@asynccontextmanager
async def mending(history: History, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RealtimeClient, list[str]]]:
    monkeypatch.setattr(chat, "RETRY_S", (0.01, 0.02))
    shown: list[str] = []

    def show(frame: Any) -> None:
        if isinstance(frame, frames.Message):
            shown.append(frame.content)
            history.told.append(frame)

    client = RealtimeClient("http://api", show)
    await client._http.aclose()
    client._http = httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(history))
    client.follow(CONVERSATION)
    task = asyncio.create_task(client._mend())
    try:
        yield client, shown
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(shown: list[str], texts: list[str]) -> None:
    async with asyncio.timeout(30):
        while shown != texts:
            await asyncio.sleep(0.01)


def presence(last_seq: int) -> frames.Presence:
    return frames.Presence(
        conversation_id=CONVERSATION, user_id="ada", online=True, last_active_bucket="now", last_seq=last_seq
    )


async def test_a_message_that_is_in_no_list_yet_is_asked_for_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    async with mending(history, monkeypatch) as (client, shown):
        client._take(presence(1))
        async with asyncio.timeout(30):
            while history.asked < 4:
                await asyncio.sleep(0.01)
        assert shown == []
        history.texts.append("there at last")
        await until(shown, ["there at last"])
        asked = history.asked
        client._take(presence(1))
        await asyncio.sleep(0.1)
        assert history.asked <= asked + 1, "it asks for what it has"


async def test_a_gap_between_frames_is_filled_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    history.texts = ["one"]
    async with mending(history, monkeypatch) as (client, shown):
        await until(shown, ["one"])
        client._take(frames.Message(
            conversation_id=CONVERSATION, message_id="3", seq=3, sender_id="ada", content="three", sent_at="2026-11-26T12:00:00Z"
        ))
        await asyncio.sleep(0.1)
        assert shown == ["one"], "the second comes before the third"
        history.texts = ["one", "two"]
        await until(shown, ["one", "two", "three"])


async def test_a_conversation_that_has_ended_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    history.ended = True
    async with mending(history, monkeypatch) as (client, shown):
        client._take(presence(7))
        await asyncio.sleep(0.2)
        assert history.asked <= 2
        assert shown == []


PHOTO = "22222222-2222-4222-8222-222222222222"
VIDEO = "33333333-3333-4333-8333-333333333333"


async def test_attachments_are_shown_with_their_addresses_once_they_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "LOOK_EVERY_S", 0.01)
    history = History()
    history.texts = ["look"]
    history.attachments = [{"mediaId": PHOTO, "media": None}, {"mediaId": VIDEO, "media": None}]
    async with mending(history, monkeypatch) as (client, shown):
        await until(shown, ["look"])
        [message] = history.told
        assert message.attachments == (PHOTO, VIDEO), "history tells of them as frames do"
        lines = attachments.attached(client, message)
        assert await anext(lines) == attachments.WAITING
        for entry, kind, url, line in (
            (history.attachments[0], "image", "https://store/p?signed", "[photo 80x60 https://store/p?signed]"),
            (history.attachments[1], "video", "/api/v1/media/3.m3u8", "[video 80x60 http://api/api/v1/media/3.m3u8]"),
        ):
            entry["media"] = {"mediaId": entry["mediaId"], "kind": kind, "width": 80, "height": 60, "url": url}
            assert await anext(lines) == line
        assert [line async for line in lines] == []


@pytest.mark.parametrize(("name", "why"), [("text.txt", "no picture"), ("none.png", "No such file")])
async def test_a_file_that_cannot_be_sent_is_said_to_be_none(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "text.txt").write_text("no picture")
    client = RealtimeClient("http://api", lambda frame: None)
    with pytest.raises(attachments.NotSent, match=why):
        await attachments.upload(client, tmp_path / name)
    await client.close()


async def test_a_socket_is_prolonged_each_time_before_its_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    said: list[str] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def say(frame: frames.ClientFrame) -> None:
        assert isinstance(frame, frames.Authenticate)
        said.append(frame.access_token or "")
        if len(said) == 3:
            client._refresh = ""

    def renewed(request: httpx.Request) -> httpx.Response:
        number = len(said) + 1
        return httpx.Response(200, json={
            "userId": "ada", "accessToken": f"access {number}", "refreshToken": f"refresh {number}", "expiresIn": 900,
        })

    # Of this module only: what else runs on the loop must not spin.
    monkeypatch.setattr(chat, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    monkeypatch.setattr(chat, "time", lambda: 1_000.0)
    client = RealtimeClient("http://api", lambda frame: None)
    await client._http.aclose()
    client._http = httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(renewed))
    client.use_tokens("ada", "access 0", "refresh 0")
    monkeypatch.setattr(client, "say", say)
    await client._prolong("1970-01-01T00:20:00Z")
    assert said == ["access 1", "access 2", "access 3"]
    assert slept == [140.0, 840.0, 840.0]
    await client.close()
