"""What a soak asks for: the design's mix, requests that nobody made before."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from typing import Final

from cluster.launch.bench import measure, requests
from configs.settings import Settings

MIX: Final = ("swipe",) * 10 + ("cards",) * 5 + ("message",) * 8 + ("feed",) * 4
"""The design's requests a second with 100,000 people online, in thousands."""
COUPLES: Final = 200


class Load:
    """Requests of the mix, of new pairs and messages each time, under tokens that are made when they are asked for."""

    def __init__(self, settings: Settings, ids: Sequence[str]) -> None:
        self._settings = settings
        self.ids = ids
        self._begun = int(time.time())
        self._taken = 0
        self._pairs = self._distinct(random.Random(self._begun))  # noqa: S311  only an order
        likes = requests.mutual_likes(requests.callers(settings, ids[: 2 * COUPLES]))
        for side in (likes[:COUPLES], likes[COUPLES:]):
            measure.generate(settings.port, side, rate=200, seconds=COUPLES / 200, connections=16)

    def _distinct(self, chooser: random.Random) -> Iterator[tuple[int, int]]:
        """Places of (swiper, swiped); the swiper changes each time. Couples do not swipe: a pass would end their match.

        In the second half of all pairs each is the reverse of one before, so that likes begin to be mutual.
        """
        order = list(range(2 * COUPLES, len(self.ids)))
        chooser.shuffle(order)
        for step in itertools.count():
            for place, swiper in enumerate(order):
                yield swiper, order[(place + 1 + step % (len(order) - 1)) % len(order)]

    def take(self, count: int) -> list[bytes]:
        people = requests.callers(self._settings, self.ids)
        kinds = [MIX[(number * 10) % len(MIX)] for number in range(self._taken, self._taken + count)]
        said = iter(requests.messages(people[: 2 * COUPLES], kinds.count("message"), seed=self._begun + self._taken))
        shown = iter(requests.cards(people, kinds.count("cards"), kind="warm"))
        made = []
        for number, kind in enumerate(kinds):
            if kind == "swipe":
                swiper, swiped = next(self._pairs)
                made.append(requests.raw("POST", "/api/v1/matching/swipe", token=people[swiper].token, body={
                    "targetUserId": people[swiped].user_id, "action": "like" if number % 2 else "pass",
                }))
            elif kind == "feed":
                made.append(requests.raw("GET", "/api/v1/content/feed", token=people[number % len(people)].token))
            else:
                made.append(next(said if kind == "message" else shown))
        self._taken += count
        return made
