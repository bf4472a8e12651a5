"""The ranking configurations that the rows hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from configs.contracts.ranking import INITIAL, RankingConfiguration, read_configuration
from writers.connections import Connection


class Configured(NamedTuple):
    """One configuration with the event that brought it."""

    configuration: RankingConfiguration
    event_id: str
    reason: str
    configured_at: datetime


def present(conn: Connection) -> RankingConfiguration:
    """The configuration in force; ``INITIAL`` before the first."""
    newest = history(conn, 1)
    return newest[0].configuration if newest else INITIAL


def history(conn: Connection, limit: int | None, reasons: Sequence[str] | None = None) -> list[Configured]:
    """The newest configurations, newest first. ``limit`` None: all; ``reasons`` None: whatever brought them."""
    rows: list[tuple[Any, ...]] = conn.execute(
        "SELECT document::text, event_id::text, reason, configured_at FROM ranking_configurations"
        " WHERE %(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s::text[]) ORDER BY number DESC LIMIT %(limit)s",
        {"limit": limit, "reasons": None if reasons is None else list(reasons)},
    ).fetchall()
    return [Configured(read_configuration(text.encode()), event_id, reason, at) for text, event_id, reason, at in rows]
