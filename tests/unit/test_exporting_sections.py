"""Every table either is in a person's export or says here why it is not."""

from __future__ import annotations

import re

from writers.exporting import SECTIONS
from writers.migrations import DIRECTORY, MIGRATIONS

LEFT_OUT = {
    "albums": "the order of photos that are exported as media",
    "audit_log": "what moderators did",
    "cards_seen": "what was shown to a person, kept for some days to learn from",
    "cards_served": "what was shown to a person, kept for some days to learn from",
    "cards_seen_other": "a partition",
    "cards_served_other": "a partition",
    "conversations": "its matches and messages are exported",
    "dead_letters": "the log's",
    "erasures": "nobody is left who could ask",
    "exports": "this file's own place",
    "idempotency_keys": "keys of requests, for a day",
    "large_creators": "how feeds are made",
    "ledger_entries": "their sums by transaction are exported",
    "like_bursts": "counts of what is exported as swipes",
    "media_hashes": "of media that is exported; evidence",
    "moderation_cases": "evidence",
    "post_counts": "counts",
    "promo_redemptions": "part of the subscription that is exported",
    "provider_facts": "what the ledger's transactions are made of",
    "ranking_configurations": "nobody's",
    "read_marks": "how far a conversation was read, which both see",
    "shard_epochs": "the platform's",
    "subscription_requests": "keys of requests",
    "topic_generations": "the log's",
    "webhook_events": "ids of a processor's reports",
    "writer_positions": "the log's",
}


def test_a_new_table_is_exported_or_it_is_said_why_not() -> None:
    schema = "\n".join((DIRECTORY / f"{name}.sql").read_text() for name in MIGRATIONS)
    tables = set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE))
    exported = set(re.findall(r"FROM (\w+)", " ".join(SECTIONS.values())))
    assert tables - exported - set(LEFT_OUT) == set()
    assert set(LEFT_OUT) <= tables
    assert exported <= tables


def test_a_section_names_its_columns() -> None:
    """A column that comes later may say of others what they have not told, as why something ended."""
    assert [name for name, statement in SECTIONS.items() if "*" in statement] == []
