"""Rows as Parquet for training: pseudonymous, without names, texts, exact ages or places.

People are numbered in the order of ``people.parquet``; everything else names them by these numbers. A pseudonym is a
keyed hash of the id: the same in every export of one platform, and nobody's without its key. Positions are the centres
of H3 resolution-5 cells, distances whole kilometres, ages completed years, activity whole hours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import h3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.connections.postgres import translated
from configs.contracts.errors import ConfigurationError
from configs.contracts.people import GENDER_CODES, OPPOSITE, ROLE_CODES, age_years, gender_mask, role_mask
from configs.settings import Settings
from recommender.candidates import distances_km
from writers.connections import Connection
from writers.loads.reader import open_recent

FORMAT: Final = 1
ROWS_A_BATCH: Final = 50_000
COARSE_RESOLUTION: Final = 5
"""H3 cells about 17 km across: 7 cells of the grid that positions are snapped to."""
NOBODY: Final = -1
Progress = Callable[[str, int], None]

PEOPLE: Final = """
WITH sent AS (
    SELECT swiper_id AS id, count(*) AS swipes, count(*) FILTER (WHERE action IN (1, 3)) AS likes
    FROM swipes WHERE action > 0 GROUP BY swiper_id
), received AS (
    SELECT swiped_id AS id, count(*) AS swipes, count(*) FILTER (WHERE action IN (1, 3)) AS likes
    FROM swipes WHERE action > 0 GROUP BY swiped_id
)
SELECT uuid_send(users.id), role, gender, birth_date, preferences, verification_status = 'verified', latitude, longitude,
    cell, extract(epoch FROM last_active_at)::float8, extract(epoch FROM created_at)::float8,
    coalesce(sent.likes, 0), coalesce(sent.swipes, 0), coalesce(received.likes, 0), coalesce(received.swipes, 0)
FROM users LEFT JOIN sent ON sent.id = users.id LEFT JOIN received ON received.id = users.id
WHERE role IS NOT NULL AND status = 'active' ORDER BY users.id
"""
SWIPES: Final = """
SELECT uuid_send(swiper_id), uuid_send(swiped_id), action, extract(epoch FROM created_at)::float8,
    uuid_send(response_id), response_position
FROM swipes WHERE created_at >= %s AND action > 0 ORDER BY created_at
"""
MATCHES: Final = """
SELECT uuid_send(member_id), uuid_send(other_id), status, extract(epoch FROM matched_at)::float8
FROM matches WHERE matched_at >= %s AND member_id < other_id ORDER BY matched_at
"""
SERVED: Final = """
SELECT uuid_send(served.viewer_id), uuid_send(served.response_id), extract(epoch FROM served.served_at)::float8,
    extract(epoch FROM decided_at)::float8, configuration, model_version, experiment, arm,
    array(SELECT uuid_send(one) FROM unnest(candidate_ids) WITH ORDINALITY AS all_of (one, place) ORDER BY place),
    positions, scores, propensities, feature_names, feature_values,
    array(SELECT uuid_send(candidate_id) FROM cards_seen AS seen WHERE seen.viewer_id = served.viewer_id
          AND seen.response_id = served.response_id AND seen.served_at = served.served_at)
FROM cards_served AS served WHERE served.served_at >= %s ORDER BY served.served_at
"""

PEOPLE_SCHEMA: Final = pa.schema([
    ("pseudonym", pa.string()), ("role", pa.int8()), ("gender", pa.int8()), ("age_years", pa.int16()),
    ("age_min", pa.int16()), ("age_max", pa.int16()), ("reach_km", pa.int16()), ("accepts_roles", pa.int8()),
    ("accepts_genders", pa.int8()), ("discoverable", pa.bool_()), ("verified", pa.bool_()),
    ("latitude", pa.float32()), ("longitude", pa.float32()), ("cell", pa.uint64()), ("active_s", pa.int64()),
    ("created_s", pa.int64()), ("likes_sent", pa.int32()), ("swipes_sent", pa.int32()), ("likes_received", pa.int32()),
    ("swipes_received", pa.int32()),
])
SWIPES_SCHEMA: Final = pa.schema([
    ("swiper", pa.int32()), ("swiped", pa.int32()), ("action", pa.int8()), ("at_s", pa.float64()),
    ("distance_km", pa.float32()), ("response", pa.uint64()), ("position", pa.int16()),
])
MATCHES_SCHEMA: Final = pa.schema([
    ("low", pa.int32()), ("high", pa.int32()), ("status", pa.string()), ("at_s", pa.float64()),
])
IMPRESSIONS_SCHEMA: Final = pa.schema([
    ("viewer", pa.int32()), ("candidate", pa.int32()), ("response", pa.uint64()), ("position", pa.int16()),
    ("score", pa.float32()), ("propensity", pa.float32()), ("served_s", pa.float64()), ("decided_s", pa.float64()),
    ("configuration", pa.int64()), ("model_version", pa.dictionary(pa.int32(), pa.string())),
    ("experiment", pa.dictionary(pa.int32(), pa.string())), ("arm", pa.dictionary(pa.int32(), pa.string())),
    ("distance_km", pa.float32()), ("seen", pa.bool_()), ("features", pa.map_(pa.string(), pa.float32())),
])


class _People:
    """Numbers of people, and where they are, for the rows that name them."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.places: list[tuple[float, float]] = []

    def add(self, raw: bytes, latitude: float | None, longitude: float | None) -> None:
        self.numbers[raw] = len(self.places)
        self.places.append((np.nan, np.nan) if latitude is None or longitude is None else (latitude, longitude))

    def numbered(self, raw: list[bytes]) -> NDArray[np.int32]:
        get = self.numbers.get
        return np.fromiter((get(one, NOBODY) for one in raw), np.int32, len(raw))

    def distances(self, one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.float32]:
        """Whole kilometres between people; NaN where one has no place."""
        if not one.size:
            return np.zeros(0, np.float32)
        places: Any = np.array(self.places, np.float64)
        a, b = places[one], places[other]
        return np.rint(distances_km(a[:, 0], a[:, 1], b[:, 0], b[:, 1])).astype(np.float32)


def export(
    settings: Settings, out: Path, since: datetime, *, identified: bool = False, progress: Progress | None = None
) -> dict[str, int]:
    """Writes people, swipes, matches and impressions since a time into a new directory; returns the rows of each.

    All of one snapshot. ``identified``: real ids in the place of pseudonyms and cells as they are, for what goes back to
    the shards and never leaves the platform. A replica is read where one is as recent as the call (``open_recent``).
    Raises ConfigurationError: the directory is there already. DependencyUnavailable: PostgreSQL does not answer.
    """
    if out.exists():
        raise ConfigurationError("the directory exists already; name a new one", out=str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    now = datetime.now(UTC)
    key = None if identified else hashlib.sha256(
        b"export" + bytes.fromhex(settings.auth.impression_key.get_secret_value())
    ).digest()
    rows: dict[str, int] = {}
    try:
        with _snapshot(settings) as conn:
            people = _People()
            parts: Mapping[str, tuple[pa.Schema, Iterator[pa.RecordBatch]]] = {
                "people": (PEOPLE_SCHEMA, _people(conn, people, key, now)),
                "swipes": (SWIPES_SCHEMA, _swipes(conn, people, since)),
                "matches": (MATCHES_SCHEMA, _matches(conn, people, since)),
                "impressions": (IMPRESSIONS_SCHEMA, _impressions(conn, people, since)),
            }
            for name, (schema, batches) in parts.items():
                rows[name] = _write(beside / f"{name}.parquet", schema, batches, name, progress)
        manifest = {
            "format": FORMAT, "since": since.astimezone(UTC).isoformat(), "until": now.isoformat(),
            "pseudonymous": not identified, "rows": rows,
        }
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return rows


@contextmanager
def _snapshot(settings: Settings) -> Iterator[Connection]:
    with open_recent(settings, "export") as conn, translated(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield conn


def _write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], name: str, progress: Progress | None) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
            if progress is not None:
                progress(name, rows)
    return rows


def _rows(conn: Connection, name: str, query: str, *values: object) -> Iterator[list[tuple[Any, ...]]]:
    with conn.cursor(name=name, binary=True) as cursor:
        cursor.itersize = ROWS_A_BATCH
        cursor.execute(query, values)
        while rows := cursor.fetchmany(ROWS_A_BATCH):
            yield rows


def _batch(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array(columns[field.name], field.type, from_pandas=field.type == pa.float32()) for field in schema], schema=schema
    )


def _people(conn: Connection, people: _People, key: bytes | None, now: datetime) -> Iterator[pa.RecordBatch]:
    for rows in _rows(conn, "people", PEOPLE):
        columns: dict[str, list[Any]] = {name: [] for name in PEOPLE_SCHEMA.names}
        for row in rows:
            raw, role, gender, born, wishes, verified, latitude, longitude, cell, active, created, *counts = row
            people.add(raw, latitude, longitude)
            coarse = None if not cell else _coarse(f"{cell & (1 << 64) - 1:x}", identified=key is None)
            place = (None, None) if coarse is None else h3.cell_to_latlng(coarse)
            values = (
                _pseudonym(raw, key), ROLE_CODES[role], GENDER_CODES[gender],
                None if born is None else age_years(born, now.date()), wishes.get("ageMin", 18),
                wishes.get("ageMax", 99), wishes.get("maxDistanceKm", 50),
                role_mask(wishes.get("roles") or OPPOSITE[role]), gender_mask(wishes.get("genders") or ()),
                wishes.get("discoverable", True), verified, *place,
                0 if coarse is None else int(coarse, 16), 0 if active is None else int(active // 3_600) * 3_600,
                0 if created is None else int(created // 86_400) * 86_400,
                counts[0], counts[1], counts[2], counts[3],
            )
            for name, value in zip(PEOPLE_SCHEMA.names, values, strict=True):
                columns[name].append(value)
        yield _batch(PEOPLE_SCHEMA, columns)


def _coarse(cell: str, *, identified: bool) -> str:
    return cell if identified else str(h3.cell_to_parent(cell, COARSE_RESOLUTION))


def _pseudonym(raw: bytes, key: bytes | None) -> str:
    return raw.hex() if key is None else hashlib.blake2b(raw, key=key, digest_size=16).hexdigest()


def _swipes(conn: Connection, people: _People, since: datetime) -> Iterator[pa.RecordBatch]:
    for rows in _rows(conn, "swipes", SWIPES, since):
        swipers, swiped, actions, times, responses, positions = zip(*rows, strict=True)
        one, other = people.numbered(list(swipers)), people.numbered(list(swiped))
        known = (one != NOBODY) & (other != NOBODY)
        yield _batch(SWIPES_SCHEMA, {
            "swiper": one[known], "swiped": other[known], "action": np.array(actions, np.int8)[known],
            "at_s": np.array(times, np.float64)[known], "distance_km": people.distances(one[known], other[known]),
            "response": np.array([_response(raw) for raw in responses], np.uint64)[known],
            "position": np.array([NOBODY if place is None else place for place in positions], np.int16)[known],
        })


def _matches(conn: Connection, people: _People, since: datetime) -> Iterator[pa.RecordBatch]:
    for rows in _rows(conn, "matches", MATCHES, since):
        low, high, statuses, times = zip(*rows, strict=True)
        one, other = people.numbered(list(low)), people.numbered(list(high))
        known = np.flatnonzero((one != NOBODY) & (other != NOBODY))
        yield _batch(MATCHES_SCHEMA, {
            "low": one[known], "high": other[known], "status": [statuses[place] for place in known],
            "at_s": np.array(times, np.float64)[known],
        })


def _impressions(conn: Connection, people: _People, since: datetime) -> Iterator[pa.RecordBatch]:
    for rows in _rows(conn, "impressions", SERVED, since):
        columns: dict[str, list[Any]] = {name: [] for name in IMPRESSIONS_SCHEMA.names}
        for row in rows:
            viewer, response, served, decided, number, model, experiment, arm, candidates, *rest = row
            positions, scores, propensities, names, values, seen = rest
            width = len(names or ())
            shown = frozenset(seen)
            for place, candidate in enumerate(candidates):
                features = None if not width else list(
                    zip(names, values[width * place : width * (place + 1)], strict=True)
                )
                card = (
                    people.numbers.get(viewer, NOBODY), people.numbers.get(candidate, NOBODY), _response(response),
                    positions[place], scores[place], propensities[place], served, decided, number, model, experiment, arm,
                    np.nan, candidate in shown, features,
                )
                if NOBODY in card[:2]:
                    continue
                for name, value in zip(IMPRESSIONS_SCHEMA.names, card, strict=True):
                    columns[name].append(value)
        columns["distance_km"] = people.distances(  # type: ignore[assignment]
            np.array(columns["viewer"], np.int32), np.array(columns["candidate"], np.int32)
        )
        yield _batch(IMPRESSIONS_SCHEMA, columns)


def _response(raw: bytes | None) -> int:
    """The random half of a response's id; 0: none."""
    return 0 if raw is None else int.from_bytes(raw[8:], "big")
