"""Logistic regression with random effects: who likes often, who is liked often, and in which group it happened.

    log-odds(i likes j in group g) = x · β + sent_i + received_j + effect_g + side effect_g · side_i

The effects of one person are drawn together from N(0, Σ), Σ 2 × 2, so that a person who is liked a lot may be known to
like few. Coefficients of one penalty group share a variance. All are found together by penalised quasi-likelihood with
EM updates of the variances (Breslow and Clayton, 1993; MacKay, 1992): how much to shrink is learned from the data, and
nobody's twenty decisions count as twenty independent people. People of different groups never meet, so their effects
are eliminated group by group (a Schur complement) and a step costs O(n k²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_PERSON: Final = 0.5
FIRST_GROUP: Final = 0.1
FIRST_COEFFICIENT: Final = 0.005
"""Variances before the first update: guesses of the order that speed dating gives."""
VARIANCE_LEAST: Final = 1e-6
VARIANCE_MOST: Final = 9.0
STEP_MOST: Final = 4.0


@dataclass(frozen=True)
class Variances:
    """What was learned of the spread of effects."""

    person: Doubles
    """(2, 2): of sent and received."""
    group: Doubles
    """(2,): of a group's level and of the difference between its sides."""
    coefficients: Doubles
    """(penalty groups,)."""


@dataclass(frozen=True)
class MixedModel:
    """What ``fit`` found."""

    intercept: float
    coefficients: Doubles
    """(k,)."""
    sent: Doubles
    """(people,): how much more than others with the same features this person likes, log-odds."""
    received: Doubles
    """(people,): how much more they are liked."""
    group_effects: Doubles
    """(groups, 2)."""
    variances: Variances
    intercept_and_coefficients_precision: Doubles = field(repr=False)

    def log_odds(self, x: Doubles, actors: Ints, partners: Ints, groups: Ints, sides: Doubles) -> Doubles:
        """(n,) log-odds of ordered pairs; people and groups numbered as in ``fit``, unknown ones have effect 0."""
        level, difference = self.group_effects[groups, 0], self.group_effects[groups, 1]
        fixed = self.intercept + x @ self.coefficients
        return np.asarray(fixed + self.sent[actors] + self.received[partners] + level + difference * sides)


@dataclass(frozen=True)
class _Block:
    rows: Ints
    people: Ints
    design: Doubles
    """(rows, 2 people + 2): sent, received, level, difference."""


def fit(x: Doubles, penalties: NDArray[Any], actors: Ints, partners: Ints, groups: Ints, sides: Doubles,
        likes: NDArray[Any], *, people: int, group_count: int, rounds: int = 12, steps: int = 2,
        variances: Variances | None = None) -> MixedModel:
    """Fits n decisions.

    ``x`` (n, k) about standardised; ``penalties`` (k,) int numbers the coefficients' penalty groups from 0; ``actors``
    and ``partners`` (n,) number people from 0, -1 for an unknown partner; ``groups`` (n,) numbers groups, between which
    people do not meet; ``sides`` (n,) is +1 or -1. ``variances`` given: they are kept. Raises ValueError: no decisions.
    """
    if not len(likes):
        raise ValueError("there is nothing to learn from")
    y = np.asarray(likes, np.float64)
    blocks = _blocks(actors, partners, groups, sides)
    learn = variances is None
    now = variances or Variances(
        np.eye(2) * FIRST_PERSON, np.full(2, FIRST_GROUP),
        np.full(int(np.max(penalties, initial=-1)) + 1, FIRST_COEFFICIENT),
    )
    rate = (y.sum() + 1) / (y.size + 2)
    fixed = np.zeros(x.shape[1] + 1)
    fixed[0] = np.log(rate / (1 - rate))
    full = np.concatenate((np.ones((len(y), 1)), x), axis=1)
    effects = [np.zeros(block.design.shape[1]) for block in blocks]
    for _ in range(rounds):
        for _ in range(steps):
            fixed, effects, precision, covariances = _step(full, y, blocks, fixed, effects, penalties, now)
        if learn:
            now = _updated(blocks, fixed, effects, precision, covariances, penalties, now)
    sent, received, group_effects = np.zeros(people), np.zeros(people), np.zeros((group_count, 2))
    for block, effect in zip(blocks, effects, strict=True):
        size = block.people.size
        sent[block.people], received[block.people] = effect[:size], effect[size : 2 * size]
        group_effects[groups[block.rows[0]]] = effect[2 * size :]
    return MixedModel(float(fixed[0]), fixed[1:], sent, received, group_effects, now, precision)


def _blocks(actors: Ints, partners: Ints, groups: Ints, sides: Doubles) -> list[_Block]:
    blocks = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        people = np.unique(np.concatenate((actors[rows], partners[rows])))
        people = people[people >= 0]
        size, at = people.size, np.arange(rows.size)
        design = np.zeros((rows.size, 2 * size + 2))
        design[at, np.searchsorted(people, actors[rows])] = 1
        known = partners[rows] >= 0
        design[at[known], size + np.searchsorted(people, partners[rows][known])] = 1
        design[:, -2], design[:, -1] = 1, sides[rows]
        blocks.append(_Block(rows, people, design))
    return blocks


def _precision_of(block: _Block, variances: Variances) -> Doubles:
    size = block.people.size
    prior = np.zeros((2 * size + 2, 2 * size + 2))
    inverse = np.linalg.inv(variances.person)
    for row in range(2):
        for column in range(2):
            at = np.arange(size)
            prior[row * size + at, column * size + at] = inverse[row, column]
    prior[-2, -2], prior[-1, -1] = 1 / variances.group
    return prior


def _step(x: Doubles, y: Doubles, blocks: Sequence[_Block], fixed: Doubles, effects: Sequence[Doubles],
          penalties: NDArray[Any], variances: Variances) -> tuple[Doubles, list[Doubles], Doubles, list[Doubles]]:
    """One Newton step: (fixed, effects, precision of fixed, posterior covariance of each block's effects)."""
    ridge = np.concatenate(([1e-6], 1 / variances.coefficients[penalties]))
    schur, right = np.diag(ridge), -ridge * fixed
    kept = []
    for block, effect in zip(blocks, effects, strict=True):
        part = x[block.rows]
        log_odds = np.clip(part @ fixed + block.design @ effect, -30, 30)
        p = 1 / (1 + np.exp(-log_odds))
        weight, rest = np.maximum(p * (1 - p), 1e-6), y[block.rows] - p
        prior = _precision_of(block, variances)
        weighted = block.design * weight[:, None]
        own = np.linalg.inv(block.design.T @ weighted + prior)
        cross = weighted.T @ part
        own_right = block.design.T @ rest - prior @ effect
        solved = own @ cross
        schur = schur + part.T @ (part * weight[:, None]) - cross.T @ solved
        right = right + part.T @ rest - solved.T @ own_right
        kept.append((own, solved, own_right))
    change = np.clip(np.linalg.solve(schur, right), -STEP_MOST, STEP_MOST)
    inverse = np.linalg.inv(schur)
    moved, covariances = [], []
    for effect, (own, solved, own_right) in zip(effects, kept, strict=True):
        moved.append(effect + np.clip(own @ own_right - solved @ change, -STEP_MOST, STEP_MOST))
        covariances.append(own + solved @ inverse @ solved.T)
    return fixed + change, moved, schur, covariances


def _updated(blocks: Sequence[_Block], fixed: Doubles, effects: Sequence[Doubles], precision: Doubles,
             covariances: Sequence[Doubles], penalties: NDArray[Any], variances: Variances) -> Variances:
    """EM: each variance is the mean posterior second moment of what it governs."""
    person, count, group = np.zeros((2, 2)), 0, np.zeros(2)
    for block, effect, covariance in zip(blocks, effects, covariances, strict=True):
        size = block.people.size
        pairs = effect[: 2 * size].reshape(2, size)
        person += pairs @ pairs.T
        for row in range(2):
            for column in range(2):
                person[row, column] += np.trace(
                    covariance[row * size : (row + 1) * size, column * size : (column + 1) * size]
                )
        count += size
        group += effect[2 * size :] ** 2 + np.diag(covariance)[2 * size :]
    person = person / max(count, 1) + np.eye(2) * VARIANCE_LEAST
    coefficients = variances.coefficients.copy()
    second = fixed[1:] ** 2 + np.diag(np.linalg.inv(precision))[1:]
    for number in range(coefficients.size):
        mine = penalties == number
        if mine.any():
            coefficients[number] = np.clip(second[mine].mean(), VARIANCE_LEAST, VARIANCE_MOST)
    return Variances(person, np.clip(group / len(blocks), VARIANCE_LEAST, VARIANCE_MOST), coefficients)
