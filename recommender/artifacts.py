"""Rankers as versioned directories, written once, refused when the code computes other features than they were given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self

from numpy.typing import NDArray

from configs.contracts.errors import ArtifactCorrupt
from recommender.artifact_files import read, read_manifest, write
from recommender.baseline import Baseline
from recommender.boosted import Boosted
from recommender.exposure import Exposed
from recommender.features import described, require_same
from recommender.logistic import Logistic
from recommender.ranking import Ranker
from recommender.recency import Recent
from recommender.reciprocal import Reciprocal

__all__ = ["KINDS", "Storable", "load", "read_manifest", "save"]


class Storable(Ranker, Protocol):
    """A ranker that can be taken apart into JSON, arrays and further rankers, and put together again."""

    kind: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        """What JSON can hold."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays without Python objects; names without ``/``."""
        ...

    def parts(self) -> dict[str, Ranker]:
        """The rankers it is made of."""
        ...

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                parts: Mapping[str, Ranker]) -> Self:
        """The opposite. Raises KeyError, TypeError or ValueError: they do not fit."""
        ...


KINDS: Final[Mapping[str, type[Storable]]] = {kind.kind: kind for kind in (Baseline, Logistic, Boosted, Reciprocal, Exposed, Recent)}
"""Every kind of ranker that can be stored."""


def save(ranker: Ranker, directory: Path | str, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes an artifact. ``metadata`` (data range, metrics, code version …) goes into the manifest as it is.

    Raises ArtifactExists: the directory is taken. ValueError: the ranker is of no kind in ``KINDS``, or metadata use a
    name of the manifest.
    """
    arrays: dict[str, NDArray[Any]] = {}
    model = _taken_apart(ranker, "", arrays)
    facts = {"features": described(ranker.features), "model": model}
    extra = dict(metadata or {})
    if taken := sorted(extra.keys() & (facts.keys() | {"format", "kind", "version", "files"})):
        raise ValueError(f"metadata must not be named {', '.join(taken)}")
    write(directory, kind=model["kind"], version=ranker.version, arrays=arrays, manifest=extra | facts)


def load(directory: Path | str) -> Ranker:
    """The ranker that was saved.

    Raises ArtifactCorrupt: altered, incomplete or of an unknown kind. FeaturesDiffer: this code computes some of its
    features in another way or not at all.
    """
    manifest, arrays = read(directory)
    try:
        require_same(manifest["features"])
        ranker = _put_together(manifest["model"], "", arrays)
        agrees = ranker.version == manifest["version"] and set(ranker.features) == set(manifest["features"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtifactCorrupt("the model cannot be put together", directory=str(directory), reason=repr(error)) from error
    if not agrees:
        raise ArtifactCorrupt("the model is not the one that the manifest describes", directory=str(directory))
    return ranker


def _taken_apart(ranker: Any, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    if KINDS.get(getattr(ranker, "kind", "")) is not type(ranker):
        raise ValueError(f"a {type(ranker).__name__} cannot be stored")
    arrays.update({prefix + name: values for name, values in ranker.arrays().items()})
    parts = {name: _taken_apart(part, f"{prefix}{name}/", arrays) for name, part in ranker.parts().items()}
    return {"kind": ranker.kind, "parameters": ranker.parameters(), "parts": parts}


def _put_together(model: Mapping[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Storable:
    kind = KINDS.get(model["kind"])
    if kind is None:
        raise ArtifactCorrupt("no such kind of model", kind=model["kind"], known=sorted(KINDS))
    parts = {name: _put_together(part, f"{prefix}{name}/", arrays) for name, part in model["parts"].items()}
    own = {
        name.removeprefix(prefix): values for name, values in arrays.items()
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    }
    return kind.restore(model["parameters"], own, parts)
