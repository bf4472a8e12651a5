"""Nobody is shown a person whom they have swiped, whatever is killed meanwhile; at full size: ``tests/no_repeat.py``."""

from __future__ import annotations

import pytest
from no_repeat import run


@pytest.mark.parametrize("seed", [3, 4])
def test_nobody_swiped_is_shown_again_over_kills_undos_and_concurrent_requests(seed: int) -> None:
    report = run(viewers=4, people=3_200, swipes=12_000, seed=seed)
    assert report.repeats == []
    assert report.hidden == 0
    assert report.swipes >= 12_000
    # It was no walk in the park: each of these has happened.
    assert min(report.swipe_kills, report.card_kills, report.undos, report.refused) > 0
    assert min(report.told_whole, report.told_changes) > 0
