"""While a card shard is away readers get 503; once it is back they get everything that happened meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from api_world import NoRows, Shards, World

from actors.cards.shard import CardShard
from actors.sharding.host import ShardHost
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import DependencyUnavailable

pytestmark = pytest.mark.servers


class Away(NoRows):
    """The loader of a shard that cannot restore yet."""

    away = True

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        if self.away:
            raise DependencyUnavailable("the loader is away")
        return await super().claim_epochs(kind, shards)


async def test_a_restoring_card_shard_is_503_and_then_right(
    make_world: Callable[..., Awaitable[World]], shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.cards.client.NOTE_DEADLINE_S", 0.5)  # nobody is there to be waited for
    loader, appender, died = Away(), LogAppender(shards.settings, "cards-again"), []
    shard = CardShard(settings=shards.settings, slot=0, appender=appender, loader=loader, die=died.append)  # type: ignore[arg-type]
    host, usual = ShardHost("cards-0", {"cards": shard}), shards.hosts["cards-0"]
    shards.hosts["cards-0"] = host
    try:
        world = await make_world()
        place, far = (71.3, 25.7), (71.3, -60.0)
        viewer = await world.register(at=place)
        stays, leaves, comes = [await world.register("sugar_daddy", at=at) for at in (place, place, far)]
        answer = await viewer.ask("GET", "/matching/cards")
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        for person, (latitude, longitude) in ((leaves, far), (comes, place)):
            await person.ok("PUT", "/users/me/location", json={"latitude": latitude, "longitude": longitude})
        loader.away = False
        while not (await host.ping())["ready"]:
            await asyncio.sleep(0.05)
        found = await viewer.ok("GET", "/matching/cards")
        assert {card["userId"] for card in found["cards"]} == {stays.user_id, comes.user_id}
        assert world.dependencies.cards.left_to_log > 0
    finally:
        shards.hosts["cards-0"] = usual
        await host.close()
        appender.close()
    assert died == []
