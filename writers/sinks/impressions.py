"""cards_served, cards_seen -> cards_served, cards_seen: one row a response, one a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import CardsSeen, CardsServed
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

CARDS_MOST = 100
FEATURES_MOST = 256

SERVED = """
INSERT INTO cards_served (viewer_id, response_id, served_at, decided_at, configuration, model_version, experiment, arm,
    candidate_ids, positions, scores, propensities, feature_names, feature_values, version)
SELECT viewer_id, response_id, served_at, decided_at, configuration, model_version, experiment, arm,
    candidates::uuid[], positions::smallint[], scores::real[], propensities::real[], names::text[], feature_values::real[],
    version
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch (viewer_id, response_id, served_at,
    decided_at, configuration, model_version, experiment, arm, candidates, positions, scores, propensities, names,
    feature_values, version)
ON CONFLICT (viewer_id, response_id, served_at) DO NOTHING
"""

SEEN = """
INSERT INTO cards_seen (viewer_id, response_id, candidate_id, position, served_at, seen_at)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)
ON CONFLICT (viewer_id, response_id, candidate_id, served_at) DO NOTHING
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    served = [fact for fact in facts if isinstance(fact.event.payload, CardsServed)]
    seen = [fact for fact in facts if isinstance(fact.event.payload, CardsSeen)]
    if served:
        _served(cur, served)
    return len(served) + (_seen(cur, seen) if seen else 0)


def _served(cur: Cursor, facts: Sequence[Fact]) -> None:
    payloads = [fact.event.payload for fact in facts]
    for payload in payloads:
        _check(payload)
    cur.execute(SERVED, (
        columns.uuids([payload.viewer_id for payload in payloads]),
        columns.uuids([fact.event.event_id for fact in facts]),
        columns.timestamps([served_at(fact.event.event_id) for fact in facts]),
        columns.timestamps([payload.decided_at for payload in payloads]),
        columns.bigints([payload.configuration for payload in payloads]),
        columns.texts(payload.model_version for payload in payloads),
        columns.texts(payload.experiment for payload in payloads),
        columns.texts(payload.arm for payload in payloads),
        # Arrays of arrays must be rectangular: rows of several lengths travel as the text of an array each.
        columns.texts(_array(payload.candidate_ids) for payload in payloads),
        columns.texts(_array(payload.positions) for payload in payloads),
        columns.texts(_array(payload.scores) for payload in payloads),
        columns.texts(_array(payload.propensities) for payload in payloads),
        columns.texts(_names(payload.feature_names) for payload in payloads),
        columns.texts(_array(payload.feature_values) if payload.feature_names else None for payload in payloads),
        columns.bigints([fact.version for fact in facts]),
    ))


def _check(payload: CardsServed) -> None:
    cards = len(payload.candidate_ids)
    if not 1 <= cards <= CARDS_MOST or {len(payload.positions), len(payload.scores), len(payload.propensities)} != {cards}:
        raise InvalidEvent("the tuples of a response differ in length")
    if len(payload.feature_names) > FEATURES_MOST or len(payload.feature_values) != cards * len(payload.feature_names):
        raise InvalidEvent("feature values do not fit their names")


def _seen(cur: Cursor, facts: Sequence[Fact]) -> int:
    rows: dict[tuple[str, str, str], tuple[int, datetime, datetime]] = {}
    for event, _, _ in facts:
        payload = event.payload
        if not len(payload.response_ids) == len(payload.candidate_ids) == len(payload.positions) <= CARDS_MOST:
            raise InvalidEvent("the tuples of a report differ in length")
        for response, candidate, position in zip(
            payload.response_ids, payload.candidate_ids, payload.positions, strict=True
        ):
            rows.setdefault((payload.viewer_id, response, candidate), (position, served_at(response), event.occurred_at))
    cur.execute(SEEN, (
        columns.uuids([viewer for viewer, _, _ in rows]),
        columns.uuids([response for _, response, _ in rows]),
        columns.uuids([candidate for _, _, candidate in rows]),
        columns.smallints([position for position, _, _ in rows.values()]),
        columns.timestamps([at for _, at, _ in rows.values()]),
        columns.timestamps([at for _, _, at in rows.values()]),
    ))
    return len(rows)


def served_at(response_id: str) -> datetime:
    """The time in a response's id: which day's partition holds it, whichever event names it. Raises InvalidEvent."""
    value: UUID = parsed_id(response_id)
    if value.version != 7:
        raise InvalidEvent("a response's id holds its time", version=value.version)
    return datetime.fromtimestamp((value.int >> 80) / 1_000, UTC)


def _array(values: Sequence[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _names(values: Sequence[str]) -> str | None:
    if not values:
        return None
    if not all(name.isidentifier() for name in values):
        raise InvalidEvent("a feature's name is an identifier")
    return _array(values)


SINK = Sink("impressions", (CardsServed, CardsSeen), write)
