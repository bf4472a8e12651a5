"""What a member of a conversation may see of the media that its messages name."""

from __future__ import annotations

from collections.abc import Iterable

from configs.contracts.adults import may_see_explicit
from configs.contracts.conversations import MessageEntry
from serve_apps.dependencies import Dependencies
from serve_apps.media.urls import MediaView


async def attached(dependencies: Dependencies, viewer_id: str, entries: Iterable[MessageEntry]) -> dict[str, MediaView]:
    """By media, with signed URLs: one's own once ready, the other's once approved, to who may see explicit content.

    The viewer takes part in the conversations of these messages.
    """
    names = list(dict.fromkeys(name for entry in entries for name in entry.attachments))
    if not names:
        return {}
    records = await dependencies.media_records.of(names)
    viewer = (await dependencies.people.records((viewer_id,))).get(viewer_id)
    adult = viewer is not None and may_see_explicit(viewer)
    return {
        name: dependencies.media_urls.full(record) for name, record in records.items()
        if (record.owner_id == viewer_id and record.state == "ready") or (adult and record.published)
    }
