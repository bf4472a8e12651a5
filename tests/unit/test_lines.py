"""Calls between processes over a line of their own: on real sockets, with Ray's handle stood in for."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from actors.sharding import lines, wire
from actors.sharding.client import ActorPool
from actors.sharding.lines import HEADER, Address, Door, Line, LineError, _Frames
from actors.sharding.wire import LinedActor
from configs.contracts.errors import PlatformError, ShardUnavailable
from configs.settings import load_settings


class Process:
    """An actor's process: what it carries out, and its Ray handle."""

    def __init__(self) -> None:
        self.answers: Callable[[bytes], Awaitable[bytes]] = self._echo
        self.carried: list[bytes] = []
        self.through_ray = 0
        self.life = 0
        self.home = Door(self._carry, lambda: "127.0.0.1")
        self.elsewhere: Address | None = None

    @staticmethod
    async def _echo(body: bytes) -> bytes:
        return body

    async def _carry(self, body: bytes) -> bytes:
        self.carried.append(body)
        return await self.answers(body)

    async def dies(self) -> None:
        """And is restarted."""
        await self.home.close()
        self.life += 1
        self.home = Door(self._carry, lambda: "127.0.0.1")

    @property
    def door(self) -> Any:
        return _Method(lambda: self.home.address() if self.elsewhere is None else _known(self.elsewhere))

    @property
    def carry(self) -> Any:
        async def through_ray(body: bytes) -> bytes:
            self.through_ray += 1
            return await self._carry(body)

        return _Method(through_ray)


async def _known(address: Address) -> Address:
    return address


class _Method:
    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self.remote = call


@pytest_asyncio.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    yield made
    await made.home.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def test_each_call_gets_its_own_answer_whatever_the_order(process: Process) -> None:
    async def slowest_first(body: bytes) -> bytes:
        await asyncio.sleep((100 - body[0]) / 2_000)
        return body * 3

    process.answers = slowest_first
    line = await Line.to(await process.home.address())
    bodies = [bytes([number]) * (1 + number * 997) for number in range(100)]
    assert await asyncio.gather(*map(line.ask, bodies)) == [body * 3 for body in bodies]
    line.close()


async def test_who_does_not_know_the_token_is_shut_out_and_nothing_is_carried_out(process: Process) -> None:
    address = await process.home.address()
    line = await Line.to(address._replace(token=b"x" * len(address.token)))
    with pytest.raises(LineError, match="lost"):
        await line.ask(b"evil")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(HEADER.pack(1 << 20, 0) + b"x" * 1_000)
    assert await reader.read() == b"", "a token is no longer than the token"
    writer.close()
    await until(lambda: not process.home.guests)
    assert process.carried == []


async def test_who_says_nothing_is_shut_out(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "OPENING_S", 0.1)
    address = await process.home.address()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()


async def test_what_the_other_side_raises_arrives_as_the_cause(process: Process) -> None:
    async def refuses(body: bytes) -> bytes:
        raise ShardUnavailable("restoring", actor="a") if body == b"ours" else _Unpicklable("no")

    process.answers = refuses
    line = await Line.to(await process.home.address())
    with pytest.raises(LineError) as refused:
        await line.ask(b"ours")
    cause = refused.value.cause
    assert isinstance(cause, PlatformError)
    assert (cause.message, cause.details) == ("restoring", {"actor": "a"})
    with pytest.raises(LineError, match="Unpicklable"):
        await line.ask(b"another's")
    line.close()


class _Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("this does not travel")


async def test_a_lost_line_fails_what_waits_and_is_opened_again_by_the_next_call(process: Process) -> None:
    actor = LinedActor(process)

    async def answered(body: bytes) -> bytes:
        if process.life == 0 and pickle.loads(body)[1] == "slow":
            await asyncio.sleep(60)
        return pickle.dumps((process.life + 1, ["done"]))

    process.answers = answered
    assert await actor.call("swipes", "swipe", []) == (1, ["done"])
    slow = [asyncio.create_task(actor.call("swipes", "slow", [])) for _ in range(3)]
    await until(lambda: len(process.carried) == 4)
    await process.dies()
    for call in slow:
        with pytest.raises(LineError):
            await call
    assert await asyncio.gather(*(actor.call("swipes", "slow", []) for _ in range(5))) == [(2, ["done"])] * 5
    assert len(process.home.guests) == 1, "they share a line"
    assert process.through_ray == 0


async def test_where_the_port_cannot_be_reached_calls_go_through_ray(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "AGAIN_S", 0.2)

    async def answered(body: bytes) -> bytes:
        return pickle.dumps((1, []))

    process.answers = answered
    closed = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    process.elsewhere = Address("127.0.0.1", closed.sockets[0].getsockname()[1], b"")
    closed.close()
    await closed.wait_closed()
    actor = LinedActor(process)
    for _ in range(3):
        assert await actor.call("swipes", "swipe", []) == (1, [])
    assert process.through_ray == 3
    earlier = LinedActor(SimpleNamespace(carry=process.carry))
    assert await earlier.call("swipes", "swipe", []) == (1, []), "an actor of a release without lines"
    process.through_ray = 3
    process.elsewhere = None
    await asyncio.sleep(0.25)
    await actor.call("swipes", "swipe", [])
    assert process.through_ray == 3


async def test_a_pool_reaches_every_actor_before_it_is_asked(process: Process) -> None:
    def resolved(name: str) -> LinedActor:
        if name == "identity-0":
            raise ValueError("there is none")
        return LinedActor(process)

    plan = load_settings("test").plan
    pool = ActorPool(load_settings("test"), resolve=resolved)
    await pool.reach()
    assert len(process.home.guests) == (
        plan.identity_actors - 1 + plan.swipe_actors + plan.card_actors + plan.message_actors + plan.commerce_actors
    )
    assert process.carried == []


async def test_a_caller_that_forgets_an_actor_hangs_up(process: Process) -> None:
    async def answered(body: bytes) -> bytes:
        await asyncio.sleep(0.1)
        return pickle.dumps((1, []))

    process.answers = answered
    actor = LinedActor(process)
    await actor.call("swipes", "swipe", [])
    waiting = asyncio.create_task(actor.call("swipes", "swipe", []))
    await until(lambda: len(process.carried) == 2)
    del actor
    gc.collect()
    assert await waiting == (1, []), "not before its calls are answered"
    del waiting
    gc.collect()
    await until(lambda: not process.home.guests)


async def test_a_caller_that_gave_up_does_not_disturb_the_others(process: Process) -> None:
    async def answered(body: bytes) -> bytes:
        await asyncio.sleep(0.1)
        return body

    process.answers = answered
    line = await Line.to(await process.home.address())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.ask(b"late"), 0.02)
    assert await line.ask(b"kept") == b"kept"
    line.close()


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_frames_are_the_same_however_they_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    class Read(_Frames):
        def received(self, number: int, body: bytes) -> None:
            found.append((number, body))

    found: list[tuple[int, bytes]] = []
    frames = Read()
    left = b"".join(HEADER.pack(len(body), number) + body for number, body in enumerate(bodies))
    while left:
        cut = data.draw(st.integers(1, len(left)))
        frames.data_received(left[:cut])
        left = left[cut:]
    assert found == list(enumerate(bodies))
