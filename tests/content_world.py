"""The API with everything behind it in this process: shards, a writer's threads, and the loader over real rows."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from api_world import Person, Shards, World, patient, unhurried

from cluster.connections.redis import apply_async, sync_client
from cluster.launch.prepare import prepare
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.contracts.albums import MediaRow, put_media
from configs.contracts.media import LARGE, THUMB, MediaRecord
from configs.contracts.read_model import GENERATION, put_record
from configs.settings import Settings, load_settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.rebuild import server_run
from writers.worker import Writer

VERSION = 1 << 60
VERSIONS = itertools.count(VERSION)
"""Of facts that a test states past the log: newer than any event."""


class ContentWorld(World):
    """A world whose rows are real."""

    async def creator(self, **fields: Any) -> Person:
        """Somebody who may publish."""
        return await self.adult(await self.register("sugar_baby", **fields))

    async def adult(self, person: Person) -> Person:
        """The person, after an age-assurance service has found them to be an adult; in rows and in the read model."""
        facts = {"verification": "verified", "verified": True}
        await apply_async(self.dependencies.redis, [put_record(person.user_id, facts, VERSION)])
        with open_rows(self.settings, "test") as conn:
            await self.until(lambda: conn.execute(
                "UPDATE users SET verification_status = 'verified' WHERE id = %s", (person.user_id,)
            ).rowcount)
        return person

    async def media(self, owner: Person, media_id: str, **fields: Any) -> str:
        """A picture of the person's in rows and read model, processed and approved unless told otherwise."""
        record = MediaRecord(**{
            "media_id": media_id, "owner_id": owner.user_id, "kind": "image", "state": "ready", "review": "approved",
            "content_type": "image/jpeg", "size": 1_000, "width": 800, "height": 600, "derivatives": (LARGE, THUMB), **fields,
        })
        version = next(VERSIONS)
        row = MediaRow(record=record, requested_at=datetime.now(UTC), version=version)
        await apply_async(self.dependencies.redis, [put_media(record, version)])
        with open_rows(self.settings, "test") as conn:
            conn.execute(
                "INSERT INTO media (owner_id, id, kind, state, review, facts, created_at, version) "
                "VALUES (%s, %s, %s, %s, %s, %s, now(), %s) ON CONFLICT (owner_id, id) DO UPDATE "
                "SET state = excluded.state, review = excluded.review, facts = excluded.facts, version = excluded.version",
                (
                    owner.user_id, media_id, record.kind, record.state, record.review, msgspec.json.encode(row).decode(),
                    version,
                ),
            )
        return media_id

    async def post(self, creator: Person, **fields: Any) -> Any:
        """A post through the API: public text, published, unless told otherwise."""
        body = {
            "contentType": "text", "caption": "words", "access": {"visibility": "public"}, "state": "published", **fields,
        }
        return await creator.ok("POST", "/content/posts", json=body)

    @staticmethod
    async def until(check: Any, timeout_s: float = 30.0) -> Any:
        """The first true value of ``check()``, which may be awaitable."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert time.monotonic() < deadline, "not in time"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def content_world(data_dir: Path, **changed: Any) -> AsyncIterator[ContentWorld]:
    """A world over servers of its own: other shards and writers would be replaced by these. ``changed``: replaced settings."""
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=data_dir)))
    await asyncio.to_thread(servers.start)
    try:
        prepared = await asyncio.to_thread(prepare, servers.settings())
        with patient():
            async with _over(prepared.model_copy(update=changed)) as world:
                yield world
    finally:
        await asyncio.to_thread(servers.stop)


@asynccontextmanager
async def _over(prepared: Settings) -> AsyncIterator[ContentWorld]:
    settings = prepared.model_copy(update={"plan": prepared.plan.model_copy(update={"writer_actors": 1})})
    fenced: list[str] = []
    writer = Writer(settings, 0, fenced=fenced.append)
    writer.start()
    with sync_client(settings) as client:
        while (client.get(GENERATION) or b"").rpartition(b":")[2].decode() != server_run(client):
            await asyncio.sleep(0.05)
    loader: Any = Loader(settings)
    shards = Shards(unhurried(settings), loader)
    try:
        await shards.ready()
        world = ContentWorld(settings, shards)
        await world.dependencies.start()
        yield world
        await world.close()
        assert shards.died == []
    finally:
        await shards.close()
        await asyncio.to_thread(writer.stop)
        await loader.close()
    assert fenced == []
