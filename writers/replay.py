"""Applying dead letters again, after what made them fail was mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from cluster.connections.redis import apply, sync_client
from configs.contracts.events import (
    BillRefundAnswered,
    BillRefundRequested,
    PaymentObserved,
    PayoutAnswered,
    RefundAnswered,
    RefundRequested,
    SubscriptionObserved,
    encode,
)
from configs.contracts.ids import partition_of
from configs.contracts.read_model import REVOKED
from configs.contracts.topics import BY_NAME
from configs.settings import Settings
from writers.appending import ThreadAppender
from writers.commit import RECORD_ERRORS, write_facts
from writers.connections import Connection, open_rows
from writers.consumers.derive import Keys, follows, known_of
from writers.dead_letters import DeadLetter, describe_error, show_letter
from writers.projections.operations import changes_of
from writers.records import Fact, decode_all
from writers.sinks.erasures import erase_again


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one dead letter; ``error`` None: it is applied."""

    id: int
    error: str | None


IN_ANY_ORDER: Final = (
    PaymentObserved, SubscriptionObserved, RefundRequested, RefundAnswered, BillRefundRequested, BillRefundAnswered, PayoutAnswered,
)
"""Money's facts, which count whenever they come and once however often: they are appended anew. Under its own old version a
row, or a value in Redis, would refuse one after anything newer about the same payment."""
HOLD = "SELECT FROM writer_positions WHERE consumer = 'rows' AND partition = %s ORDER BY topic FOR UPDATE"


def replay(settings: Settings, letter_ids: Sequence[int]) -> list[Replayed]:
    """Applies dead letters with the version of their own position: rows, what follows from them, the read model.

    In the order given. Replaying again changes nothing; a newer fact that came meanwhile stays, and money counts beside it as
    soon as the writers have read it anew.
    Raises DependencyUnavailable: a server did not answer; letters not yet marked as replayed can be replayed again.
    """
    appender = ThreadAppender(settings, "replay")
    try:
        with open_rows(settings, "replay") as conn, translated():
            return [_replay(settings, conn, appender, letter_id) for letter_id in letter_ids]
    finally:
        appender.close()


def _replay(settings: Settings, conn: Connection, appender: ThreadAppender, letter_id: int) -> Replayed:
    letter = show_letter(settings, letter_id)
    if letter is None:
        return Replayed(letter_id, "there is no such dead letter")
    decoded, failures = decode_all([letter.record], {letter.topic: letter.generation})
    error: Exception | None = failures[0].error if failures else None
    # There may be another number of partitions by now: where the letter stood says nothing of who writes its key.
    facts = [fact._replace(partition=partition_of(fact.event.key, settings.log.partitions)) for _, fact in decoded]
    if error is None:
        try:
            with conn.transaction(), conn.cursor() as cur:
                # As long, the partition's writer commits nothing: sinks read rows and write them back without locking them.
                for fact in facts:
                    cur.execute(HOLD, (fact.partition,))
                write_facts(cur, facts)
                erase_again(cur, facts)
        except RECORD_ERRORS as caught:
            error = caught
    if error is not None:
        reason = describe_error(error)
        conn.execute("UPDATE dead_letters SET replay_error = %s WHERE id = %s", (reason, letter_id))
        return Replayed(letter_id, reason)
    _follow_up(settings, conn, appender, letter, facts)
    # Last, so that a replay that was cut off is repeated.
    conn.execute("UPDATE dead_letters SET replayed_at = now(), replay_error = NULL WHERE id = %s", (letter_id,))
    return Replayed(letter_id, None)


def _follow_up(
    settings: Settings, conn: Connection, appender: ThreadAppender, letter: DeadLetter, facts: Sequence[Fact]
) -> None:
    """What ``derive`` and the projections left out when the record was refused."""
    keys = Keys.of(settings)
    known = known_of(conn, facts)
    headers = tuple((name, value) for name, value in letter.headers if value is not None)
    following = [told for fact in facts for told in follows(fact.event, fact.version, known, keys)]
    again = [(BY_NAME[letter.topic], fact.event) for fact in facts if isinstance(fact.event.payload, IN_ANY_ORDER)]
    appender.append([
        Record(topic.name, partition_of(event.key, settings.log.partitions), event.key, encode(event), headers)
        for topic, event in (*again, *following)
    ])
    if not facts:
        return
    changes = changes_of(conn, {letter.topic: facts})
    client = sync_client(settings)
    try:
        apply(client, changes.operations)
        if changes.revoked:
            client.zadd(REVOKED, changes.revoked, nx=True)
    finally:
        client.close()
