"""A/B tests in a two-sided market, beside the truth: arms share receivers, so that what one wins the other may lose.

The true effect compares two whole worlds, one a policy. A test has one world only: people, regions or days are split, and
the difference between the parts is the estimate (interference: Ha-Thuc et al., 2020; switchback: Bojinov et al., 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.simulation.days import Lists, Policy, Result, Rules, View, simulated
from recommender.simulation.markets import Market, standard

Bools = NDArray[np.bool_]

REGIONS: Final = 10
CROSSING: Final = 0.05
"""Share of people who also meet those of the next region."""


def regions_of(people: int) -> NDArray[np.int64]:
    """(people,) region of each person of a side, from 0."""
    return np.arange(people) % REGIONS


def regional(people: int, seed: int, make: Callable[[int, int], Market] = standard) -> Market:
    """A market where likes stay within a region, but for the few who reach the next one."""
    market = make(people, seed)
    rng = np.random.default_rng([seed, 5])
    where = regions_of(people)
    same = where[:, None] == where[None, :]
    reach = [
        (rng.random(people) < CROSSING)[:, None] & (where[None, :] == (where[:, None] + 1) % REGIONS) for _ in range(2)
    ]
    meet = same | reach[0] | reach[1].T
    return Market(np.where(meet, market.left, np.float32(0)), np.where(meet.T, market.right, np.float32(0)))


def hashed_arms(people: int, seed: int) -> Bools:
    """(people,) whether each is treated; half of them, by a generator in place of a hash of their ids."""
    return np.random.default_rng([seed, 6]).random(people) < 0.5


@dataclass(slots=True)
class Split:
    """A policy in which each person is dealt by the arm they are in today."""

    treatment: Policy
    control: Policy
    treated: Callable[[int], tuple[Bools, Bools]]
    """Day -> (n,) and (m,): who is treated."""

    def __call__(self, view: View) -> tuple[Lists, Lists]:
        new, old = self.treatment(view), self.control(view)
        left, right = self.treated(view.day)
        return np.where(left[:, None], new[0], old[0]), np.where(right[:, None], new[1], old[1])


def true_effect(treatment: Policy, control: Policy, rules: Rules, seed: int) -> float:
    """Relative gain in matches of a world under the treatment over one under the control."""
    return simulated(treatment, rules, seed).matches / max(simulated(control, rules, seed).matches, 1) - 1


def estimates(treatment: Callable[[], Policy], control: Callable[[], Policy], rules: Rules, seed: int) -> Mapping[str, float]:
    """Estimated relative gain of each kind of split, ``user``, ``region`` and ``time``, and ``truth``."""
    rules = replace(rules, newcomers=0.0)
    n = rules.people
    by_user = hashed_arms(n, seed), hashed_arms(n, seed + 1_000_003)
    chosen = np.random.default_rng([seed, 7]).permutation(REGIONS) < REGIONS // 2
    by_region = (chosen[regions_of(n)],) * 2
    days = np.random.default_rng([seed, 8]).permutation(rules.days) < rules.days // 2

    def world(treated: Callable[[int], tuple[Bools, Bools]]) -> Result:
        return simulated(Split(treatment(), control(), treated), rules, seed)

    users = world(lambda day: by_user).daily.sum(axis=0)
    places = world(lambda day: by_region).daily.sum(axis=0)
    times = world(lambda day: (np.full(n, days[day]), np.full(n, days[day]))).daily.sum(axis=1)
    return {
        "truth": true_effect(treatment(), control(), rules, seed),
        "user": _gain(users, np.concatenate(by_user)),
        "region": _gain(places, np.concatenate(by_region)),
        "time": _gain(times, days),
    }


def _gain(matches: NDArray[np.int64], treated: Bools) -> float:
    """Mean of the treated over mean of the others, less 1; 0 where one of them is empty or has none."""
    if treated.all() or not treated.any() or not matches[~treated].any():
        return 0.0
    return float(matches[treated].mean() / matches[~treated].mean() - 1)
