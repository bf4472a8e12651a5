"""The ranking configuration: which model ranks whose cards. One document, versioned by its number.

Shards load the models that it names; routes ask for the one that ``assigned`` gives, so that both agree without a call.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Final, Literal

import h3
import msgspec

from configs.contracts.errors import PlatformError

Split = Literal["user", "region", "time"]
SPLITS: Final = ("user", "region", "time")

BASELINE: Final = "baseline"
"""The version that every shard has without an artifact."""
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9.:_-]{0,63}$"
"""Names of versions, experiments and arms: safe as a directory."""
ARMS_MOST: Final = 16
EXPLORATION_MOST: Final = 0.5
WAITING_LIKE: Final = 4.0
"""Boost of who waits for the viewer's answer to their like: as much as a score 55 times as high. Of 2, 4, 8, 16 and 50 in
simulated months (seeds that judge nothing) all from 4 on end alike, and 2 loses 2 % at most."""
WAITING_LIKE_MOST: Final = 50.0
SHARE_TOLERANCE: Final = 1e-6
REGION_RESOLUTION: Final = 3
"""H3 resolution of a region: cells about 120 km across, wider than most people look for others."""
KEY: Final = "ranking"
"""Record key of every configuration: one partition, so their order is the log's."""

_NAME: Final = re.compile(NAME_PATTERN)
_NOWHERE: Final = "nowhere"


def valid_name(text: str) -> bool:
    """Whether a text may name a version, an experiment or an arm."""
    return _NAME.match(text) is not None


class ConfigurationRefused(PlatformError):
    """The ranking configuration cannot be used; the message says what to change."""


class Arm(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """One arm: the share of the units that get this model version."""

    name: str
    version: str
    share: float
    waiting_like: float | None = None
    """Instead of the configuration's."""


class Experiment(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Which unit gets which arm. ``period_s``: length of a unit of time; used by the split ``time`` only."""

    name: str
    split: Split
    arms: tuple[Arm, ...]
    period_s: int = 3_600


class RankingConfiguration(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What shards serve. ``number`` grows by one with every change; 0 is what holds before the first.

    ``people_table``: version of the per-person columns (history, exposure prices); None: neutral values.
    ``exploration``: probability, at most a half, that one of every five places shows somebody from further below.
    ``waiting_like``: what is added to the score (a natural logarithm) of people whose like waits for the viewer's answer,
    at most every second place of a deck; 0: they are not put forward.
    """

    number: int = 0
    default_version: str = BASELINE
    experiment: Experiment | None = None
    people_table: str | None = None
    exploration: float = 0.0
    waiting_like: float = WAITING_LIKE

    def versions(self) -> tuple[str, ...]:
        """Every model version it names, the default first, each once."""
        arms = () if self.experiment is None else tuple(arm.version for arm in self.experiment.arms)
        return tuple(dict.fromkeys((self.default_version, *arms)))


INITIAL: Final = RankingConfiguration()


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """What one viewer is served now. ``experiment`` and ``arm`` are empty outside of an experiment."""

    configuration: int
    version: str
    experiment: str = ""
    arm: str = ""
    exploration: float = 0.0
    waiting_like: float = 0.0


def checked(configuration: RankingConfiguration) -> RankingConfiguration:
    """The configuration itself. Raises ConfigurationRefused: what is wrong with it."""
    if configuration.number < 0:
        raise ConfigurationRefused("a configuration's number is not negative", number=configuration.number)
    names = [("version", configuration.default_version)]
    if configuration.people_table is not None:
        names.append(("people table", configuration.people_table))
    if not 0 <= configuration.exploration <= EXPLORATION_MOST:
        raise ConfigurationRefused(
            f"exploration is a share from 0 to {EXPLORATION_MOST}", exploration=configuration.exploration
        )
    _checked_boost(configuration.waiting_like)
    if configuration.experiment is not None:
        names += _checked_experiment(configuration.experiment)
    for what, name in names:
        if not _NAME.match(name):
            raise ConfigurationRefused(
                f"a {what} has 1 to 64 letters, digits, dots, colons, hyphens and underscores", name=name[:64]
            )
    return configuration


def _checked_boost(waiting_like: float) -> None:
    if not 0 <= waiting_like <= WAITING_LIKE_MOST:
        raise ConfigurationRefused(f"the boost of waiting likes is from 0 to {WAITING_LIKE_MOST:g}", boost=waiting_like)


def _checked_experiment(experiment: Experiment) -> list[tuple[str, str]]:
    arms = experiment.arms
    if experiment.split not in SPLITS:
        raise ConfigurationRefused("no such split", split=experiment.split, known=SPLITS)
    if not 2 <= len(arms) <= ARMS_MOST:
        raise ConfigurationRefused(f"an experiment has 2 to {ARMS_MOST} arms", arms=len(arms))
    if len({arm.name for arm in arms}) != len(arms):
        raise ConfigurationRefused("every arm needs a name of its own", arms=[arm.name for arm in arms])
    if not all(math.isfinite(arm.share) and arm.share > 0 for arm in arms):
        raise ConfigurationRefused("every arm's share is a number above 0", shares=[arm.share for arm in arms])
    total = sum(arm.share for arm in arms)
    if abs(total - 1) > SHARE_TOLERANCE:
        raise ConfigurationRefused("the arms' shares must sum to 1", sum=round(total, 9))
    if not 60 <= experiment.period_s <= 30 * 86_400:
        raise ConfigurationRefused("a period lasts from 60 seconds to 30 days", period_s=experiment.period_s)
    names = [("name of an experiment", experiment.name)]
    for arm in arms:
        if arm.waiting_like is not None:
            _checked_boost(arm.waiting_like)
        names += [("name of an arm", arm.name), ("version", arm.version)]
    return names


def unit_of(experiment: Experiment, user_id: str, cell: str | None, now_s: float) -> str:
    """What is assigned as a whole: a user, a region (H3 cell of resolution 3) or a period.

    People without a location are one region of their own.
    """
    if experiment.split == "user":
        return user_id
    if experiment.split == "region":
        return _NOWHERE if cell is None else str(h3.cell_to_parent(cell, REGION_RESOLUTION))
    return str(int(now_s // experiment.period_s))


def arm_of(experiment: Experiment, unit: str) -> Arm:
    """The unit's arm: the same on every replica and for as long as the experiment's name and arms stay."""
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=experiment.name.encode(), person=b"experiment").digest()
    place = int.from_bytes(digest, "big") / 2**64
    reached = 0.0
    for arm in experiment.arms:
        reached += arm.share
        if place < reached:
            return arm
    return experiment.arms[-1]


def assigned(configuration: RankingConfiguration, user_id: str, cell: str | None, now_s: float) -> Assignment:
    """The model version that ranks this viewer's cards now, and why."""
    experiment = configuration.experiment
    if experiment is None:
        return Assignment(
            configuration.number, configuration.default_version, exploration=configuration.exploration,
            waiting_like=configuration.waiting_like,
        )
    arm = arm_of(experiment, unit_of(experiment, user_id, cell, now_s))
    boost = configuration.waiting_like if arm.waiting_like is None else arm.waiting_like
    return Assignment(configuration.number, arm.version, experiment.name, arm.name, configuration.exploration, boost)


_CONFIGURATIONS: Final = msgspec.json.Decoder(RankingConfiguration)


def read_configuration(document: bytes) -> RankingConfiguration:
    """Raises ConfigurationRefused: not a configuration, or one that ``checked`` refuses."""
    try:
        return checked(_CONFIGURATIONS.decode(document))
    except msgspec.MsgspecError as error:
        raise ConfigurationRefused("not a ranking configuration", reason=str(error)) from error
