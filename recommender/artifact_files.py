"""Artifact directories: ``manifest.json`` and ``arrays.npz``, nothing that can execute code when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.errors import ArtifactCorrupt, ArtifactExists

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
ARRAYS: Final = "arrays.npz"
MANIFEST_BYTES_MOST: Final = 16 << 20


def write(directory: Path | str, *, kind: str, version: str, arrays: Mapping[str, NDArray[Any]],
          manifest: Mapping[str, Any]) -> None:
    """Writes an artifact whole or not at all: into a directory beside, renamed at the end.

    Raises ArtifactExists: the directory exists and is not empty. ValueError: metadata that JSON cannot hold.
    """
    target = Path(directory)
    facts = {"format": FORMAT, "kind": kind, "version": version} | dict(manifest)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        np.savez(beside / ARRAYS, allow_pickle=False, **dict(arrays))
        facts["files"] = {ARRAYS: _digest(beside / ARRAYS)}
        text = json.dumps(facts, indent=2, sort_keys=True, allow_nan=False, default=_plain)
        (beside / MANIFEST).write_text(text + "\n", encoding="utf-8")
        beside.chmod(0o755)
        try:
            os.replace(beside, target)
        except OSError as error:
            raise ArtifactExists("the directory holds something already", directory=str(target)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read(directory: Path | str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(manifest, arrays) of an artifact whose files are as they were written.

    Raises ArtifactCorrupt: a file is missing, altered or unreadable, or the format is another one.
    """
    source = Path(directory)
    try:
        manifest = read_manifest(source)
        files = manifest["files"]
        if ARRAYS not in files:
            raise ArtifactCorrupt("the manifest does not name the arrays", directory=str(source))
        for name, digest in files.items():
            if Path(name).name != name or _digest(source / name) != digest:
                raise ArtifactCorrupt("a file is not what the manifest says", directory=str(source), file=name)
        with np.load(source / ARRAYS, allow_pickle=False) as stored:
            return manifest, {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactCorrupt("the artifact cannot be read", directory=str(source), reason=repr(error)) from error


def read_manifest(directory: Path | str) -> dict[str, Any]:
    """What an artifact says of itself, the arrays unread. Raises ArtifactCorrupt."""
    path = Path(directory) / MANIFEST
    try:
        if path.stat().st_size > MANIFEST_BYTES_MOST:
            raise ArtifactCorrupt("the manifest is too large", directory=str(directory))
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt("the manifest cannot be read", directory=str(directory), reason=repr(error)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactCorrupt("the manifest is of another format", directory=str(directory), expected=FORMAT)
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise ValueError(f"{type(value).__name__} cannot be stored in a manifest")
