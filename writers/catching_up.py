"""Waiting until the rows hold everything that was appended, and what follows from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cluster.connections.kafka import barrier
from cluster.connections.postgres import translated
from configs.contracts import topics
from configs.contracts.topics import TOPICS, Topic
from configs.settings import Settings
from writers.appending import ThreadAppender
from writers.connections import open_rows
from writers.consumers.derive import TOPICS as DERIVED_FROM
from writers.consumers.likes import TOPICS as LIKES_FROM
from writers.loads.log import ROWS, positions
from writers.positions import stopped

Progress = Callable[[str, int, int], None]
"""(what is being done, how many are done, of how many)."""

DERIVE: Final = "derive"
LIKES: Final = "likes"
DERIVED: Final = (topics.USER_CREATED, topics.USER_UPDATED, topics.AUTH_IDENTITIES, topics.AUTH_SESSIONS,
    topics.NOTIFICATION_SEND, topics.NOTIFICATION_DEVICES, topics.NOTIFICATION_MAIL,
    topics.SUBSCRIPTION_CREATED)
"""Topics of the events that the consumers ``derive`` and ``likes`` append."""
POLL_S: Final = 0.05


def catch_up(
    settings: Settings, stopping: threading.Event, progress: Progress | None = None, *, likes: bool = False,
    without_stopped: bool = False,
) -> bool:
    """Returns True once everything acknowledged before the call, and what follows from it, is in rows.

    A reported end of the log may be old, so barriers are appended and waited for. Waits without limit for writers that
    are away; False: ``stopping`` was set. ``likes``: also what people are told of likes, which may take seconds.
    ``without_stopped``: but for topics of which too many records could not be applied, whose rows go no further until a
    restart. Raises DependencyUnavailable: a server does not answer.
    """
    readers: dict[str, Sequence[Topic]] = {ROWS: TOPICS, DERIVE: DERIVED_FROM}
    if likes:
        readers[LIKES] = LIKES_FROM
    return (
        _pass_barriers(settings, TOPICS, readers, stopping, progress, without_stopped)
        and _pass_barriers(settings, DERIVED, {ROWS: DERIVED}, stopping, progress, without_stopped)
    )


def taken_in(settings: Settings, readers: Mapping[str, Sequence[Topic]], stopping: threading.Event) -> bool:
    """Returns True once these consumers have everything of their topics that was appended before the call, but for topics of which
    too many records could not be applied; False: ``stopping`` was set. Raises DependencyUnavailable: a server does not answer.
    """
    return _pass_barriers(settings, TOPICS, readers, stopping, None, without_stopped=True)


def _pass_barriers(
    settings: Settings, into: Sequence[Topic], readers: Mapping[str, Sequence[Topic]], stopping: threading.Event,
    progress: Progress | None, without_stopped: bool,
) -> bool:
    """Appends a barrier to each partition of some topics and waits until their readers are behind it."""
    places = [(topic.name, partition) for topic in into for partition in range(settings.log.partitions)]
    appender = ThreadAppender(settings, "read-model")
    try:
        offsets = dict(zip(places, appender.append([barrier(*place) for place in places]), strict=True))
    finally:
        appender.close()
    names = {consumer: [topic.name for topic in followed] for consumer, followed in readers.items()}
    missing = {
        (consumer, place): offset
        for consumer, followed in names.items() for place, offset in offsets.items() if place[0] in followed
    }
    total = len(missing)
    with open_rows(settings, "read-model") as conn, translated():
        while missing and not stopping.is_set():
            reached = {consumer: positions(conn, settings, followed, consumer) for consumer, followed in names.items()}
            left_out = stopped(conn, ROWS) if without_stopped else set()
            missing = {
                (consumer, place): offset for (consumer, place), offset in missing.items()
                if reached[consumer][place[0]][place[1]] <= offset and place not in left_out
            }
            if progress is not None:
                progress("log", total - len(missing), total)
            if missing:
                stopping.wait(POLL_S)
    return not missing
