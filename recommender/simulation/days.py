"""Many days of a two-sided market: cards dealt, looked at, liked; matches, tiredness and newcomers.

Each day everybody who has arrived is dealt a list of people they were never dealt. The card at rank r is looked at with
probability 1 / r; who looks likes with the true probability, times ``fatigue`` for each match of the last days; a like
returned on any day is a match. Policies know the estimates and what the platform saw: cards dealt, swiped and liked,
and matches. The draw that decides a look and a like belongs to the ordered pair, so that all policies meet the same
people in the same mood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.two_sided import gini
from recommender.simulation.markets import Market, estimated, standard

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Lists = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rules:
    """The market's habits."""

    people: int = 1000
    """A side."""
    days: int = 30
    cards: int = 20
    """A day and person."""
    fatigue: float = 0.9
    """Factor on the probability of a like, for each match of the last ``fatigue_days`` days."""
    fatigue_days: int = 3
    noise: float = 0.5
    """Standard deviation of the estimates' log-odds around the truth."""
    newcomers: float = 0.0
    """Share of each side that arrives, without history, on a day drawn evenly from all but the last five."""
    market: Callable[[int, int], Market] = standard


@dataclass(frozen=True, slots=True)
class Side:
    """One side (n people) towards the other (m), as the platform knows it. Read only."""

    estimates: Floats
    """(n, m): probability that the row likes the column."""
    dealt: Bools
    """(n, m): the row was given the column's card."""
    swiped: Bools
    """(n, m): the row looked at the card and decided."""
    liked: Bools
    """(n, m): the row decided for the column."""
    present: Bools
    """(n,): arrived."""
    newcomer: Bools
    """(n,): arrived, or will, without history."""
    recent_matches: NDArray[np.int64]
    """(n,): in the last ``fatigue_days`` days."""


@dataclass(frozen=True, slots=True)
class View:
    """A morning."""

    day: int
    cards: int
    left: Side
    right: Side


Policy = Callable[[View], tuple[Lists, Lists]]
"""What is dealt this morning: (n, cards) and (m, cards) int64 columns of the other side, best first, -1 for no card.
A person dealt earlier, not yet there, or twice on a list is a mistake of the policy and raises ValueError."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy came to."""

    matches: int
    by_day: list[int]
    gini_left: float
    """Of matches a person of the left; likewise right."""
    gini_right: float
    unmatched: float
    """Share of all people without a match."""
    first_matches: NDArray[np.int64]
    """(n + m,) matches of each person from their first ``first_cards`` cards, by the end of the day that dealt the last."""
    newcomer: Bools = field(repr=False)
    """(n + m,)."""
    daily: NDArray[np.int64] = field(repr=False)
    """(days, n + m) matches of each person, the left side first."""


@dataclass(slots=True)
class _Half:
    """The mutable truth of one side."""

    likes: Floats
    estimates: Floats
    looks: Floats
    moods: Floats
    dealt: Bools
    swiped: Bools
    liked: Bools
    arrival: NDArray[np.int64]
    newcomer: Bools
    matches: NDArray[np.int64]
    """(days, n)."""

    def seen_on(self, day: int, rules: Rules) -> Side:
        recent = self.matches[max(day - rules.fatigue_days, 0):day].sum(axis=0)
        return Side(
            _shown(self.estimates), _shown(self.dealt), _shown(self.swiped), _shown(self.liked),
            self.arrival <= day, _shown(self.newcomer), recent,
        )

    def deal(self, lists: Lists, there: Bools, day: int, rules: Rules) -> None:
        """Everybody present looks through their list. Raises ValueError: a list breaks the rules."""
        rows, ranks = np.nonzero(lists >= 0)
        columns = lists[rows, ranks]
        if lists.shape != (self.likes.shape[0], rules.cards):
            raise ValueError(f"lists of shape {lists.shape}")
        if self.dealt[rows, columns].any() or np.unique(rows * self.likes.shape[1] + columns).size != rows.size:
            raise ValueError("a card was dealt twice")
        if not (there[columns].all() and (self.arrival[rows] <= day).all()):
            raise ValueError("a card was dealt to or of somebody who is not there")
        recent = self.matches[max(day - rules.fatigue_days, 0):day].sum(axis=0)
        looked = self.looks[rows, columns] < 1 / (ranks + 1)
        wish = self.likes[rows, columns] * np.power(rules.fatigue, recent, dtype=np.float64)[rows]
        self.dealt[rows, columns] = True
        self.swiped[rows[looked], columns[looked]] = True
        keen = looked & (self.moods[rows, columns] < wish)
        self.liked[rows[keen], columns[keen]] = True


def simulated(policy: Policy, rules: Rules, seed: int, first_cards: int = 100) -> Result:
    """Live through ``rules.days`` days under one policy. The seed makes market, estimates, arrivals and draws."""
    left, right = _halves(rules, seed)
    matched = np.zeros(left.likes.shape, dtype=np.bool_)
    firsts = [_First(half.likes.shape, first_cards) for half in (left, right)]
    for day in range(rules.days):
        view = View(day, rules.cards, left.seen_on(day, rules), right.seen_on(day, rules))
        lists = policy(view)
        left.deal(lists[0], right.arrival <= day, day, rules)
        right.deal(lists[1], left.arrival <= day, day, rules)
        new = left.liked & right.liked.T & ~matched
        matched |= new
        left.matches[day], right.matches[day] = new.sum(axis=1), new.sum(axis=0)
        firsts[0].note(lists[0], matched)
        firsts[1].note(lists[1], matched.T)
    totals = left.matches.sum(axis=0), right.matches.sum(axis=0)
    people = totals[0].size + totals[1].size
    return Result(
        matches=int(matched.sum()),
        by_day=left.matches.sum(axis=1).tolist(),
        gini_left=gini(totals[0].astype(np.float64)),
        gini_right=gini(totals[1].astype(np.float64)),
        unmatched=float(((totals[0] == 0).sum() + (totals[1] == 0).sum()) / people) if people else 0.0,
        first_matches=np.concatenate([first.matches for first in firsts]),
        newcomer=np.concatenate((left.newcomer, right.newcomer)),
        daily=np.concatenate((left.matches, right.matches), axis=1),
    )


Shown = TypeVar("Shown", bound="NDArray[Any]")


def _shown(array: Shown) -> Shown:
    """The same memory, read only."""
    view = array.view()
    view.flags.writeable = False
    return view


class _First:
    """Counts each person's matches among their first cards until the last of these was dealt."""

    def __init__(self, shape: tuple[int, ...], cards: int) -> None:
        self._cards = cards
        self._dealt = np.zeros(shape[0], dtype=np.int64)
        self._among = np.zeros(shape, dtype=np.bool_)
        self.matches = np.zeros(shape[0], dtype=np.int64)

    def note(self, lists: Lists, matched: Bools) -> None:
        open_rows = self._dealt < self._cards
        place = self._dealt[:, None] + np.cumsum(lists >= 0, axis=1)
        rows, ranks = np.nonzero((lists >= 0) & (place <= self._cards) & open_rows[:, None])
        self._among[rows, lists[rows, ranks]] = True
        self._dealt += (lists >= 0).sum(axis=1)
        self.matches[open_rows] = (matched & self._among).sum(axis=1)[open_rows]


def _halves(rules: Rules, seed: int) -> tuple[_Half, _Half]:
    rng = np.random.default_rng([seed, 1])
    truth = rules.market(rules.people, seed)
    believed = estimated(truth, rules.noise, int(rng.integers(2**32)))
    arrivals = []
    for _ in range(2):
        new = rng.random(rules.people) < rules.newcomers
        days = rng.integers(1, max(rules.days - 5, 2), rules.people)
        arrivals.append((new, np.where(new, days, 0)))
    estimates = without_history(believed, arrivals[0][0], arrivals[1][0])
    halves = []
    for likes, guess, (new, days) in zip((truth.left, truth.right), (estimates.left, estimates.right), arrivals, strict=True):
        halves.append(_Half(
            likes, guess,
            looks=rng.random(likes.shape, dtype=np.float32), moods=rng.random(likes.shape, dtype=np.float32),
            dealt=np.zeros(likes.shape, dtype=np.bool_), swiped=np.zeros(likes.shape, dtype=np.bool_),
            liked=np.zeros(likes.shape, dtype=np.bool_), arrival=days, newcomer=new,
            matches=np.zeros((rules.days, likes.shape[0]), dtype=np.int64),
        ))
    return halves[0], halves[1]


def without_history(believed: Market, left: Bools, right: Bools) -> Market:
    """Estimates once those marked have no history: their taste is the others' mean, and so is how they are liked.

    What the row thinks of a newcomer is the row's mean over the others; what a newcomer thinks of a column is the
    column's mean over the others; between two newcomers it is the mean of all; 0.5 where nobody has a history.
    """
    return Market(_unknown(believed.left, left, right), _unknown(believed.right, right, left))


def _unknown(likes: Floats, rows: Bools, columns: Bools) -> Floats:
    if not (rows.any() or columns.any()):
        return likes
    if rows.all() or columns.all():
        return np.full_like(likes, 0.5)
    known = likes[np.ix_(~rows, ~columns)]
    filled = likes.copy()
    filled[np.ix_(~rows, columns)] = known.mean(axis=1, keepdims=True)
    filled[np.ix_(rows, ~columns)] = known.mean(axis=0, keepdims=True)
    filled[np.ix_(rows, columns)] = known.mean()
    return filled
