"""How posts look to viewers: JSON made once of a post for each kind of access, and used again while nothing changes."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import Final, NamedTuple

from configs.contracts.albums import read_media
from configs.contracts.content import PostRecord
from configs.contracts.ids import derived_id
from configs.contracts.media import MediaRecord
from configs.contracts.money import format_amount
from configs.contracts.read_model import UserRecord
from serve_apps.content.models import CreatorView, PostView, PriceView
from serve_apps.content.reading import Seen, Shown
from serve_apps.media.urls import MediaUrls, MediaView

KEPT: Final = 8_192
"""Rendered posts that one replica keeps, some 2 KB each; past it the one made first is forgotten."""
COUNTED: Final = frozenset(("like_count", "comment_count", "liked"))
"""Last in ``PostView``, and different from one answer to the next."""
RENEWED_S: Final = 60.0
"""URLs live for 5 minutes at least; a rendered post is used again for one."""


class _Rendered(NamedTuple):
    raw: bytes
    media: tuple[bytes | None, ...]
    face: tuple[str, str | None, bool]
    until_s: float
    text: bytes


class Rendering:
    """Renders posts. Full text and media are looked at only where the access is open."""

    def __init__(self, urls: MediaUrls) -> None:
        self._urls = urls
        self._known: dict[tuple[str, Shown, bool], _Rendered] = {}
        self.made = 0

    def json(self, seen: Seen) -> bytes:
        """``view`` as JSON."""
        now_s = time()
        name = (seen.record.post_id, seen.access, seen.own)
        face = (seen.creator.display_name, self.avatar(seen.creator), seen.creator.verified)
        known = self._known.get(name)
        if known is None or known.raw != seen.raw or known.media != seen.media or known.face != face or known.until_s < now_s:
            self.made += 1
            text = self.view(seen).model_dump_json(by_alias=True, exclude=set(COUNTED)).encode()[:-1]
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            known = self._known[name] = _Rendered(seen.raw, seen.media, face, now_s + RENEWED_S, text)
        liked = b"true" if seen.liked else b"false"
        return b'%b,"likeCount":%d,"commentCount":%d,"liked":%b}' % (known.text, seen.likes, seen.comments, liked)

    def view(self, seen: Seen) -> PostView:
        """The post as its viewer may see it."""
        record, opened = seen.record, seen.access == "open"
        return PostView(
            post_id=record.post_id,
            creator=self.creator(seen.creator),
            content_type=record.content_type,
            visibility=record.visibility,
            access=seen.access,
            caption=record.caption if opened else None,
            media=self._media(seen.media, opened=opened, own=seen.own),
            media_count=len(record.media_ids),
            required_tier_id=record.required_tier_id,
            price=_price(record),
            published_at=_at(record.published_at),
            state=record.state if seen.own else None,
            scheduled_at=_at(record.scheduled_at) if seen.own else None,
            direct=record.recipient_id is not None,
            like_count=seen.likes,
            comment_count=seen.comments,
            liked=seen.liked,
        )

    def _media(self, values: tuple[bytes | None, ...], *, opened: bool, own: bool) -> list[MediaView]:
        """What passed the moderation, or is one's own; what did not, or is not known, is not there."""
        shown: list[MediaView] = []
        for value in values:
            media: MediaRecord | None = None if value is None else read_media(value)
            if media is None or media.state != "ready" or not (own or media.published):
                continue
            if opened:
                shown.append(self._urls.full(media))
            else:
                # The name of the preview instead of that of the media, from which keys are made.
                shown.append(self._urls.preview(media).model_copy(update={"media_id": derived_id(media.media_id, "preview")}))
        return shown

    def creator(self, record: UserRecord) -> CreatorView:
        return CreatorView(
            user_id=record.user_id, display_name=record.display_name, avatar_url=self.avatar(record), verified=record.verified
        )

    def avatar(self, record: UserRecord) -> str | None:
        return self._urls.avatar(record.photos)


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _price(record: PostRecord) -> PriceView | None:
    if record.visibility != "ppv":
        return None
    return PriceView(amount=format_amount(record.price_minor, record.currency), currency=record.currency)
