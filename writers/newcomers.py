"""Consumers that an older platform did not have: they begin where its rows are, not at a past that may be gone."""

from __future__ import annotations

from cluster.connections.postgres import translated
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers.feeds import TOPICS as FEEDS_FROM
from writers.consumers.feeds import Feeds
from writers.consumers.likes import TOPICS as LIKES_FROM
from writers.consumers.likes import Likes
from writers.consumers.media import KINDS, consumer_of
from writers.consumers.media import TOPICS as MEDIA_FROM
from writers.loads.log import ROWS
from writers.positions import begin
from writers.push.consumer import TOPICS as PUSHED_FROM
from writers.push.consumer import consumers_of


def begin_new(settings: Settings) -> None:
    """Gives new consumers their positions; while no writer runs. Raises DependencyUnavailable."""
    with open_rows(settings, "prepare") as conn, translated():
        begin(conn, Likes.consumer, ROWS, [topic.name for topic in LIKES_FROM])
        begin(conn, Feeds.consumer, ROWS, [topic.name for topic in FEEDS_FROM])
        for kind in KINDS:
            begin(conn, consumer_of(kind), ROWS, [topic.name for topic in MEDIA_FROM])
        for provider in consumers_of(settings):
            begin(conn, f"push_{provider}", ROWS, [topic.name for topic in PUSHED_FROM])
