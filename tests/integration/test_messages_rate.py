"""One person's rate over conversations of several shards, counted in a real Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from api_world import PATIENCE_S, patient_redis
from pydantic import SecretStr
from simulated_log import SimulatedAppender, SimulatedLog, SimulatedTail

from actors.messages.admission import Admission, Admitted, Sending
from actors.messages.commands import NoteMatch, SendMessage, Sent, TooManyMessages
from actors.messages.shard import MessageService
from cluster.connections.redis import async_client
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.ids import match_id, new_id, pair, partition_of
from configs.contracts.loading import ConversationRow
from configs.contracts.rates import limit_key
from configs.contracts.read_model import GENERATION
from configs.settings import Limits, Settings

pytestmark = pytest.mark.servers

A_MINUTE = 7
"""A count of which a minute is no whole number of milliseconds."""


class NoRows:
    """A loader without rows."""

    async def positions(self, topics: Any) -> dict[str, dict[int, int]]:
        return {}

    async def claim_epochs(self, kind: str, shards: Any) -> dict[int, int]:
        return dict.fromkeys(shards, 1)

    async def conversations(self, names: Any) -> dict[str, ConversationRow]:
        return {}


Actors = list[MessageService]


def patient_admission(settings: Settings) -> Admission:
    """One whose trips to Redis may take long: after one that failed messages count twice."""
    with patient_redis("actors.messages.admission.Reads"):
        return Admission(settings)


@pytest_asyncio.fixture(autouse=True)
async def complete(servers: Settings) -> None:
    """Nobody is admitted before the read model is complete."""
    client = async_client(servers, timeout_s=PATIENCE_S)
    await client.set(GENERATION, "test", nx=True)
    await client.aclose(close_connection_pool=True)


@pytest_asyncio.fixture
async def actors(servers: Settings, complete: None) -> AsyncIterator[Actors]:
    """As many actors as the log has partitions, each with one shard and a connection to Redis of its own."""
    settings = servers.model_copy(update={"limits": Limits(messages_per_user_a_minute=A_MINUTE)})
    admissions = [patient_admission(settings) for _ in range(settings.log.partitions)]
    made: Actors = []
    for shard, admission in enumerate(admissions):
        log = SimulatedLog()
        made.append(MessageService(
            settings=settings, shards=[shard], appender=SimulatedAppender(log), loader=NoRows(),  # type: ignore[arg-type]
            die=pytest.fail, tail=tailed(log), admit=admission.admit,
        ))
        await made[-1].start()
    yield made
    for service, admission in zip(made, admissions, strict=True):
        await service.close()
        await admission.close()


def tailed(log: SimulatedLog) -> Callable[..., Any]:
    return lambda feeds, label: SimulatedTail(log, feeds, label)


async def conversations_of(actors: Actors, person: str) -> dict[str, MessageService]:
    """One of the person's on each actor."""
    found: dict[int, str] = {}
    others = {}
    while len(found) < len(actors):
        other = new_id()
        name = match_id(person, other)
        found.setdefault(partition_of(name, len(actors)), name)
        others[name] = other
    for shard, name in found.items():
        low, high = pair(person, others[name])
        await actors[shard].note_match([NoteMatch(name, low, high, 1, 1)])
    return {name: actors[shard] for shard, name in found.items()}


async def test_a_persons_rate_holds_over_all_shards_at_once_and_is_nobody_elses(actors: Actors) -> None:
    assert len(actors) > 1
    ada, ben = new_id(), new_id()
    hers, his = await conversations_of(actors, ada), await conversations_of(actors, ben)
    began = time.monotonic()
    batches = await asyncio.gather(*(
        actor.send([SendMessage(name, ada, f"{name} {number}", "hello") for number in range(3)])
        for name, actor in hers.items()
    ))
    took_s = time.monotonic() - began
    answers = [answer for batch in batches for answer in batch]
    refused = [answer for answer in answers if isinstance(answer, TooManyMessages)]
    assert len(answers) == 3 * len(actors)
    assert sum(isinstance(answer, Sent) for answer in answers) == A_MINUTE
    assert len(refused) == len(answers) - A_MINUTE
    told = {answer.retry_after_s for answer in refused}
    assert math.ceil(60 / A_MINUTE - took_s) <= min(told) <= max(told) <= 9, "until the first of seven in a minute is forgotten"
    for name, actor in his.items():
        [answer] = await actor.send([SendMessage(name, ben, "his", "hello")])
        assert isinstance(answer, Sent)


async def allowed(admission: Admission, person: str, count: int) -> tuple[int, int]:
    [admitted] = await admission.admit([Sending((person, new_id()), {person: count})])
    assert isinstance(admitted, Admitted)
    return admitted.allowed[person]


async def test_what_a_rate_remembers_ends_by_itself_and_gives_back_one_after_another(servers: Settings) -> None:
    settings = servers.model_copy(update={"limits": Limits(messages_per_user_a_minute=600)})
    admission, person = patient_admission(settings), new_id()
    assert (await allowed(admission, person, 700))[0] == 600
    client = async_client(settings, timeout_s=PATIENCE_S)
    assert 30_000 < await client.pttl(limit_key("messages", person)) <= 60_001
    await client.aclose(close_connection_pool=True)
    await asyncio.sleep(0.35)
    more, wait_ms = await allowed(admission, person, 600)
    assert 3 <= more < 600
    assert 1 <= wait_ms <= 100
    await admission.close()


async def test_while_redis_is_away_nobody_sends(servers: Settings) -> None:
    admission = Admission(servers.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    [answer] = await admission.admit([Sending((new_id(), new_id()), {new_id(): 1})])
    assert isinstance(answer, DependencyUnavailable)
    await admission.close()


async def test_what_redis_cannot_tell_of_one_conversation_keeps_no_other(servers: Settings) -> None:
    settings = servers.model_copy(update={"limits": Limits(messages_per_user_a_minute=6)})
    admission, odd, even = patient_admission(settings), new_id(), new_id()
    client = async_client(settings, timeout_s=PATIENCE_S)
    # As a node that does not answer for its slots: this person's rate cannot be read.
    await client.lpush(limit_key("messages", odd), "no number")
    told = await admission.admit([Sending((odd, even), {odd: 1}), Sending((even, new_id()), {even: 1})])
    assert [isinstance(one, DependencyUnavailable) for one in told] == [True, False]
    await client.delete(limit_key("messages", odd))
    await client.aclose(close_connection_pool=True)
    assert (await allowed(admission, odd, 6))[0] == 6, "what failed did not count"
    assert (await allowed(admission, even, 6))[0] == 4
    await admission.close()
