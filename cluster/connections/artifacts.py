"""Where models and people tables are kept: one directory a version, written once, under a directory or an S3 prefix."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from configs.contracts.errors import ArtifactExists, ArtifactMissing, ConfigurationError, DependencyUnavailable
from configs.contracts.ranking import valid_name
from configs.settings import Settings

Kind = Literal["models", "people"]
S3: Final = "s3://"
VERSIONS_MOST: Final = 10_000
"""Listed of one kind at most."""
TABLES_KEPT: Final = 5
"""People tables; older ones are removed when a new one is published, and from a node's copies when it fetches one."""


class ArtifactStore(Protocol):
    """Versioned directories. ``recommender.artifacts`` and ``recommender.people_table`` write and read their files."""

    def publish(self, kind: Kind, version: str, directory: Path) -> None:
        """Makes a copy of a finished directory visible as a version, whole or not at all.

        Raises ArtifactExists: versions are written once. DependencyUnavailable.
        """
        ...

    def fetch(self, kind: Kind, version: str) -> Path:
        """A local directory with the version's files. Raises ArtifactMissing, DependencyUnavailable."""
        ...

    def versions(self, kind: Kind) -> list[str]:
        """Every version's name, newest first. Raises DependencyUnavailable."""
        ...

    def remove(self, kind: Kind, version: str) -> None:
        """Removes a version; nothing when there is none."""
        ...


def artifact_store(settings: Settings) -> ArtifactStore:
    """The store that the settings name. Raises ConfigurationError: no such kind of address."""
    place = settings.ranking.artifacts
    if not place:
        return LocalArtifacts(settings.data_dir.resolve() / "artifacts")
    if place.startswith(S3):
        return S3Artifacts(
            place.removeprefix(S3).strip("/"), settings.data_dir.resolve() / "artifact-cache", settings.ranking.s3_endpoint
        )
    if "://" in place:
        raise ConfigurationError("artifacts are kept in a directory or under s3://bucket/prefix", artifacts=place)
    return LocalArtifacts(Path(place).resolve())


def _name(version: str) -> str:
    if not valid_name(version):
        raise ArtifactMissing("no such version; `sugar ranking list` names them", version=version[:64])
    return version


class LocalArtifacts:
    """Directories on a file system that every node sees (or the only node's)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def publish(self, kind: Kind, version: str, directory: Path) -> None:
        target = self._root / kind / _name(version)
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
            try:
                shutil.copytree(directory, beside, dirs_exist_ok=True)
                if target.exists():
                    raise ArtifactExists("this version is in the store already; versions are written once", version=version)
                os.replace(beside, target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be written", root=str(self._root), reason=str(error)) from error

    def fetch(self, kind: Kind, version: str) -> Path:
        directory = self._root / kind / _name(version)
        if not directory.is_dir():
            raise ArtifactMissing("no such version; `sugar ranking list` names them", version=version)
        return directory

    def versions(self, kind: Kind) -> list[str]:
        try:
            found = [entry for entry in (self._root / kind).iterdir() if valid_name(entry.name) and entry.is_dir()]
            found.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be read", root=str(self._root), reason=str(error)) from error
        return [entry.name for entry in found[:VERSIONS_MOST]]

    def remove(self, kind: Kind, version: str) -> None:
        shutil.rmtree(self._root / kind / _name(version), ignore_errors=True)


class S3Artifacts:
    """Objects under a bucket's prefix, each version copied to a local directory when it is first used.

    Credentials and region come as pyarrow finds them (AWS_* variables); a service that knows no trailing checksums wants
    ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``. ``manifest.json`` is written last: a version without it does not
    exist.
    """

    MANIFEST: Final = "manifest.json"

    def __init__(self, prefix: str, cache: Path, endpoint: str = "") -> None:
        self._prefix = prefix
        self._cache = cache
        self._endpoint = endpoint
        self._file_system: Any = None

    def _files(self) -> Any:
        if self._file_system is None:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

            scheme, _, host = self._endpoint.rpartition("://")
            self._file_system = S3FileSystem(
                endpoint_override=host or None, scheme=scheme or None, connect_timeout=5, request_timeout=30,
                retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3), allow_delayed_open=True,
            )
        return self._file_system

    def _path(self, kind: Kind, version: str) -> str:
        return f"{self._prefix}/{kind}/{_name(version)}"

    def publish(self, kind: Kind, version: str, directory: Path) -> None:
        place = self._path(kind, version)
        names = sorted((entry.name for entry in directory.iterdir()), key=lambda name: name == self.MANIFEST)
        try:
            if self._exists(f"{place}/{self.MANIFEST}"):
                raise ArtifactExists("this version is in the store already; versions are written once", version=version)
            for name in names:
                with self._files().open_output_stream(f"{place}/{name}") as output:
                    output.write((directory / name).read_bytes())
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be written", place=place, reason=str(error)) from error

    def fetch(self, kind: Kind, version: str) -> Path:
        kept = self._cache / kind / _name(version)
        if kept.is_dir():
            return kept
        place = self._path(kind, version)
        try:
            if not self._exists(f"{place}/{self.MANIFEST}"):
                raise ArtifactMissing("no such version; `sugar ranking list` names them", version=version)
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=kept.parent))
            try:
                for path in self._listed(place):
                    with self._files().open_input_stream(path) as stream:
                        (beside / path.rpartition("/")[2]).write_bytes(stream.read())
                os.replace(beside, kept)
            except OSError:
                if not kept.is_dir():  # another process was quicker
                    raise
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be read", place=place, reason=str(error)) from error
        if kind == "people":
            self._keep_newest(kept)
        return kept

    def _keep_newest(self, fetched: Path) -> None:
        """Removes copies but the newest and the one just fetched; a model's stay, since a rollback may want them."""
        copies = LocalArtifacts(self._cache)
        for version in copies.versions("people")[TABLES_KEPT:]:
            if version != fetched.name:
                copies.remove("people", version)

    def versions(self, kind: Kind) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        try:
            found = self._files().get_file_info(
                FileSelector(f"{self._prefix}/{kind}", allow_not_found=True, recursive=True)
            )
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be read", reason=str(error)) from error
        whole = [
            info for info in found if info.type == FileType.File and info.base_name == self.MANIFEST
        ]
        whole.sort(key=lambda info: info.mtime_ns or 0, reverse=True)
        return [info.path.split("/")[-2] for info in whole[:VERSIONS_MOST]]

    def remove(self, kind: Kind, version: str) -> None:
        place = self._path(kind, version)
        try:
            self._files().delete_file(f"{place}/{self.MANIFEST}")
            for path in self._listed(place):
                self._files().delete_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DependencyUnavailable("the artifact store cannot be written", place=place, reason=str(error)) from error

    def _exists(self, path: str) -> bool:
        from pyarrow.fs import FileType

        return bool(self._files().get_file_info([path])[0].type == FileType.File)

    def _listed(self, place: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        return [
            info.path for info in self._files().get_file_info(FileSelector(place, allow_not_found=True))
            if info.type == FileType.File
        ]
