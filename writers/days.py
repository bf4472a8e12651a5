"""Tables with a partition a day: tomorrow's are made in advance, and those whose time is over are dropped whole."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from psycopg import sql

from writers.connections import Connection

TABLES: Final = ("cards_served", "cards_seen")
DAYS_AHEAD: Final = 2
_DAY: Final = re.compile(r"_(\d{8})$")


def keep_days(conn: Connection, days: int, now: datetime) -> int:
    """Makes the partitions of the days to come and removes what is older than ``days``; returns what it removed.

    What lies in no day's partition (the day of the first start, an old event that is replayed) is in the table's
    default one and goes row by row. Dropped partitions count as one.
    """
    removed = 0
    for table in TABLES:
        for ahead in range(DAYS_AHEAD + 1):
            _make(conn, table, _day(now, ahead))
        least = _day(now, -days)
        for partition, day in partitions(conn, table):
            if day < least:
                conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition)))
                removed += 1
        removed += conn.execute(
            sql.SQL("DELETE FROM {} WHERE served_at < %s").format(sql.Identifier(f"{table}_other")), (_start(least),)
        ).rowcount
    return removed


def partitions(conn: Connection, table: str) -> list[tuple[str, date]]:
    """(name, day) of every day's partition, oldest first."""
    found = []
    for (name,) in conn.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass", (table,)
    ):
        match = _DAY.search(name)
        if match:
            found.append((name, datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date()))
    return sorted(found)


def _make(conn: Connection, table: str, day: date) -> None:
    """Makes a day's partition unless it is there, or rows of that day are in the default one already."""
    name = f"{table}_{day:%Y%m%d}"
    start, end = _start(day), _start(day + timedelta(days=1))
    there = conn.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if there is not None and there[0] is not None:
        return
    other = sql.Identifier(f"{table}_other")
    with conn.transaction():
        # The default partition is locked first, so that no row of that day comes between the look and the making.
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        taken = conn.execute(
            sql.SQL("SELECT 1 FROM {} WHERE served_at >= %s AND served_at < %s LIMIT 1").format(other), (start, end)
        ).fetchone()
        if taken is None:
            conn.execute(sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(name), sql.Identifier(table), sql.Literal(start.isoformat()), sql.Literal(end.isoformat())
            ))


def _day(now: datetime, after: int) -> date:
    return (now.astimezone(UTC) + timedelta(days=after)).date()


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
