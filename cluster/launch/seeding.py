"""Loads a made-up population through the log: the same events as registrations and profile changes append."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import redis
from argon2 import PasswordHasher
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cluster.connections.kafka import LogAppender, Record
from cluster.connections.redis import sync_client
from configs.contracts import events, ids, people
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.contracts.read_model import read_record, record_key
from configs.settings import Settings
from recommender.population import Population, generate

PASSWORD = "demo password"  # noqa: S105 - of made-up people, refused in production
CHUNK = 200
APPEND_TIMEOUT_S = 30.0
VISIBLE_TIMEOUT_S = 300.0
"""Longest wait for anybody else to be shown. A guess: twenty times what 20,000 people take on two busy cores."""


def load_population(settings: Settings, *, users: int, near: str | None, seed: int, console: Console) -> None:
    """Appends the people's events and returns once the read model shows every one of them.

    The same seed names the same people and addresses (``demo-<seed>-<n>@example.com``, password "demo password"), so
    repeating it changes nothing but their positions in time.
    Raises ConfigurationError: a production profile, or no such city. DependencyUnavailable: the log or Redis does not
    answer, or the writers do not catch up.
    """
    if settings.profile == "production":
        raise ConfigurationError("made-up people are not loaded into production", profile=settings.profile)
    now = datetime.now(UTC)
    try:
        population = generate(users, near, seed, today=now.date())
    except LookupError as error:
        raise ConfigurationError("no such city", near=near, reason=str(error)) from error
    user_ids = [ids.derived_id(f"demo:{seed}", str(index)) for index in range(users)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        appended = progress.add_task("people appended to the log", total=users)
        asyncio.run(_append(settings, population, user_ids, seed, now, progress, appended))
        visible = progress.add_task("people visible in the read model", total=users)
        _wait_visible(settings, user_ids, progress, visible)


async def _append(
    settings: Settings, population: Population, user_ids: Sequence[str], seed: int, now: datetime,
    progress: Progress, task: TaskID,
) -> None:
    auth = settings.auth
    password_hash = PasswordHasher(auth.argon2_passes, auth.argon2_memory_kib, 1).hash(PASSWORD)
    appender = LogAppender(settings, "seed")
    try:
        for start in range(0, len(user_ids), CHUNK):
            chunk = range(start, min(start + CHUNK, len(user_ids)))
            records = [
                _record(settings, key, payload, now)
                for index in chunk
                for key, payload in _events(population, index, user_ids[index], seed, now, password_hash)
            ]
            try:
                await asyncio.wait_for(appender.submit(records), APPEND_TIMEOUT_S)
            except TimeoutError as error:
                raise DependencyUnavailable("the log does not acknowledge", timeout_s=APPEND_TIMEOUT_S) from error
            progress.advance(task, len(chunk))
    finally:
        appender.close()


def _events(
    population: Population, index: int, user_id: str, seed: int, now: datetime, password_hash: str
) -> Iterator[tuple[str, events.Payload]]:
    """(key, payload) of everything that one person would have done through the API."""
    address = f"demo-{seed}-{index}@example.com"
    address_hash = ids.email_hash(address)
    yield address_hash, events.AccountRegistered(
        user_id=user_id, email=address, email_hash=address_hash, password_hash=password_hash,
        role=population.roles[index], display_name=population.display_names[index],
        birth_date=population.birth_dates[index].isoformat(),
    )
    yield user_id, events.ProfileChanged(
        user_id=user_id, bio=population.bios[index] or None, gender=population.genders[index]
    )
    yield user_id, events.PreferencesChanged(
        user_id=user_id, age_min=int(population.age_min[index]), age_max=int(population.age_max[index]),
        max_distance_km=int(population.max_distance_km[index]), roles=population.accepted_roles[index],
        genders=population.accepted_genders[index], hide_distance=bool(population.hide_distance[index]),
    )
    latitude, longitude, cell = people.snap(float(population.latitudes[index]), float(population.longitudes[index]))
    yield user_id, events.LocationChanged(user_id=user_id, latitude=latitude, longitude=longitude, cell=cell)
    yield user_id, events.WasActive(
        user_id=user_id, active_at=now - timedelta(days=float(population.active_days_ago[index]))
    )


def _record(settings: Settings, key: str, payload: events.Payload, now: datetime) -> Record:
    event = events.Event(ids.new_id(), now, key, payload)
    topic = events.TOPIC_OF[type(payload)]
    return Record(topic.name, ids.partition_of(key, settings.log.partitions), key, events.encode(event))


def _wait_visible(settings: Settings, user_ids: Sequence[str], progress: Progress, task: TaskID) -> None:
    """Returns once everybody's record has both the creation and the location."""
    waiting = list(user_ids)
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    with sync_client(settings) as client:
        while waiting:
            left = _not_visible(client, waiting[: 10 * CHUNK])
            progress.advance(task, min(len(waiting), 10 * CHUNK) - len(left))
            if len(left) < len(waiting[: 10 * CHUNK]):
                deadline = time.monotonic() + VISIBLE_TIMEOUT_S
            waiting = left + waiting[10 * CHUNK :]
            if waiting and time.monotonic() > deadline:
                raise DependencyUnavailable("the writers did not catch up", people=len(waiting))
            if left:
                time.sleep(0.1)


def _not_visible(client: redis.Redis, user_ids: Sequence[str]) -> list[str]:
    try:
        pipeline = client.pipeline(transaction=False)
        for user_id in user_ids:
            pipeline.get(record_key(user_id))
        values = pipeline.execute()
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
    missing = []
    for user_id, value in zip(user_ids, values, strict=True):
        record = None if value is None else read_record(value)
        if record is None or not record.exists or record.cell is None:
            missing.append(user_id)
    return missing
