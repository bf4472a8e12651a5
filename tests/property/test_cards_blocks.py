"""Grouped rows hold the same people as a plain dictionary, through growth, moves and compaction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.cards import blocks as module
from actors.cards.blocks import Blocks
from recommender.candidates import VACANT

GROUPS = 6


def check(blocks: Blocks, truth: dict[int, tuple[int, int]]) -> None:
    """``truth``: person -> (group, word). Also that whatever is not a person's place is vacant."""
    occupied = set()
    for person, (group, word) in truth.items():
        row = int(blocks.row_of[person])
        assert int(blocks.people[row]) == person
        assert int(blocks.words[row]) == word
        assert int(blocks.active_s[row]) == word + 1
        assert int(blocks.flags[row]) == person % 100
        assert blocks.starts[group] <= row < blocks.starts[group] + blocks.counts[group]
        occupied.add(row)
    assert len(occupied) == len(truth) == blocks.counts.sum()
    vacant = np.ones(blocks.flags.size, bool)
    vacant[sorted(occupied)] = False
    assert (blocks.flags[vacant] == VACANT).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["one", "many", "move", "compact"]), st.integers(0, GROUPS - 1),
                          st.integers(1, 60)), max_size=40))
def test_every_person_is_where_they_were_put(steps: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMPACT_PAST_ROWS", 16)
        blocks, truth = Blocks(), {}
        for key in (5, 3, 1, 0, 2, 4):
            blocks.add_group(key)
        for kind, group, number in steps:
            if kind == "one":
                person = len(truth)
                blocks.insert(person, group, number, person % 100, number + 1)
                truth[person] = group, number
            elif kind == "many":
                people = np.arange(len(truth), len(truth) + number)
                groups = (people * group) % GROUPS
                words = people.astype(np.uint64)
                blocks.insert_many(people, groups, words, (people % 100).astype(np.uint16), (people + 1).astype(np.uint32))
                truth |= {int(p): (int(g), int(p)) for p, g in zip(people, groups, strict=True)}
            elif kind == "move" and truth:
                person = number % len(truth)
                blocks.move(person, group)
                truth[person] = group, truth[person][1]
            elif kind == "compact":
                blocks.compact()
            check(blocks, truth)


def test_holes_do_not_outgrow_the_people() -> None:
    """Someone commuting between two cells for years must not fill the memory."""
    blocks = Blocks()
    for key in range(400):
        blocks.add_group(key)
    for person in range(2_000):
        blocks.insert(person, person % 400, person, person % 100, person + 1)
    for step in range(60_000):
        blocks.move(step % 2_000, step * 7 % 400)
    assert blocks.flags.size < 40_000
    assert blocks.counts.sum() == 2_000
