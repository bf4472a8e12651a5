"""A person in Redis, compared with the same person in rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import redis

from configs.contracts.albums import MediaRow, media_key
from configs.contracts.content import comments_keys, counts_key, media_posts_key, post_key
from configs.contracts.conversations import head_key
from configs.contracts.loading import SwipeRows
from configs.contracts.read_model import (
    LISTING_BOUNDS,
    MARKED_LISTINGS,
    MARKER,
    Credential,
    Listing,
    commerce_key,
    credential_key,
    listing_keys,
    read_versioned,
    record_key,
    relation_key,
    unread_key,
)
from writers.loads.content import Post
from writers.loads.messages import Head
from writers.loads.people import Entry, Person


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that two places do not agree on. Only names and versions: never what a profile or message says."""

    kind: str
    user_id: str
    name: str
    rows_version: int | None = None
    """None: the rows do not have it."""
    other_version: int | None = None
    """None: Redis (or the shard) does not have it."""


Versioned = Mapping[str, tuple[int, Any]]
"""Name -> (version, decoded JSON)."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What Redis holds of one person."""

    record: dict[str, Any] | None
    fields: Versioned
    relations: Versioned
    commerce: Versioned
    open: bool
    listings: Mapping[Listing, Mapping[str, tuple[int, Any, int]]]
    """Entries that are in their list: id -> (version, decoded JSON, Unix ms)."""
    unread: frozenset[str]
    """Ids in the set of unread notifications."""
    credentials: Mapping[str, tuple[int, Any] | None]


def read_copies(client: redis.Redis, people: Mapping[str, Person]) -> dict[str, Copy]:
    """The people's keys, in one round trip."""
    pipeline: Any = client.pipeline(transaction=False)
    for user_id, person in people.items():
        pipeline.get(record_key(user_id))
        pipeline.hgetall(f"fld:{{{user_id}}}")
        pipeline.hgetall(relation_key(user_id))
        pipeline.hgetall(commerce_key(user_id))
        for listing in LISTING_BOUNDS:
            order, entries = listing_keys(listing, user_id)
            pipeline.zrange(order, 0, -1, withscores=True)
            pipeline.hgetall(entries)
        pipeline.smembers(unread_key(user_id))
        for email_hash in person.credentials:
            pipeline.get(credential_key(email_hash))
    replies = iter(pipeline.execute())
    return {user_id: _copy(replies, person) for user_id, person in people.items()}


def _copy(replies: Iterator[Any], person: Person) -> Copy:
    record, fields, relations, commerce = next(replies), next(replies), next(replies), next(replies)
    is_open = MARKER.encode() in relations
    listings: dict[Listing, Mapping[str, tuple[int, Any, int]]] = {}
    for listing in LISTING_BOUNDS:
        order, entries = next(replies), next(replies)
        is_open = is_open and (listing not in MARKED_LISTINGS or MARKER.encode() in entries)
        listings[listing] = {
            member.decode(): (*_versioned(entries[member]), int(score)) for member, score in order if member in entries
        }
    unread = frozenset(member.decode() for member in next(replies))
    return Copy(
        unread=unread,
        record=None if record is None else json.loads(record), fields=_all_versioned(fields),
        relations=_all_versioned(relations), commerce=_all_versioned(commerce), open=is_open, listings=listings,
        credentials={
            name: None if value is None else _versioned(value)
            for name, value in zip(person.credentials, replies, strict=False)
        } if person.credentials else {},
    )


def _all_versioned(stored: Mapping[bytes, bytes]) -> Versioned:
    return {name.decode(): _versioned(value) for name, value in stored.items() if name != MARKER.encode()}


def _versioned(value: bytes) -> tuple[int, Any]:
    return int(value[:16], 16), json.loads(value[16:])


def _plain(value: object) -> Any:
    """As it reads after a way through JSON, without regard to the order of keys."""
    return json.loads(msgspec.json.encode(value))


def compare(user_id: str, person: Person, copy: Copy) -> Iterator[Difference]:
    """Everything that rows and Redis say differently of one person."""
    if person.known:
        yield from _compare_record(user_id, person, copy)
        if not copy.open:
            yield Difference("unwarm", user_id, "marker", rows_version=0)
    yield from _compare_facts(
        "relation", user_id, {name: (version, int(active)) for name, (active, version) in person.relations.items()},
        copy.relations,
    )
    yield from _compare_facts(
        "commerce", user_id, {name: (version, _plain(value)) for name, (value, version) in person.commerce.items()},
        copy.commerce,
    )
    for listing, entries in person.listings.items():
        yield from _compare_listing(listing, user_id, entries, copy.listings[listing])
    unread = {name for name, (_, entry, _) in copy.listings["note"].items() if not entry.get("read", False)}
    for name in sorted(unread ^ copy.unread):
        yield Difference("unread", user_id, name, other_version=0)
    for email_hash, (credential, version) in person.credentials.items():
        yield from _compare_credential(user_id, email_hash, credential, version, copy.credentials[email_hash])


def _compare_record(user_id: str, person: Person, copy: Copy) -> Iterator[Difference]:
    rows = {name: (version, _plain(value)) for name, (value, version) in person.fields.items()}
    yield from _compare_facts("field", user_id, rows, copy.fields)
    shown = {name: value for name, (_, value) in copy.fields.items()} | {"userId": user_id}
    record = dict(copy.record or {})
    record.pop("matchVersion", None)
    if record != shown:
        yield Difference("record", user_id, "record", rows_version=0, other_version=None if copy.record is None else 0)


def _compare_facts(kind: str, user_id: str, rows: Versioned, copied: Versioned) -> Iterator[Difference]:
    for name in sorted(rows.keys() | copied.keys()):
        ours, theirs = rows.get(name), copied.get(name)
        if ours != theirs:
            yield Difference(kind, user_id, name, ours and ours[0], theirs and theirs[0])


def _compare_listing(
    listing: Listing, user_id: str, rows: Mapping[str, Entry], copied: Mapping[str, tuple[int, Any, int]]
) -> Iterator[Difference]:
    """Versions may differ where a newer event changed nothing; at the bound either side may have dropped entries."""
    present = {name: entry for name, entry in rows.items() if entry.at_ms is not None}
    cut = max(len(present), len(copied)) >= LISTING_BOUNDS[listing]
    for name in sorted(present.keys() | copied.keys()):
        entry, found = present.get(name), copied.get(name)
        if entry is None or found is None:
            if not cut:
                yield Difference(
                    listing, user_id, name, None if entry is None else entry.version, None if found is None else found[0]
                )
        elif (_plain(entry.content), entry.at_ms) != found[1:]:
            yield Difference(listing, user_id, name, entry.version, found[0])


def _compare_credential(
    user_id: str, email_hash: str, credential: Credential, version: int, found: tuple[int, Any] | None
) -> Iterator[Difference]:
    # One that was written before the credential had all of its fields says the same.
    if found is None or (found[0], _filled(found[1])) != (version, _filled(_plain(credential))):
        yield Difference("credential", user_id, email_hash, version, found and found[0])


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def compare_shard(user_id: str, rows: SwipeRows, seen: bytes) -> Iterator[Difference]:
    """What a swipe shard's ``seen_set`` lacks, or has and the rows do not."""
    given = rows.own_keys[(rows.own_facts & np.uint64(3)) != 0]
    expected = np.union1d(given, rows.ended_keys)
    actual = np.frombuffer(seen, "<u8")
    for key in np.setdiff1d(expected, actual).tolist():
        yield Difference("shard", user_id, f"{key:016x}", rows_version=0)
    for key in np.setdiff1d(actual, expected).tolist():
        yield Difference("shard", user_id, f"{key:016x}", other_version=0)


def head_differences(client: redis.Redis, heads: Mapping[str, Head]) -> list[Difference]:
    """What Redis lacks of the conversations' heads, or has and the rows do not."""
    pipeline: Any = client.pipeline(transaction=False)
    for name in heads:
        pipeline.hgetall(head_key(name))
    found: list[Difference] = []
    for (name, head), copied in zip(heads.items(), pipeline.execute() if heads else (), strict=True):
        rows = {MARKER.encode(): b"1"} | {
            f"r:{reader}".encode(): f"{seq}:{ordinal}".encode() for reader, (seq, ordinal) in head.marks.items()
        }
        if head.last is not None:
            rows |= {b"last": str(head.last.entry.seq).encode(), b"top": head.last.value()}
        found += (
            Difference("conversation", name, field.decode(), None if field not in rows else 0, None if field not in copied else 0)
            for field in sorted(rows.keys() | copied.keys()) if rows.get(field) != copied.get(field)
        )
    return found


def post_keys(post_id: str) -> list[str]:
    """Every key that holds facts of a post."""
    return [post_key(post_id), counts_key(post_id), *comments_keys(post_id)]


def post_differences(client: redis.Redis, posts: Mapping[str, Post]) -> list[Difference]:
    """What Redis lacks of the posts, their counts and newest comments, or has and the rows do not."""
    pipeline: Any = client.pipeline(transaction=False)
    for post_id, post in posts.items():
        order, entries = comments_keys(post_id)
        pipeline.get(post_key(post_id))
        pipeline.hgetall(counts_key(post_id))
        pipeline.zrange(order, 0, -1)
        pipeline.hgetall(entries)
        for media_id in _media_of(post):
            pipeline.hget(media_posts_key(media_id), post_id)
    replies = iter(pipeline.execute() if posts else ())
    found: list[Difference] = []
    for post_id, post in posts.items():
        record, counts, order, entries = next(replies), next(replies), next(replies), next(replies)
        rows = {} if post.record is None else {"record": (post.record.version, _plain(post.record))}
        found += _compare_facts("post", post_id, rows, {} if record is None else {"record": _versioned(record)})
        numbers = {what: (version, count) for what, (count, version) in post.counts.items()}
        found += _compare_facts("post_count", post_id, numbers, _all_versioned(counts))
        written = {name: (version, _plain(entry)) for name, (entry, version) in post.comments.items()}
        shown = {name.decode(): _versioned(entries[name]) for name in order if name in entries}
        found += _compare_facts("comment", post_id, written, shown)
        for media_id in _media_of(post):
            named = next(replies)
            found += [Difference("media_post", post_id, media_id, 0, None)] if named is None else []
    return found


def _media_of(post: Post) -> Sequence[str]:
    return () if post.record is None else tuple(dict.fromkeys(post.record.media_ids))


def media_differences(client: redis.Redis, rows: Mapping[str, MediaRow]) -> list[Difference]:
    """Records of media that Redis lacks, or has otherwise than the rows."""
    names = list(rows)
    values: Any = client.mget([media_key(name) for name in names]) if names else []
    found: list[Difference] = []
    for name, value in zip(names, values, strict=True):
        version, text = (None, b"") if value is None else read_versioned(value)
        if version != rows[name].version or text != msgspec.json.encode(rows[name].record):
            found.append(Difference("media", name, "record", rows[name].version, version))
    return found


def keys_of(user_ids: Iterable[str], people: Mapping[str, Person]) -> list[str]:
    """Every key that holds facts of these people."""
    keys: list[str] = []
    for user_id in user_ids:
        keys += [record_key(user_id), f"fld:{{{user_id}}}", relation_key(user_id), commerce_key(user_id)]
        for listing in LISTING_BOUNDS:
            keys += listing_keys(listing, user_id)
        keys.append(unread_key(user_id))
        keys += [credential_key(email_hash) for email_hash in people[user_id].credentials]
    return keys


