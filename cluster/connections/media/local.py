"""The embedded store: files in the data directory, which its HTTP server (cluster.embedded.media_store) shows to clients."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cluster.connections.media.signing import local_key, signature
from cluster.connections.media.store import ObjectMissing, SignedUpload, UploadIncomplete
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings

KEY: Final = re.compile(r"(?:quarantine|media|preview|preserved|withheld|exports)/[a-z0-9][a-z0-9.-]{0,63}(?:/[a-z0-9][a-z0-9.-]{0,63})?")
"""Every key of ours, and no way out of the directory."""
UPLOAD: Final = re.compile(r"[0-9a-f]{32}")


def media_dir(data_dir: Path) -> Path:
    """Where the embedded store of a platform keeps objects."""
    return data_dir.resolve() / "media"


def object_path(root: Path, key: str) -> Path:
    """The file of an object. Raises ObjectMissing: no such key can exist."""
    if not KEY.fullmatch(key):
        raise ObjectMissing("not a key")
    return root / "objects" / key


def part_path(root: Path, upload_id: str, number: int) -> Path:
    """The file of one part. Raises ObjectMissing: no such upload can exist."""
    if not UPLOAD.fullmatch(upload_id):
        raise ObjectMissing("not an upload")
    return root / "parts" / upload_id / str(number)


def install(fresh: Path, path: Path) -> None:
    """Moves a finished file to its place, so that it survives a power cut."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def fresh_path(root: Path) -> Path:
    """A place for a file that is being written."""
    incoming = root / "incoming"
    incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
    return incoming / secrets.token_hex(16)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DependencyUnavailable("the media store's disk does not work", reason=type(error).__name__) from error


class LocalStore:
    """Objects as files; uploads by clients go through the HTTP server, everything else to the files."""

    def __init__(self, settings: Settings) -> None:
        self._root = media_dir(settings.data_dir)
        self._base = settings.media.local_url.rstrip("/")
        self._key = local_key(settings.media)

    def upload(self, key: str, *, content_type: str, size: int, sha256: str, seconds: int) -> SignedUpload:
        expires = str(int(time.time()) + seconds)
        sealed = signature(self._key, "PUT", key, expires, str(size), content_type, sha256)
        return SignedUpload(
            f"{self._base}/{key}?expires={expires}&length={size}&type={quote(content_type, safe='')}&sha256={sha256}"
            f"&signature={sealed}",
            {"Content-Type": content_type, "Content-Length": str(size)},
        )

    def begin_parts(self, key: str, content_type: str) -> str:
        upload_id = secrets.token_hex(16)
        with _disk():
            part_path(self._root, upload_id, 1).parent.mkdir(parents=True, mode=0o700)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, *, size: int, seconds: int) -> SignedUpload:
        expires = str(int(time.time()) + seconds)
        sealed = signature(self._key, "PUT", key, expires, str(size), upload_id, str(number))
        return SignedUpload(
            f"{self._base}/{key}?expires={expires}&length={size}&upload={upload_id}&part={number}&signature={sealed}",
            {"Content-Length": str(size)},
        )

    def finish_parts(self, key: str, upload_id: str, sizes: Sequence[int]) -> None:
        target = object_path(self._root, key)
        parts = [part_path(self._root, upload_id, number) for number in range(1, len(sizes) + 1)]
        with _disk():
            if not parts[0].parent.is_dir():
                if target.is_file() and target.stat().st_size == sum(sizes):
                    return
                raise UploadIncomplete("no such upload")
            if [part.stat().st_size if part.is_file() else -1 for part in parts] != list(sizes):
                raise UploadIncomplete("parts are missing")
            fresh = fresh_path(self._root)
            with fresh.open("wb") as output:
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, output, 1 << 20)
            install(fresh, target)
        self.abort_parts(key, upload_id)

    def abort_parts(self, key: str, upload_id: str) -> None:
        shutil.rmtree(part_path(self._root, upload_id, 1).parent, ignore_errors=True)

    def size(self, key: str) -> int | None:
        with _disk():
            try:
                return object_path(self._root, key).stat().st_size
            except (FileNotFoundError, ObjectMissing):
                return None

    def fetch(self, key: str, path: Path, most: int) -> None:
        size = self.size(key)
        if size is None:
            raise ObjectMissing("no such object")
        if size > most:
            raise UploadIncomplete("the object is longer than it may be", size=size)
        with _disk():
            shutil.copyfile(object_path(self._root, key), path)

    def put(self, key: str, path: Path, content_type: str) -> None:
        with _disk():
            fresh = fresh_path(self._root)
            shutil.copyfile(path, fresh)
            install(fresh, object_path(self._root, key))

    def copy(self, source: str, target: str) -> None:
        if self.size(source) is None:
            raise ObjectMissing("no such object")
        self.put(target, object_path(self._root, source), "")

    def delete(self, keys: Iterable[str]) -> None:
        with _disk():
            for key in keys:
                object_path(self._root, key).unlink(missing_ok=True)

    def delete_below(self, folder: str) -> None:
        directory = object_path(self._root, folder)
        with _disk():
            for path in directory.iterdir() if directory.is_dir() else ():
                path.unlink(missing_ok=True)
