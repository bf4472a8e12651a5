"""Pictures from all over a video for block lists and the classifier, however long it turns out to be. In the decoding child only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, NamedTuple

from writers.media.pictures import hashes, sample

KEPT: Final = 32
"""Pictures of one video at most; of one that is longer than two seconds and moves, at least half as many."""
FIRST_STEP_S: Final = 1 / 16
"""A power of two, so that multiples of it are exact."""
SAMPLES: Final = 8
"""Pictures that the classifier gets beside the poster."""


class Seen(NamedTuple):
    """A picture that was on screen from one second to another."""

    start_s: float
    end_s: float
    own: list[str]
    asked: list[str]
    sample: str


class Sampling:
    """Keeps the pictures that are on screen at the multiples of a step; past KEPT of them the step doubles.

    So they are spread over what was decoded, whatever length the container announces.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._step_s = FIRST_STEP_S
        self._taken = 0
        self.kept: list[Seen] = []

    def wants(self, start_s: float, end_s: float) -> bool:
        """Whether what is on screen between these seconds is to be seen."""
        return math.ceil(start_s / self._step_s) * self._step_s < end_s

    def see(self, image: Any, start_s: float, end_s: float) -> None:
        """Hashes the picture and writes it for the classifier; pictures between others may go."""
        self._taken += 1
        name = f"sample-{self._taken}.jpg"
        sample(image, self._out / name)
        self.kept.append(Seen(start_s, end_s, *hashes(image, crops=False), name))
        while len(self.kept) > KEPT:
            self._step_s *= 2
            kept = [seen for seen in self.kept if self.wants(seen.start_s, seen.end_s)]
            for seen in set(self._names()) - {each.sample for each in kept}:
                (self._out / seen).unlink()
            self.kept = kept

    def samples(self) -> list[str]:
        """Names of the pictures for the classifier, evenly over the whole, the first and the last among them."""
        names = self._names()
        if len(names) <= SAMPLES:
            return names
        return [names[number * (len(names) - 1) // (SAMPLES - 1)] for number in range(SAMPLES)]

    def _names(self) -> list[str]:
        return [seen.sample for seen in self.kept]
