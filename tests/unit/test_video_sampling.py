"""A video is looked at all over, whatever length it announces."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from media_world import recording, scene, with_duration
from PIL import Image
from test_media_processing import Bench, accepted, listed

from configs.contracts.events import MediaRejected
from writers.media.classifying import HumanReview, Verdict
from writers.media.sampling import KEPT, Sampling

SCENES = 5
"""Of a recording of 10 seconds."""


class Noticing(HumanReview):
    """A classifier that notes which scenes it gets to see."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.count = 0

    def judge(self, samples: Sequence[Path]) -> Verdict:
        self.count = len(samples)
        for path in samples:
            small = np.asarray(Image.open(path).convert("RGB").resize((160, 120))).astype(int)
            self.seen.add(min(range(SCENES), key=lambda seed: abs(small - scene(seed)).mean()))
        return super().judge(samples)


def of_scene(bench: Bench, seed: int) -> tuple[str, ...]:
    """The hashes that stand for a scene on a block list."""
    buffer = io.BytesIO()
    Image.fromarray(scene(seed)).save(buffer, "PNG")
    return accepted(bench.process(buffer.getvalue(), content_type="image/png")).hashes


@pytest.mark.parametrize("announced_s", [None, 1, 10], ids=["no duration", "a false one", "its own"])
def test_a_video_is_looked_at_all_over_whatever_length_it_announces(tmp_path: Path, announced_s: float | None) -> None:
    import av

    bench, noticing = Bench(tmp_path, video_seconds=30), Noticing()
    bench.processing._classifier = noticing
    content = recording([2.0] * SCENES)
    if announced_s is not None:
        content = with_duration(content, announced_s)
    with av.open(io.BytesIO(content)) as container:
        assert container.duration == (None if announced_s is None else announced_s * 1_000_000)
    try:
        outcome = accepted(bench.process(content, "video", "video/webm"))
        assert abs(outcome.duration_ms - 10_000) < 200
        assert SCENES <= len(outcome.hashes) <= 33
        assert (noticing.seen, noticing.count) == (set(range(SCENES)), 9)
        for seed in range(SCENES):
            match = listed("removed", outcome.hashes).match(of_scene(bench, seed))
            assert match is not None, f"scene {seed} goes on the block list with its video"
        refused = bench.process(content, "video", "video/webm", lists=listed("removed", of_scene(bench, SCENES - 1)[:1]))
        assert isinstance(refused, MediaRejected), "the last scene is not found on the block list"
        assert refused.reason == "blocked"
    finally:
        bench.processing.close()


def seen(tmp_path: Path, lengths_s: Sequence[float]) -> Sampling:
    """What is kept of pictures that are on screen one after the other for so long."""
    import pyvips

    sampling, start_s = Sampling(tmp_path), 0.0
    for seed, length_s in enumerate(lengths_s):
        if sampling.wants(start_s, start_s + length_s):
            sampling.see(pyvips.Image.new_from_array(scene(seed)).copy(interpretation="srgb"), start_s, start_s + length_s)
        start_s += length_s
    assert {path.name for path in tmp_path.glob("*.jpg")} == {each.sample for each in sampling.kept}
    return sampling


@pytest.mark.parametrize("length_s", [0.5, 3, 50])
def test_pictures_are_few_and_evenly_spread_over_any_length(tmp_path: Path, length_s: float) -> None:
    sampling = seen(tmp_path, [1 / 16] * int(16 * length_s))
    starts = [each.start_s for each in sampling.kept]
    assert min(length_s * 16, KEPT / 2) <= len(starts) <= KEPT
    steps = {after - before for before, after in itertools.pairwise(starts)}
    assert len(steps) == 1
    assert starts[0] == 0
    assert length_s - starts[-1] <= steps.pop()
    names = sampling.samples()
    assert (names[0], names[-1], len(names)) == (sampling.kept[0].sample, sampling.kept[-1].sample, min(8, len(starts)))


def test_a_still_that_is_on_screen_for_long_is_never_dropped(tmp_path: Path) -> None:
    """Not even if it comes between two looks, among many pictures that are on screen for a moment."""
    flicker = [1 / 32] * 400
    sampling = seen(tmp_path, [*flicker, 20.0, *flicker, *flicker])
    assert (400 / 32, 400 / 32 + 20) in [(each.start_s, each.end_s) for each in sampling.kept]
