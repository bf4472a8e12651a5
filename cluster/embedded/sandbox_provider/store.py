"""The sandbox's memory: documents in one SQLite file, so that a killed sandbox comes back with everything."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

EVENTS_KEPT: Final = 20_000
KEYS_KEPT: Final = 20_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    id TEXT PRIMARY KEY, object TEXT NOT NULL, account TEXT NOT NULL, created INTEGER NOT NULL, seq INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_newest ON objects (object, account, seq DESC);
CREATE INDEX IF NOT EXISTS events_waiting ON objects (seq)
    WHERE object = 'event' AND json_extract(body, '$._delivery.state') = 'waiting';
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
Document = dict[str, Any]


class Store:
    """Objects by id. One thread uses it; a request is one transaction (``changing``)."""

    def __init__(self, path: Path) -> None:
        if str(path) != ":memory:":
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)
        self._seq = int(self._db.execute("SELECT coalesce(max(seq), 0) FROM objects").fetchone()[0])
        self._offset = int(self.fact("clock_offset_s", 0))
        self._at: int | None = None

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """All of it stays, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- the virtual clock

    def now(self) -> int:
        """Virtual Unix seconds: real time and what ``advance`` added."""
        return self._at if self._at is not None else int(time.time()) + self._offset

    @contextmanager
    def at(self, moment: int) -> Iterator[None]:
        """Things that were due at an earlier moment happen at that moment."""
        before, self._at = self._at, moment
        try:
            yield
        finally:
            self._at = before

    def advance(self, seconds: int) -> None:
        self._offset += seconds
        self.keep_fact("clock_offset_s", self._offset)

    # -- small facts

    def fact(self, name: str, default: Any) -> Any:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def keep_fact(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    # -- objects

    def fresh(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(12)}"

    def add(self, document: Document, *, account: str = "") -> Document:
        """Stores a new object; ``account``: the connected account in which it lives."""
        self._seq += 1
        self._db.execute(
            "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?)",
            (document["id"], document["object"], account, document.get("created", self.now()), self._seq, json.dumps(document)),
        )
        return document

    def save(self, document: Document) -> Document:
        self._db.execute("UPDATE objects SET body = ? WHERE id = ?", (json.dumps(document), document["id"]))
        return document

    def get(self, object_id: str, kind: str | None = None, account: str = "") -> Document | None:
        row = self._db.execute("SELECT object, account, body FROM objects WHERE id = ?", (object_id,)).fetchone()
        if row is None or (kind is not None and (row[0] != kind or row[1] != account)):
            return None
        found: Document = json.loads(row[2])
        return found

    def remove(self, object_id: str) -> None:
        self._db.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def all(self, kind: str, account: str = "") -> Iterator[Document]:
        """Every object of a kind, newest first."""
        rows = self._db.execute("SELECT body FROM objects WHERE object = ? AND account = ? ORDER BY seq DESC", (kind, account)).fetchall()
        for (body,) in rows:
            yield json.loads(body)

    def waiting_events(self) -> list[Document]:
        """Events of all accounts that no webhook has carried yet, oldest first."""
        rows = self._db.execute(
            "SELECT body FROM objects WHERE object = 'event' AND json_extract(body, '$._delivery.state') = 'waiting' ORDER BY seq LIMIT 1000"
        ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def counts(self) -> dict[str, int]:
        return {str(kind): int(count) for kind, count in self._db.execute("SELECT object, count(*) FROM objects GROUP BY object")}

    def prune(self) -> None:
        """Keeps the newest events and idempotency keys."""
        self._db.execute(
            "DELETE FROM objects WHERE object = 'event' AND seq <= "
            "(SELECT coalesce(min(seq), 0) - 1 FROM (SELECT seq FROM objects WHERE object = 'event' ORDER BY seq DESC LIMIT ?))",
            (EVENTS_KEPT,),
        )
        self._db.execute("DELETE FROM keys WHERE seq < (SELECT coalesce(max(seq), 0) - ? FROM keys)", (KEYS_KEPT,))

    # -- idempotency keys

    def answered(self, key: str) -> tuple[str, int, str] | None:
        """(request, status, answer) that the key stands for."""
        row = self._db.execute("SELECT request, status, answer FROM keys WHERE key = ?", (key,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]), str(row[2]))

    def keep_answer(self, key: str, request: str, status: int, answer: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO keys VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM keys), ?, ?, ?)", (key, request, status, answer)
        )
