"""Who may get a media by its id. What is shown inside posts and messages is decided there, by their own rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from configs.contracts.media import MediaRecord
from serve_apps.dependencies import Dependencies

Opens = Callable[[Dependencies, str, MediaRecord], Awaitable[bool]]
"""Whether (dependencies, viewer, published media) opens the whole media to the viewer."""


async def profile_photo(dependencies: Dependencies, viewer_id: str, record: MediaRecord) -> bool:
    """Photos of a profile are for everybody who sees the profile."""
    owner = await dependencies.people.visible(viewer_id, record.owner_id)
    return owner is not None and record.media_id in owner.photos


async def open_post(dependencies: Dependencies, viewer_id: str, record: MediaRecord) -> bool:
    """Whoever a post is open to gets its media, of a post in a message too."""
    return await dependencies.contents.opens(viewer_id, record.media_id, record.owner_id)


OPENS: Final[tuple[Opens, ...]] = (profile_photo, open_post)
"""Any of them is enough."""


async def opens(dependencies: Dependencies, viewer_id: str, record: MediaRecord) -> bool:
    """Whether the viewer may get the whole media. Its owner may as soon as it is ready; others once it is published."""
    if record.state != "ready":
        return False
    if record.owner_id == viewer_id:
        return True
    if not record.published:
        return False
    for rule in OPENS:
        if await rule(dependencies, viewer_id, record):
            return True
    return False
