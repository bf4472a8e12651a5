"""A post's record decides by itself who can find it and buy it."""

from __future__ import annotations

import msgspec
import pytest

from configs.contracts.content import PostRecord, PostReview, PostState, put_post, read_post
from configs.contracts.ids import new_id

PPV = PostRecord(
    post_id=new_id(), creator_id=new_id(), content_type="image", visibility="ppv", price_minor=999, currency="USD",
    state="published", review="approved", published_at="2026-03-01T12:00:00.000Z", version=7,
)


def test_a_record_survives_the_read_model() -> None:
    value = "".join(part if isinstance(part, str) else part.decode() for part in put_post(PPV).args[:2])  # type: ignore[union-attr]
    assert read_post(value.encode()) == PPV


@pytest.mark.parametrize("state", ["draft", "scheduled", "published", "unlisted", "removed"])
@pytest.mark.parametrize("review", ["pending", "approved", "rejected"])
def test_only_what_is_published_and_approved_is_found_or_sold(state: PostState, review: PostReview) -> None:
    """A missing review, or a state that somebody adds later, must hide the post, never show it."""
    record = msgspec.structs.replace(PPV, state=state, review=review)
    assert record.listed == record.for_sale == (state == "published" and review == "approved")
    assert record.exists == (state in ("published", "unlisted") and review == "approved")


def test_only_ppv_posts_with_a_price_are_for_sale() -> None:
    assert not msgspec.structs.replace(PPV, price_minor=0).for_sale
    assert not msgspec.structs.replace(PPV, visibility="subscribers").for_sale
