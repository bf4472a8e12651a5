"""Counts are those of the rows, whatever is repeated, undone, reordered between batches and written again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from configs.contracts.events import (
    CommentDeleted,
    CommentRestored,
    ContentCommented,
    ContentLiked,
    ContentPublished,
    ContentUnliked,
    Event,
    Followed,
    Payload,
    PostAccess,
)
from configs.contracts.ids import derived_id, new_id
from configs.settings import Settings
from writers.connections import open_rows
from writers.loads.content import load_posts
from writers.loads.home import home_operations
from writers.loads.people import DRAFTS, POSTS
from writers.records import Fact
from writers.sinks import comments, follows, post_likes, posts

pytestmark = pytest.mark.servers

CREATOR, PEOPLE = new_id(), [new_id() for _ in range(3)]
SAID = st.tuples(st.integers(0, 1), st.sampled_from(PEOPLE), st.sampled_from(["like", "unlike", "comment", "delete", "strange", "remove", "remove again", "restore", "restore again"]))
SPLITS = st.lists(st.integers(1, 6), min_size=1, max_size=8)


def payload(post: str, person: str, what: str, number: int, written: list[tuple[str, str]]) -> Payload | None:
    common = {"post_id": post, "creator_id": CREATOR}
    if what == "like":
        return ContentLiked(**common, user_id=person)
    if what == "unlike":
        return ContentUnliked(**common, user_id=person)
    if what == "comment":
        written.append((post, derived_id(f"{post}:{number}", "comment")))
        return ContentCommented(**common, comment_id=written[-1][1], user_id=person, text="words")
    mine = [name for place, name in written if place == post]
    if not mine:
        return None
    decision = derived_id(mine[-1], "another" if what.endswith("again") else "decision")
    if what.startswith("restore"):
        return CommentRestored(**common, comment_id=mine[-1], decision_id=decision)
    if what.startswith("remove"):
        return CommentDeleted(**common, comment_id=mine[-1], user_id=CREATOR, decision_id=decision)
    # Who is neither its author nor the creator deletes nothing.
    return CommentDeleted(**common, comment_id=mine[-1], user_id=CREATOR if what == "delete" else new_id())


@examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(SAID, max_size=30), splits=SPLITS, again=st.lists(st.integers(0, 30), max_size=6))
@example(said=[(0, PEOPLE[0], "comment"), (0, PEOPLE[0], "strange"), (0, PEOPLE[0], "delete")], splits=[3], again=[])
@example(said=[(0, PEOPLE[0], what) for what in ("comment", "remove", "restore")], splits=[1], again=[1])
@example(said=[(0, PEOPLE[0], what) for what in ("comment", "remove", "delete", "restore")], splits=[2], again=[0])
@example(said=[(0, PEOPLE[0], what) for what in ("comment", "remove", "remove again", "restore")], splits=[2], again=[0])
def _counts_are_exact(
    conn: psycopg.Connection, said: Sequence[tuple[int, str, str]], splits: Sequence[int], again: Sequence[int]  # type: ignore[type-arg]
) -> None:
    names = [new_id(), new_id()]
    written: list[tuple[str, str]] = []
    facts: list[Fact] = []
    for number, (index, person, what) in enumerate(said):
        made = payload(names[index], person, what, number, written)
        if made is not None:
            facts.append(Fact(Event(new_id(), datetime.now(UTC), names[index], made), number + 1, 0))
    batches, start = [], 0
    while start < len(facts):
        size = splits[len(batches) % len(splits)]
        batches.append(facts[start : start + size])
        start += size
    # A batch that was not committed is written again, also after later ones: a replay of dead letters does that.
    batches += [batches[index] for index in again if index < len(batches)]
    with conn.transaction(force_rollback=True), conn.cursor() as cur:
        for batch in batches:
            for sink in (post_likes.SINK, comments.SINK):
                if mine := [fact for fact in batch if type(fact.event.payload) in sink.events]:
                    sink.write(cur, mine)
        stored = load_posts(conn, names)
    for post in names:
        stands = {fact.event.payload.user_id: fact.event.payload for fact in facts if _is(fact, post, (ContentLiked, ContentUnliked))}
        left = {name for place, name in written if place == post and _stands(name, facts)}
        counts = stored[post].counts
        assert counts.get("likes", (0, 0))[0] == sum(isinstance(last, ContentLiked) for last in stands.values())
        assert counts.get("comments", (0, 0))[0] == len(left)
        assert set(stored[post].comments) == left


def _stands(comment_id: str, facts: Sequence[Fact]) -> bool:
    """As somebody would say it who reads the facts one by one."""
    gone: set[str | None] = set()
    for fact in facts:
        payload = fact.event.payload
        if isinstance(payload, CommentDeleted | CommentRestored) and payload.comment_id == comment_id:
            if isinstance(payload, CommentRestored):
                gone.discard(payload.decision_id)
            elif payload.user_id == CREATOR and None not in gone:
                gone = {payload.decision_id}
    return not gone


def _is(fact: Fact, post: str, kinds: tuple[type[Payload], ...]) -> bool:
    return fact.event.key == post and isinstance(fact.event.payload, kinds)


def test_counts_are_exact(servers: Settings) -> None:
    with open_rows(servers, "test") as conn:
        _counts_are_exact(conn)


def test_rows_list_a_post_for_one_person_nowhere_but_with_its_creator(servers: Settings) -> None:
    """A read model that is built anew from rows must not put it into feeds and pages."""
    creator, follower = new_id(), new_id()
    public, sold = new_id(), new_id()
    price = PostAccess(visibility="ppv", price_minor=500, currency="USD")
    made = [
        ContentPublished(post_id=public, creator_id=creator, caption="words", access=price),
        ContentPublished(post_id=sold, creator_id=creator, caption="words", access=price, recipient_id=follower),
    ]
    facts = [Fact(Event(new_id(), datetime.now(UTC), creator, one), number + 1, 0) for number, one in enumerate(made)]
    follow = Fact(Event(new_id(), datetime.now(UTC), follower, Followed(user_id=follower, creator_id=creator)), 1, 0)
    with open_rows(servers, "test") as conn, conn.transaction(force_rollback=True):
        with conn.cursor() as cur:
            posts.SINK.write(cur, facts)
            follows.SINK.write(cur, [follow])
        stored = load_posts(conn, [public, sold])
        assert [stored[name].record.recipient_id for name in (public, sold)] == [None, follower]  # type: ignore[union-attr]
        listed = {
            name: [str(row[1]) for row in conn.execute(statement, ([creator], 10)).fetchall()]
            for name, statement in (("post", POSTS), ("draft", DRAFTS))
        }
        assert listed == {"post": [public], "draft": [sold]}
        [feed] = home_operations(conn, [(follower, "token")])
    assert [arg for arg in feed.args if public in str(arg)]
    assert not [arg for arg in feed.args if sold in str(arg)]
