"""`sugar chat --as EMAIL`: one side of a conversation in a terminal."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from cluster.launch.chat.attachments import NotSent, attached, upload
from cluster.launch.chat.client import RealtimeClient, SignInRefused
from cluster.launch.seeding import PASSWORD
from cluster.launch.state import read_state
from configs.contracts import frames
from configs.contracts.errors import ConfigurationError, DependencyUnavailable

console = Console(highlight=False)
HISTORY = 20
"""Messages that are shown of what was said before."""
PHOTO = "/photo "
LEAVE_S = 5.0
"""Seconds for what was typed last to be acknowledged when the input ends."""


def chat(
    email: Annotated[str, typer.Option("--as", help="Address of the person who chats.")],
    password: Annotated[
        str, typer.Option(envvar="SUGAR_CHAT_PASSWORD", help="Their password; the demo people's by default.")
    ] = PASSWORD,
    conversation: Annotated[str, typer.Option(help="Conversation id; the newest by default.")] = "",
    url: Annotated[str, typer.Option(help="Root of the API; by default that of the platform on the data directory.")] = "",
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")] = Path(".sugar"),
) -> None:
    """Chat in a terminal: type a line and Enter, or `/photo FILE`; Ctrl-D leaves. Two terminals, two people, one conversation."""
    try:
        asyncio.run(_chat(url or _local(data_dir), email, password, conversation))
    except KeyboardInterrupt:
        console.print("left")
    except httpx.HTTPError as error:
        raise DependencyUnavailable("the API does not answer", kind=type(error).__name__) from error


def _local(data_dir: Path) -> str:
    state = read_state(data_dir)
    if not state.running():
        raise ConfigurationError("no platform runs on this data directory; name one with --url", data_dir=str(data_dir))
    return f"http://127.0.0.1:{state.ports['api']}"


async def _chat(url: str, email: str, password: str, conversation: str) -> None:
    screen = Screen()
    client = RealtimeClient(url, screen.show)
    await client.sign_in(email, password)
    listed = (await client.get("/messaging/conversations", limit=100))["conversations"]
    wanted = [item for item in listed if conversation in ("", item["conversationId"])]
    if not wanted:
        raise ConfigurationError("there is no such conversation; match with somebody first", of=email)
    chosen = wanted[0]
    last = chosen.get("lastMessage")
    screen.begin(client, chosen["conversationId"], chosen["user"]["displayName"], 0 if last is None else last["seq"])
    running = asyncio.create_task(client.run())
    talking = asyncio.create_task(screen.talk())
    done, _ = await asyncio.wait([running, talking], return_when=asyncio.FIRST_COMPLETED)
    for task in (running, talking):
        task.cancel()
    await asyncio.gather(running, talking, return_exceptions=True)
    await client.close()
    for task in done:
        if isinstance(error := task.exception(), SignInRefused):
            raise error


class Screen:
    """Prints what comes and reads what is typed."""

    def __init__(self) -> None:
        self._client: Any = None
        self._conversation = ""
        self._other = ""

    def begin(self, client: RealtimeClient, conversation_id: str, other: str, last_seq: int) -> None:
        self._client, self._conversation, self._other = client, conversation_id, other
        console.print(f"[bold]with {other}[/bold] (conversation {conversation_id}); type and Enter, {PHOTO}FILE, Ctrl-D leaves")
        client.follow(conversation_id, max(0, last_seq - HISTORY))

    def show(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Ready):
            console.print("[dim]connected[/dim]")
            self._client.say_soon(frames.Watch(conversation_ids=(self._conversation,)))
        elif isinstance(frame, frames.Reconnect):
            console.print("[dim]the gateway leaves; connecting elsewhere[/dim]")
        elif isinstance(frame, frames.MatchTold | frames.Notification):
            self._aside(frame)
        elif isinstance(frame, frames.Error):
            console.print(f"[red]{frame.title}[/red]")
        elif getattr(frame, "conversation_id", "") == self._conversation:
            self._here(frame)

    def _aside(self, frame: frames.MatchTold | frames.Notification) -> None:
        if isinstance(frame, frames.Notification):
            self._client.say_soon(frames.Acknowledge(notification_id=frame.notification_id))
            console.print(f"({frame.title})", markup=False, style="dim")
        else:
            console.print(f"[dim](a match is {frame.status})[/dim]")

    def _here(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Message):
            mine = frame.sender_id == self._client.user_id
            said = frame.content or f"({len(frame.attachments)} attached)"
            console.print(f"{'me' if mine else self._other}: {said}", markup=False)
            if frame.attachments:
                self._client.later(self._attachments(frame))
            if not mine:
                for mark in (frames.MarkDelivered, frames.MarkRead):
                    self._client.say_soon(mark(conversation_id=self._conversation, seq=frame.seq))
        elif isinstance(frame, frames.TypingTold):
            console.print(f"[dim]{self._other} is writing …[/dim]")
        elif isinstance(frame, frames.Presence):
            state = "online" if frame.online else f"away, last active: {frame.last_active_bucket}"
            console.print(f"[dim]{self._other} is {state}[/dim]")
        elif isinstance(frame, frames.Read) and frame.user_id != self._client.user_id:
            console.print(f"[dim]{self._other} has read up to message {frame.seq}[/dim]")

    async def _attachments(self, message: frames.Message) -> None:
        async for line in attached(self._client, message):
            # A URL is copied whole or not at all: no line break inside.
            console.print(f"  {message.seq}: {line}", markup=False, soft_wrap=True)

    async def _photo(self, file: str) -> None:
        try:
            media_id = await upload(self._client, Path(file))
        except NotSent as error:
            console.print(f"not sent: {error.message}", markup=False, style="red")
        else:
            await self._client.send(self._conversation, "", attachments=(media_id,))

    async def talk(self) -> None:
        """Sends each line; returns at the end of the input, once everything is acknowledged or after some seconds."""
        lines = _typed_lines()
        while (text := await lines.get()) is not None:
            if text.startswith(PHOTO):
                await self._photo(text.removeprefix(PHOTO).strip())
            elif text:
                await self._client.send(self._conversation, text)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._client.acknowledged(), LEAVE_S)
        # What the other side sent at the same moment is still shown.
        await asyncio.sleep(0.2)


def _typed_lines() -> asyncio.Queue[str | None]:
    """Lines of the standard input, None at its end; a thread reads them, since a file or terminal cannot be awaited."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="typing", daemon=True).start()
    return lines
