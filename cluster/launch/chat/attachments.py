"""Pictures and videos in a terminal's chat: a file becomes a media and its id, an attachment a line with its address."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from cluster.launch.chat.client import PAGE, RealtimeClient
from configs.contracts import frames
from configs.contracts.errors import PlatformError

FILE_BYTES: Final = 64 << 20
"""A file is held in memory while it is sent."""
UPLOAD_S: Final = 60.0
LOOKS: Final = 30
LOOK_EVERY_S: Final = 1.0
"""What was just sent is processed first; what is not there after so many looks waits for a person who approves it."""
WAITING: Final = "[not to be seen now: it is processed or waits for approval, was taken away, or your age is not proved]"


class NotSent(PlatformError):
    """The file was not uploaded; ``message`` says why, for whoever typed its name."""


async def upload(client: RealtimeClient, file: Path) -> str:
    """The id of the media that a file became; it is processed from now on. Raises NotSent."""
    content_type, content = await asyncio.to_thread(_read, file)
    try:
        granted = await client.post("/media/uploads", {
            "kind": content_type.partition("/")[0], "contentType": content_type, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        })
        async with httpx.AsyncClient(timeout=UPLOAD_S) as store:
            start = 0
            for request in granted["requests"]:
                part = content[start : start + request["bytes"]]
                answer = await store.request(request["method"], request["url"], content=part, headers=request["headers"])
                answer.raise_for_status()
                start += len(part)
        await client.post(f"/media/uploads/{granted['mediaId']}/complete")
    except httpx.HTTPStatusError as error:
        raise NotSent(f"refused with {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise NotSent("the API or the media store does not answer") from error
    return str(granted["mediaId"])


def _read(file: Path) -> tuple[str, bytes]:
    """Content type and content. Raises NotSent."""
    path = file.expanduser()
    content_type, _ = mimetypes.guess_type(path.name)
    try:
        if not (content_type or "").startswith(("image/", "video/")) or path.stat().st_size > FILE_BYTES:
            raise NotSent(f"no picture or video of at most {FILE_BYTES >> 20} MiB")
        return content_type or "", path.read_bytes()
    except OSError as error:
        raise NotSent(error.strerror or "it cannot be read") from error


async def attached(client: RealtimeClient, message: frames.Message) -> AsyncIterator[str]:
    """A line for each attachment of one of the conversation's newest messages as soon as it may be seen, and one that says
    so while some may not. Gives up after some seconds."""
    left, said = list(message.attachments), False
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(LOOK_EVERY_S)
        try:
            page = await client.get(f"/messaging/conversations/{message.conversation_id}/messages", limit=PAGE)
        except httpx.HTTPError:
            continue  # a message that is in no list yet, or the conversation has ended
        found: list[Any] = next((item["attachments"] for item in page["messages"] if item["seq"] == message.seq), [])
        views = {attachment["mediaId"]: attachment["media"] for attachment in found if attachment["media"]}
        for media_id in message.attachments:
            if media_id in left and media_id in views:
                left.remove(media_id)
                yield _line(views[media_id], client.url)
        if not left:
            return
        if found and not said:
            said = True
            yield WAITING


def _line(media: Mapping[str, Any], root: str) -> str:
    name = "photo" if media["kind"] == "image" else "video"
    url = media["url"]
    return f"[{name} {media['width']}x{media['height']} {root + url if url.startswith('/') else url}]"
