"""A post is created once, never shown before its media were approved, and never comes back, whatever is lost and repeated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.posts.commands import NoPost, PostRefused, RemovePost, WritePost, Written
from actors.posts.state import PostMemory
from configs.contracts.content import PostRecord, post_after
from configs.contracts.events import ContentPublished, ContentRemoved, ContentRestored, Event, PostAccess
from configs.contracts.ids import derived_id, new_id
from configs.contracts.positions import version_of

CREATOR = new_id()
POSTS = [new_id(), new_id()]
MEDIA = [(), (new_id(),), (new_id(), new_id())]
ACCESS = [
    None, PostAccess(visibility="public"), PostAccess(visibility="subscribers"),
    PostAccess(visibility="ppv", price_minor=500, currency="USD"),
    PostAccess(visibility="tier_specific", required_tier_id=new_id(), required_rank=2),
]
RECIPIENT = new_id()
STATES = st.sampled_from([None, "draft", "scheduled", "published", "unlisted"])
POST = st.sampled_from(POSTS)


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> PostRecord | None:
    row: PostRecord | None = None
    for event, version in committed:
        if f"{event.payload.creator_id}/{event.payload.post_id}" == key:
            row = post_after(row, event, version)
    return row


class Posts(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(PostMemory, rows_of)
        self.digests: dict[str, str] = {}
        self.recipients: dict[str, str | None] = {}
        """Post -> who alone was to find it when it was created."""
        self.approved: set[str] = set()
        """Media that somebody has told a shard to be approved."""
        self.removed: set[str] = set()
        self.sold: dict[str, tuple[str, ...]] = {}
        """Post that was on sale -> what was sold."""

    def row(self, post_id: str) -> PostRecord | None:
        return rows_of(f"{CREATOR}/{post_id}", self.shard.log, self.shard.now)

    @rule(
        post=POST, create=st.booleans(), media=st.sampled_from([None, *MEDIA]), access=st.sampled_from(ACCESS),
        state=STATES, approve=st.booleans(), digest=st.sampled_from("ab"), crash=st.booleans(),
        recipient=st.sampled_from([None, None, RECIPIENT]),
    )
    def write(
        self, post: str, create: bool, media: Any, access: Any, state: Any, approve: bool, digest: str, crash: bool,
        recipient: str | None,
    ) -> None:
        before = self.row(post)
        approved = sum(MEDIA, ()) if approve else ()
        self.approved |= set(approved)
        command = WritePost(
            creator_id=CREATOR, post_id=post, create=create, content_type="image" if media else None, caption="words",
            media_ids=media, access=access, state=state, approved_media=approved,
            scheduled_at=self.shard.now if state == "scheduled" else None, request_digest=digest if create else None,
            recipient_id=recipient,
        )
        records = len(self.shard.log)
        if crash:
            self.shard.ask_and_crash(command)
        answer = None if crash else self.shard.ask(command)
        assert len(self.shard.log) <= records + 1
        if not create and (before is None or before.state == "removed"):
            assert crash or answer == NoPost()
            return
        if create and before is not None:
            assert len(self.shard.log) == records
            same = self.digests[post] == digest
            assert crash or (answer == Written(before, recorded=False) if same else answer == PostRefused("idempotency_conflict"))
            return
        if create and len(self.shard.log) > records:
            self.digests[post] = digest
            self.recipients[post] = recipient
        if isinstance(answer, Written):
            assert answer.record == self.row(post)

    @rule(post=POST, by=st.sampled_from(["creator", "moderation"]), crash=st.booleans())
    def remove(self, post: str, by: Any, crash: bool) -> None:
        before = self.row(post)
        command = RemovePost(CREATOR, post, by, new_id() if by == "moderation" else None)
        answer = None if crash else self.shard.ask(command)
        if crash:
            self.shard.ask_and_crash(command)
        after = self.row(post)
        if before is None:
            assert after is None
        elif before.state == "removed":
            assert answer in (None, NoPost())
        elif by == "creator" and before.sold:
            assert after is not None
            assert (after.state, after.media_ids) == ("unlisted", before.media_ids)
        else:
            assert after is not None
            assert after.state == "removed"
            self.removed.add(post)

    @rule(post=POST)
    def moderation_removes_past_the_shard(self, post: str) -> None:
        """A consumer appends it to the same partition; the shard learns of it from its tail."""
        if self.row(post) is None:
            return
        self.elsewhere(post, ContentRemoved(post_id=post, creator_id=CREATOR, reason="moderation", decision_id=new_id()))
        self.removed.add(post)

    @rule(post=POST)
    def its_creators_account_is_erased(self, post: str) -> None:
        """Nothing brings it back then, and the memory has none of its words, not even those of its history."""
        if self.row(post) is None:
            return
        loaded = self.shard.memory.known(f"{CREATOR}/{post}")
        self.elsewhere(post, ContentRemoved(post_id=post, creator_id=CREATOR, reason="account_deleted"))
        row = self.row(post)
        assert row is not None
        assert (row.state, row.caption, row.removed_by, row.removed_from) == ("removed", "", None, None)
        held = self.shard.memory._posts.get(f"{CREATOR}/{post}")
        assert not loaded or (held is not None and held.events == [] and held.base == row)
        self.removed.add(post)

    @rule(post=POST, which=st.integers(0, 2))
    def a_decision_that_removed_it_is_reversed(self, post: str, which: int) -> None:
        """After the last one it is as it was; the reversal of any other, or of what its creator removed, says nothing."""
        row = self.row(post)
        if row is None:
            return
        standing = [] if row.removed_by is None else [row.removed_by, *row.also_removed_by]
        decision = standing.pop(which) if which < len(standing) else new_id()
        known = decision in (row.removed_by, *row.also_removed_by)
        self.elsewhere(post, ContentRestored(post_id=post, creator_id=CREATOR, decision_id=decision))
        after = self.row(post)
        assert after is not None
        if known and standing:
            assert (after.state, after.removed_from) == ("removed", row.removed_from)
            assert [after.removed_by, *after.also_removed_by] == standing
        elif known:
            assert row.removed_from is not None
            assert (after.state, after.review, after.removed_by) == (*row.removed_from, None)
            assert (after.media_ids, after.caption, after.published_at) == (row.media_ids, row.caption, row.published_at)
            self.removed.discard(post)
        else:
            assert after == row

    @rule(post=POST, stale=st.booleans())
    def what_was_scheduled_is_published(self, post: str, stale: bool) -> None:
        """A consumer publishes it when it is due and its media are approved; of a schedule that was changed since, nothing."""
        row = self.row(post)
        if row is None or not set(row.media_ids) <= self.approved:
            return
        schedule = row.schedule_id if row.schedule_id is not None and not stale else new_id()
        self.elsewhere(post, ContentPublished(post_id=post, creator_id=CREATOR, schedule_id=schedule))
        after = self.row(post)
        assert after is not None
        assert (after.state == "published") == (row.state == "published" or (row.state == "scheduled" and not stale))

    def elsewhere(self, post: str, payload: Any) -> None:
        event = Event(derived_id(new_id(), "elsewhere"), self.shard.now, CREATOR, payload)
        self.shard.log.append((event, version_of(1, len(self.shard.log))))
        self.shard.memory.apply(*self.shard.log[-1])

    @rule(seconds=st.sampled_from([1, 600]))
    def pass_time(self, seconds: int) -> None:
        self.shard.pass_time(seconds)

    @invariant()
    def nothing_is_shown_that_was_not_approved(self) -> None:
        for post in POSTS:
            row = self.row(post)
            if row is not None and row.exists:
                assert set(row.media_ids) <= self.approved
                assert row.published_at is not None

    @invariant()
    def what_one_person_alone_may_find_is_never_anybody_elses_nor_free(self) -> None:
        for post, recipient in self.recipients.items():
            row = self.row(post)
            assert row is not None
            assert row.recipient_id == recipient
            if recipient is not None:
                assert not row.listed
                assert not row.found_by(new_id())
                assert not row.exists or row.visibility == "ppv"

    @invariant()
    def what_was_removed_stays_removed(self) -> None:
        for post in self.removed:
            row = self.row(post)
            assert row is not None
            assert row.state == "removed"

    @invariant()
    def what_was_sold_stays_as_it_was_sold(self) -> None:
        for post in POSTS:
            row = self.row(post)
            if row is not None and row.sold and post not in self.sold:
                self.sold[post] = row.media_ids
        for post, media in self.sold.items():
            row = self.row(post)
            assert row is not None
            assert (row.media_ids, row.visibility, row.sold) == (media, "ppv", True)


TestPosts = Posts.TestCase
TestPosts.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
