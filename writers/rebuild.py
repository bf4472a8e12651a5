"""Redis from rows: everything at once, and the keeper that does it whenever Redis was lost."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError

from cluster.connections.postgres import translated
from cluster.connections.redis import sync_client
from cluster.connections.redis_cluster import ClusterRedis
from configs.contracts.errors import DependencyUnavailable, ReadModelRebuilding
from configs.contracts.home import LARGE_CREATORS
from configs.contracts.loading import Positions
from configs.contracts.read_model import GENERATION, LISTING_BOUNDS, RANKING, REVOKED, put_ranking
from configs.contracts.topics import TOPICS
from configs.settings import Settings
from writers import parts
from writers.catching_up import Progress, catch_up
from writers.connections import Connection, open_rows
from writers.loader import apply_all
from writers.loads import content, home, media, messages, ranking
from writers.loads import log as positions_log
from writers.loads.people import load_people
from writers.loads.read_model import operations, pages_of_people, revoked_families
from writers.loads.reader import open_recent, written
from writers.projections.thread import position_key

log = structlog.get_logger(__name__)

PEOPLE_A_PAGE: Final = 500
CONVERSATIONS_A_PAGE: Final = 1_000
POSTS_A_PAGE: Final = 500
MEDIA_A_PAGE: Final = 1_000
CHECK_S: Final = 1.0
TOKENS: Final = f"{{{GENERATION}}}:rebuilding"
"""Hash that holds a field for each rebuild under way, in the slot of ``generation``. Gone: Redis was lost meanwhile."""
TOKENS_TTL_S: Final = 86_400
"""After a rebuild that never ended; a full one of 2 million people takes minutes."""

FINISH: Final = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
FORGET: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_PATTERNS: Final = (
    "rec:*", "fld:*", "rel:*", "cred:*", "deck:*", "sess:*", "com:*", "mod:*", "export:*", "money:*", "tier:*", "proj:*",
    REVOKED, RANKING, "conv:head:*", "conv:msg:*", "conv:page:*", "feed:*", "media:*", "post:*", "home:*", LARGE_CREATORS,
    *(f"{listing}:{part}:*" for listing in LISTING_BOUNDS for part in ("h", "z")), "note:u:*",
)


def rebuild(
    settings: Settings, progress: Progress | None = None, stopping: threading.Event | None = None
) -> dict[str, float]:
    """Makes the read model complete again: ``write_everything``, and first, when it is not complete, the catching up.

    Whatever was acknowledged before Redis was found wanting must be in rows, but for topics that stopped at the dead-letter
    limit, which Redis showed no further before either; without running writers that never ends. May run beside other
    rebuilds. Returns people, operations, seconds (all 0 when ``stopping`` was set).
    Raises DependencyUnavailable: a server does not answer; ReadModelRebuilding: Redis was lost, or cleared, meanwhile.
    """
    with sync_client(settings) as client, answering():
        complete = client.exists(GENERATION) and not (isinstance(client, ClusterRedis) and parts.lost(client, parts.lives(client)))
    if not complete and not catch_up(settings, stopping or threading.Event(), progress, without_stopped=True):
        return {"people": 0, "operations": 0, "seconds": 0.0}
    return write_everything(settings, progress)


def write_everything(settings: Settings, progress: Progress | None = None) -> dict[str, float]:
    """Writes every fact of the rows into Redis and then declares the read model complete.

    What is in Redis already stays where it is newer. The projections go on from the positions that the rows had before
    they were read. Returns people, operations, seconds.
    Raises DependencyUnavailable: a server does not answer; ReadModelRebuilding: Redis was lost, or cleared, meanwhile.
    """
    began = time.monotonic()
    people = applied = 0
    with sync_client(settings) as client, open_rows(settings, "rebuild") as primary, answering():
        token = secrets.token_hex(8)
        run_id = server_run(client)
        began_parts = parts.begin(client, token) if isinstance(client, ClusterRedis) else {}
        client.hset(TOKENS, token, run_id)
        client.expire(TOKENS, TOKENS_TTL_S)
        positions = positions_log.positions(primary, settings, [topic.name for topic in TOPICS])
        with open_recent(settings, "rebuild", written(primary)) as conn:
            row = conn.execute("SELECT count(*) FROM users").fetchone()
            total = int(row[0]) if row is not None else 0
            for page in pages_of_people(conn, PEOPLE_A_PAGE):
                batch = [
                    step for user_id, person in load_people(conn, page).items() for step in operations(user_id, person)
                ]
                apply_all(client, batch)
                people += len(page)
                applied += len(batch)
                if progress is not None:
                    progress("people", people, max(total, people))
            applied += _write_conversations(conn, client, progress)
            applied += _write_posts(conn, client, progress)
            applied += _write_media(conn, client)
            apply_all(client, [put_ranking(ranking.present(conn)), *home.large_operations(conn)])
            revoked = revoked_families(conn)
        _write_positions(client, settings, positions, revoked)
        if isinstance(client, ClusterRedis):
            parts.finish(client, token, began_parts)
        if client.eval(FINISH, 2, TOKENS, GENERATION, token, f"{token}:{run_id}") != 1:
            raise ReadModelRebuilding("Redis was lost or cleared during the rebuild")
    seconds = time.monotonic() - began
    log.info("read_model_rebuilt", people=people, operations=applied, seconds=round(seconds, 3))
    return {"people": people, "operations": applied, "seconds": seconds}


def _write_conversations(conn: Connection, client: redis.Redis, progress: Progress | None) -> int:
    """The head of every conversation; windows of messages are written when somebody reads them."""
    row = conn.execute("SELECT count(*) FROM conversations").fetchone()
    total = int(row[0]) if row is not None else 0
    done = applied = 0
    for page in messages.pages_of_conversations(conn, CONVERSATIONS_A_PAGE):
        _, batch = messages.conversation_operations(conn, page)
        apply_all(client, batch)
        done += len(page)
        applied += len(batch)
        if progress is not None:
            progress("conversations", done, max(total, done))
    return applied


def _write_posts(conn: Connection, client: redis.Redis, progress: Progress | None) -> int:
    """Every post with its counts and newest comments; feeds are written when somebody reads them."""
    row = conn.execute("SELECT count(*) FROM posts").fetchone()
    total = int(row[0]) if row is not None else 0
    done = applied = 0
    for page in content.pages_of_posts(conn, POSTS_A_PAGE):
        _, batch = content.post_operations(conn, page)
        apply_all(client, batch)
        done += len(page)
        applied += len(batch)
        if progress is not None:
            progress("posts", done, max(total, done))
    return applied


def _write_media(conn: Connection, client: redis.Redis) -> int:
    """The record of every media, also of those that are gone: what names them must learn that."""
    applied = 0
    for page in media.pages_of_media(conn, MEDIA_A_PAGE):
        _, batch = media.media_operations(conn, page)
        apply_all(client, batch)
        applied += len(batch)
    return applied


def _write_positions(
    client: redis.Redis, settings: Settings, positions: Positions, revoked: Mapping[str, int]
) -> None:
    pipeline = client.pipeline(transaction=False)
    if revoked:
        pipeline.zadd(REVOKED, dict(revoked), nx=True)
    for topic, offsets in positions.items():
        for partition, offset in offsets.items():
            pipeline.set(position_key((topic, partition)), f"{settings.log.generations.get(topic, 1)}:{offset}")
    pipeline.execute()


def clear(settings: Settings) -> int:
    """Forgets the whole read model, completeness first; returns how many keys went.

    Until ``rebuild`` is done, here or in the keeper, the API answers 503. Raises DependencyUnavailable.
    """
    removed = 0
    with sync_client(settings) as client, answering():
        _incomplete(client)
        for pattern in _PATTERNS:
            batch: list[bytes] = []
            for key in client.scan_iter(match=pattern, count=1_000):
                batch.append(key)
                if len(batch) == 1_000:
                    removed += client.unlink(*batch)
                    batch.clear()
            if batch:
                removed += client.unlink(*batch)
        # What the keeper wrote meanwhile may be gone again.
        _incomplete(client)
    return removed


def _incomplete(client: redis.Redis | ClusterRedis) -> None:
    """Declares the read model incomplete, also to rebuilds under way."""
    client.delete(GENERATION, TOKENS)
    if isinstance(client, ClusterRedis):
        parts.cleared(client)


def server_run(client: redis.Redis) -> str:
    """Names this life of the Redis server: another one after a restart or a failover. A cluster's nodes have lives of their own
    (``parts``)."""
    if isinstance(client, ClusterRedis):
        return "cluster"
    facts: Any = client.info("server")
    return str(facts["run_id"])


@contextmanager
def answering() -> Iterator[None]:
    """Turns a server's absence into DependencyUnavailable."""
    try:
        with translated():
            yield
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error


class ReadModelKeeper:
    """Looks every second whether the read model is complete, and rebuilds it when it is not.

    What was acknowledged until Redis was found empty is in the rows before they are read. A server that was restarted or promoted counts as lost, since it may miss the last writes; of a cluster, that node alone.
    """

    def __init__(self, settings: Settings, *, fatal: Callable[[str], None] | None = None) -> None:
        """``fatal`` is told of a fault that no waiting mends; the thread ends with it."""
        self._settings = settings
        self._fatal = fatal
        self.rebuilds = 0
        self.state = "starting"
        """``complete``, or what is done or waited for."""

    def run(self, stopping: threading.Event) -> None:
        """Keeps the read model complete until ``stopping``; belongs to one thread. Servers may come and go."""
        client = sync_client(self._settings)
        try:
            while not stopping.is_set():
                try:
                    self._look(client, stopping)
                except DependencyUnavailable as error:
                    self.state = f"waiting: {error.message}"
                    log.warning("read_model_waits", reason=str(error))
                except Exception as error:
                    log.exception("read_model_keeper_failed")
                    if self._fatal is not None:
                        self._fatal(f"read model: {error!r}")
                    raise
                stopping.wait(CHECK_S)
        finally:
            client.close()

    def _look(self, client: redis.Redis, stopping: threading.Event) -> None:
        with answering():
            lost: list[str] = []
            if isinstance(client, ClusterRedis):
                lives = parts.lives(client)
                lost = parts.lost(client, lives)
                # What the other nodes hold is served on; a rebuild ends with another generation, once every node is there.
                parts.forget(client, lost)
                parts.required(lives)
            value: Any = client.get(GENERATION)
            known = value is not None and value.rpartition(b":")[2].decode() == server_run(client)
            if known and not lost:
                self.state = "complete"
                return
            if value is not None and not isinstance(client, ClusterRedis):
                client.eval(FORGET, 1, GENERATION, value)
        log.warning("read_model_lost", found=value is not None, parts=len(lost))
        if rebuild(self._settings, self._progress, stopping)["seconds"]:
            self.rebuilds += 1
            self.state = "complete"

    def _progress(self, what: str, done: int, of: int) -> None:
        self.state = f"{what} {100 * done // max(1, of)} %"
