"""What a soak asks for: the design's mix, requests that nobody made before."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from cluster.launch.bench import measure, requests
from configs.settings import Settings

MIX: Final = ("swipe",) * 10 + ("cards",) * 5 + ("message",) * 8 + ("feed",) * 4
"""The design's requests a second with 100,000 people online, in thousands."""
COUPLES: Final = 200
MOST_ACTIVE: Final = 8.0
"""Times as much as those who do least do those who do most, and as often they are swiped. People who all swipe at one pace would let
each of their lists and tables grow in the same minute."""
AT_ONCE: Final = 10_000
"""Pairs that are laid out as Python's numbers."""


class Load:
    """Requests of the mix, of new pairs and messages each time, under tokens that are made when they are asked for."""

    def __init__(self, settings: Settings, ids: Sequence[str]) -> None:
        self._settings = settings
        self.ids = ids
        self._begun = int(time.time())
        self._taken = 0
        self._pairs = self._distinct(np.random.default_rng(self._begun))
        likes = requests.mutual_likes(requests.callers(settings, ids[: 2 * COUPLES]))
        for side in (likes[:COUPLES], likes[COUPLES:]):
            measure.generate(settings.port, side, rate=200, seconds=COUPLES / 200, connections=16)

    def _distinct(self, chooser: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Places of (swiper, swiped), each once, drawn in proportion to how active the two are. Couples do not swipe: a pass would end
        their match.

        In the second half of all pairs each is the reverse of one before, so that likes begin to be mutual. The order is that of
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006).
        """
        people = len(self.ids) - 2 * COUPLES
        active = MOST_ACTIVE ** chooser.random(people)
        one, other = (side.astype(np.uint16) for side in np.triu_indices(people, 1))
        order = np.argsort(chooser.standard_exponential(len(one)) / (active[one] * active[other]))
        turned = chooser.random(len(one)) < 0.5
        while True:
            for begin in range(0, len(order), AT_ONCE):
                chosen = order[begin : begin + AT_ONCE]
                swiper = np.where(turned[chosen], other[chosen], one[chosen]).astype(int) + 2 * COUPLES
                swiped = np.where(turned[chosen], one[chosen], other[chosen]).astype(int) + 2 * COUPLES
                yield from zip(swiper.tolist(), swiped.tolist(), strict=True)
            turned = ~turned

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
