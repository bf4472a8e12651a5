"""The engines that `sugar bench geo` asks the same questions: the card shard's index, Redis and PostGIS."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import hiredis
import numpy as np
import psycopg
from numpy.typing import NDArray
from redis.asyncio.connection import parse_url

from actors.cards.commands import NearestQuery
from actors.cards.state import Cards
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.valkey import EmbeddedValkey
from cluster.launch.bench.geo_world import FIRST_VERSION, GeoWorld
from recommender.baseline import Baseline

COUNT: Final = 200
KEY: Final = b"people"
DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql/15/bin")
POSTGIS_CONTROL: Final = Path("/usr/share/postgresql/15/extension/postgis.control")
INSTALL_POSTGIS: Final = "apt-get install postgresql-15-postgis-3"
SWIPED: Final = 300
CHUNK: Final = 1 << 18

Place = tuple[float, float]
People = NDArray[np.int64]


class Side(Protocol):
    """One engine. ``moves``: how many moves it has taken in."""

    name: str
    moves: int

    def ask(self, places: Sequence[Place], radius_km: float) -> list[Any]:
        """The engine's own answers: the ``COUNT`` nearest people to each place."""
        ...

    def people(self, answer: Any) -> People:
        """The numbers of an answer's people."""
        ...

    def move(self, count: int) -> None:
        """Takes in the next ``count`` moves."""
        ...

    def close(self) -> None: ...


class Index:
    """The card shard's index in this process."""

    name = "card shard"

    def __init__(self, world: GeoWorld) -> None:
        self.cards = Cards(Baseline())
        self.cards.load(world.rows)
        self.cards.settle()
        self._moves = world.payloads()
        self._place_of = {user: number for number, user in enumerate(_sixteens(world.ids.packed))}
        self.moves = 0

    def ask(self, places: Sequence[Place], radius_km: float) -> list[bytes]:
        nearest = self.cards.nearest
        return [nearest(NearestQuery(*place, radius_km, COUNT)).ids for place in places]

    def people(self, answer: bytes) -> People:
        return np.array([self._place_of[user] for user in _sixteens(answer)], dtype=np.int64)

    def move(self, count: int) -> None:
        change, moves, size = self.cards.change, self._moves, len(self._moves)
        for number in range(self.moves, self.moves + count):
            change(moves[number % size], FIRST_VERSION + number)
        self.moves += count

    def close(self) -> None: ...


def _sixteens(packed: bytes) -> list[bytes]:
    return [packed[start : start + 16] for start in range(0, len(packed), 16)]


class Redis:
    """GEOSEARCH on an embedded Valkey, members 16 bytes; many queries and moves in each round trip."""

    name = "Redis"
    pipelined = 16

    def __init__(self, world: GeoWorld, run_dir: Path) -> None:
        self.server = EmbeddedValkey(run_dir)
        self.server.start()
        self._members = _sixteens(world.ids.packed)
        self._place_of = {user: number for number, user in enumerate(self._members)}
        self.connection = RedisConnection(self.server.url)
        lat, lng = world.rows.latitudes.tolist(), world.rows.longitudes.tolist()
        for start in range(0, len(lat), 1_000):
            command: list[Any] = [b"GEOADD", KEY]
            for number in range(start, min(start + 1_000, len(lat))):
                command += (lng[number], lat[number], self._members[number])
            self.connection.ask([command])
        self._moves = [
            _packed((b"GEOADD", KEY, longitude, latitude, self._members[person]))
            for person, latitude, longitude in zip(
                world.movers.tolist(), world.latitudes.tolist(), world.longitudes.tolist(), strict=True
            )
        ]
        self.moves = 0

    def ask(self, places: Sequence[Place], radius_km: float) -> list[list[bytes]]:
        answers: list[list[bytes]] = []
        for start in range(0, len(places), self.pipelined):
            answers += self.connection.ask([search(place, radius_km) for place in places[start : start + self.pipelined]])
        return answers

    def people(self, answer: list[bytes]) -> People:
        return np.array([self._place_of[user] for user in answer], dtype=np.int64)

    def move(self, count: int) -> None:
        self._send(self.connection, count)

    def _send(self, connection: RedisConnection, count: int) -> None:
        size = len(self._moves)
        connection.send(b"".join(self._moves[number % size] for number in range(self.moves, self.moves + count)), count)
        self.moves += count

    def moving(self, rate: float) -> Moving:
        """Moves at this rate, beside the questions of others, on a connection of its own."""
        connection = RedisConnection(self.server.url)
        return Moving(lambda count: self._send(connection, count), rate, connection.close)

    def close(self) -> None:
        self.connection.close()
        self.server.stop()


def _packed(command: Sequence[Any]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))
    return packed


def search(place: Place, radius_km: float) -> tuple[Any, ...]:
    """The GEOSEARCH command of one question."""
    return (
        b"GEOSEARCH", KEY, b"FROMLONLAT", place[1], place[0], b"BYRADIUS", radius_km, b"km", b"ASC", b"COUNT", COUNT
    )


class RedisConnection:
    """A socket with hiredis, no more: a client library would cost several times as much per command."""

    def __init__(self, url: str) -> None:
        options = parse_url(url)
        self._socket = socket.create_connection((options["host"], options["port"]))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.ask([("AUTH", options["password"])])

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return self.send(b"".join(map(_packed, commands)), len(commands))

    def send(self, packed: bytes, commands: int) -> list[Any]:
        """The replies to packed commands. Raises the first error among them."""
        self._socket.sendall(packed)
        replies: list[Any] = []
        while len(replies) < commands:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(CHUNK))
            elif isinstance(reply, hiredis.ReplyError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def close(self) -> None:
        self._socket.close()


class Moving:
    """Calls ``move(count)`` in a thread, many small batches at a rate, until it is left."""

    STEP_S: Final = 0.005

    def __init__(self, move: Any, rate: float, close: Any) -> None:
        self._move, self._rate, self._close = move, rate, close
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        began, done = time.monotonic(), 0
        while not self._stopping.wait(self.STEP_S):
            due = int((time.monotonic() - began) * self._rate) - done
            self._move(due)
            done += due

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()


class PostGIS:
    """``ST_DWithin`` with a GiST index on Debian's PostgreSQL 15, without 300 people who were swiped."""

    name = "PostGIS"

    def __init__(self, world: GeoWorld, run_dir: Path) -> None:
        self._server = EmbeddedPostgres(run_dir / "postgis", run_dir, binaries=DEBIAN_POSTGRES)
        run_dir.chmod(0o755)
        self._conn = psycopg.connect(self._server.start(), autocommit=True)
        self.moves = 0
        self._world = world
        lat, lng = world.rows.latitudes.tolist(), world.rows.longitudes.tolist()
        self._conn.execute("CREATE EXTENSION postgis")
        self._conn.execute("CREATE TABLE people (id int PRIMARY KEY, location geography(Point, 4326))")
        self._conn.execute("CREATE TEMPORARY TABLE raw (id int, latitude float8, longitude float8)")
        with self._conn.cursor() as cursor, cursor.copy("COPY raw FROM STDIN") as copy:
            for row in zip(range(len(lat)), lat, lng, strict=True):
                copy.write_row(row)
        self._conn.execute(
            "INSERT INTO people SELECT id, ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography FROM raw"
        )
        self._conn.execute("CREATE INDEX ON people USING gist (location)")
        self._conn.execute("VACUUM ANALYZE people")
        self.swiped = np.random.default_rng(5).choice(len(lat), SWIPED, replace=False).tolist()

    @staticmethod
    def installed() -> bool:
        return POSTGIS_CONTROL.exists() and shutil.which(str(DEBIAN_POSTGRES / "postgres")) is not None

    def ask(self, places: Sequence[Place], radius_km: float) -> list[list[tuple[int]]]:
        statement = (
            "SELECT id FROM people, (SELECT ST_SetSRID(ST_MakePoint(%(lng)s, %(lat)s), 4326)::geography AS place) AS viewer "
            "WHERE ST_DWithin(location, place, %(metres)s) AND id NOT IN (SELECT unnest(%(swiped)s::int[])) "
            "ORDER BY location <-> place LIMIT %(count)s"
        )
        return [
            self._conn.execute(statement, {
                "lat": place[0], "lng": place[1], "metres": radius_km * 1_000, "swiped": self.swiped, "count": COUNT,
            }).fetchall()
            for place in places
        ]

    def people(self, answer: list[tuple[int]]) -> People:
        return np.array([row[0] for row in answer], dtype=np.int64)

    def move(self, count: int) -> None:
        world, size = self._world, self._world.movers.size
        chosen = np.arange(self.moves, self.moves + count) % size
        self._conn.execute(
            "UPDATE people SET location = ST_SetSRID(ST_MakePoint(lng, lat), 4326)::geography "
            "FROM unnest(%s::int[], %s::float8[], %s::float8[]) AS moved (id, lat, lng) WHERE people.id = moved.id",
            (world.movers[chosen].tolist(), world.latitudes[chosen].tolist(), world.longitudes[chosen].tolist()),
        )
        self.moves += count

    def close(self) -> None:
        self._conn.close()
        self._server.stop()


def temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="sugar-bench-geo-"))

