"""What ``sugar ranking export`` wrote, as arrays: people's columns, swipes, shown cards and matches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs.contracts.errors import PlatformError
from recommender.features import DAY_S, DAYS_A_YEAR, Pairs, Priors

FORMAT: Final = 1
LIKE, SUPER_LIKE = 1, 3
COUNTS: Final = ("likes_sent", "swipes_sent", "likes_received", "swipes_received")

Column = NDArray[Any]


class ExportUnreadable(PlatformError):
    """The directory does not hold an export that this code reads."""


@dataclass(frozen=True)
class Swipes:
    """m swipes in order of time; ``swiper`` and ``swiped`` (m,) int32 number people, ``response`` 0: no card named."""

    swiper: Column
    swiped: Column
    liked: NDArray[np.bool_]
    at_s: NDArray[np.float64]
    distance_km: NDArray[np.float32]
    response: NDArray[np.uint64]
    position: NDArray[np.int16]

    def __len__(self) -> int:
        return int(self.at_s.size)

    def rows(self, which: Any) -> Swipes:
        """Some of them."""
        return Swipes(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Impressions:
    """n shown cards in order of time. ``liked``: 1 like, 0 pass, -1 not answered (yet)."""

    viewer: Column
    candidate: Column
    response: NDArray[np.uint64]
    position: NDArray[np.int16]
    score: NDArray[np.float32]
    propensity: NDArray[np.float32]
    served_s: NDArray[np.float64]
    configuration: NDArray[np.int64]
    model_version: NDArray[np.object_]
    experiment: NDArray[np.object_]
    """Empty outside of an experiment."""
    arm: NDArray[np.object_]
    seen: NDArray[np.bool_]
    liked: NDArray[np.int8]
    features: NDArray[np.object_]
    """Name -> value, of the sampled ones; None of the others."""

    def __len__(self) -> int:
        return int(self.served_s.size)


@dataclass(frozen=True)
class Exported:
    """One export. ``people``: columns of ``recommender.features.COLUMNS`` by person's number, (p,) each."""

    since_s: float
    until_s: float
    pseudonymous: bool
    ids: NDArray[np.uint64]
    """(p, 2): pseudonyms, or the ids themselves in an identified export."""
    people: Mapping[str, Column]
    cells: NDArray[np.uint64]
    """Coarse H3 cell of each, 0: nowhere."""
    latitudes: NDArray[np.float32]
    longitudes: NDArray[np.float32]
    accepts_roles: NDArray[np.int8]
    """Bit ``1 << role code`` of every role the person accepts."""
    accepts_genders: NDArray[np.int8]
    """Bit ``1 << gender code``; 0: any."""
    discoverable: NDArray[np.bool_]
    swipes: Swipes
    impressions: Impressions
    matches: NDArray[np.int32]
    """(k, 2) numbers of those whose match is active."""

    @property
    def priors(self) -> Priors:
        """The population's like rates."""
        sent, received = (
            float(self.people[f"likes_{side}"].sum()) / total if (total := float(self.people[f"swipes_{side}"].sum())) else 0.3
            for side in ("sent", "received")
        )
        return Priors(sent, received)

    def before(self, swipes: Swipes) -> Exported:
        """The same with these swipes taken off everybody's history: what was known before the first of them, or nearly."""
        taken = {
            "likes_sent": (swipes.swiper, swipes.liked), "swipes_sent": (swipes.swiper, None),
            "likes_received": (swipes.swiped, swipes.liked), "swipes_received": (swipes.swiped, None),
        }
        people = dict(self.people)
        for name, (who, weights) in taken.items():
            left = people[name] - np.bincount(who, weights, people[name].size)
            people[name] = np.maximum(left, 0).astype(people[name].dtype)
        return replace(self, people=people)

    def pairs(self, swipes: Swipes, *, counted: bool = True) -> Pairs:
        """The ordered pairs of these swipes, each without its own share in both people's history.

        ``counted``: whether that history holds them; False: ``before`` has taken them off. Activity and ages are those of
        the export's time.
        """
        own = swipes.liked.astype(np.float32) if counted else np.zeros(len(swipes), np.float32)
        one = np.float32(counted)
        viewer = {name: column[swipes.swiper] for name, column in self.people.items()}
        candidate = {name: column[swipes.swiped] for name, column in self.people.items()}
        viewer["likes_sent"] = viewer["likes_sent"] - own
        viewer["swipes_sent"] = viewer["swipes_sent"] - one
        candidate["likes_received"] = candidate["likes_received"] - own
        candidate["swipes_received"] = candidate["swipes_received"] - one
        return Pairs(viewer, candidate, swipes.distance_km, self.until_s, self.priors)


def read(directory: Path | str) -> Exported:
    """Raises ExportUnreadable: not an export, or one of another format."""
    root = Path(directory)
    try:
        manifest = json.loads((root / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            raise ExportUnreadable("the export has another format", directory=str(root), format=manifest["format"])
        tables = {
            name: pq.read_table(root / f"{name}.parquet") for name in ("people", "swipes", "matches", "impressions")
        }
        return _exported(manifest, tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportUnreadable("the directory holds no export", directory=str(root), reason=repr(error)) from error


def _exported(manifest: Mapping[str, Any], tables: Mapping[str, Any]) -> Exported:
    until_s = datetime.fromisoformat(manifest["until"]).timestamp()
    people = {name: column.to_numpy() for name, column in zip(tables["people"].column_names, tables["people"].columns, strict=True)}
    columns: dict[str, Column] = {
        "birth_day": until_s / DAY_S - (people["age_years"].astype(np.float64) + 0.5) * DAYS_A_YEAR,
        "active_s": people["active_s"],
        "verified": people["verified"].astype(np.float32),
    }
    for name in ("age_min", "age_max", "reach_km", "role", "gender", *COUNTS):
        columns[name] = people[name].astype(np.float32)
    swipes = {name: tables["swipes"][name].to_numpy() for name in tables["swipes"].column_names}
    action = swipes.pop("action")
    matches = tables["matches"]
    active = matches.filter(np.asarray(matches["status"].to_numpy() == "active")) if matches.num_rows else matches
    found = Swipes(liked=np.isin(action, (LIKE, SUPER_LIKE)), **swipes)
    return Exported(
        datetime.fromisoformat(manifest["since"]).timestamp(), until_s, bool(manifest["pseudonymous"]),
        _ids(people["pseudonym"]), columns, people["cell"].astype(np.uint64), people["latitude"], people["longitude"],
        people["accepts_roles"], people["accepts_genders"], people["discoverable"].astype(np.bool_), found, _impressions(tables["impressions"], found),
        np.stack([active["low"].to_numpy(), active["high"].to_numpy()], axis=1).astype(np.int32),
    )


def _ids(texts: NDArray[np.object_]) -> NDArray[np.uint64]:
    raw = bytes.fromhex("".join(texts.tolist()))
    return np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 2)


def _impressions(table: Any, swipes: Swipes) -> Impressions:
    plain = {
        name: table[name].to_numpy()
        for name in ("viewer", "candidate", "response", "position", "score", "propensity", "served_s", "configuration", "seen")
    }
    texts = {
        name: np.array([value or "" for value in table[name].to_pylist()], dtype=object)
        for name in ("model_version", "experiment", "arm")
    }
    features = np.empty(table.num_rows, dtype=object)
    features[:] = [None if pairs is None else dict(pairs) for pairs in table["features"].to_pylist()]
    plain["seen"] = plain["seen"].astype(np.bool_)
    return Impressions(liked=_outcomes(plain, swipes), features=features, **plain, **texts)


def _outcomes(shown: Mapping[str, Column], swipes: Swipes) -> NDArray[np.int8]:
    """What each card was answered with: the swipe that names its response and candidate."""
    answered = {
        (response, swiped): liked for response, swiped, liked in zip(
            swipes.response.tolist(), swipes.swiped.tolist(), swipes.liked.tolist(), strict=True
        ) if response
    }
    return np.fromiter(
        (answered.get(card, -1) for card in zip(shown["response"].tolist(), shown["candidate"].tolist(), strict=True)),
        np.int8, shown["response"].size,
    )
