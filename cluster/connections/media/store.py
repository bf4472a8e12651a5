"""Objects of media: uploads by clients straight into the store, and what the platform itself does with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from configs.contracts.errors import PlatformError
from configs.settings import Settings

PARTS_MOST: Final = 10_000
"""S3's own limit."""


class UploadIncomplete(PlatformError):
    """What the client uploaded is not what it announced: parts are missing or of another size."""


class ObjectMissing(PlatformError):
    """The store has no such object."""


@dataclass(frozen=True, slots=True)
class SignedUpload:
    """A request that the client makes as it is: another length or type is refused, and so is everything after the end."""

    url: str
    headers: Mapping[str, str]
    method: str = "PUT"


class MediaStore(Protocol):
    """A store of objects. Synchronous: call it in threads. Every method may raise DependencyUnavailable."""

    def upload(self, key: str, *, content_type: str, size: int, sha256: str, seconds: int) -> SignedUpload:
        """The upload of a whole object, whose SHA-256 in hex is checked by the store where it knows how to."""
        ...

    def begin_parts(self, key: str, content_type: str) -> str:
        """Begins an upload in parts and returns its id. One that is never finished is forgotten by the store's own rules."""
        ...

    def upload_part(self, key: str, upload_id: str, number: int, *, size: int, seconds: int) -> SignedUpload:
        """The upload of one part; numbers begin at 1."""
        ...

    def finish_parts(self, key: str, upload_id: str, sizes: Sequence[int]) -> None:
        """Makes the object of its parts; repeating it changes nothing. Raises UploadIncomplete."""
        ...

    def abort_parts(self, key: str, upload_id: str) -> None:
        """Forgets an upload in parts; nothing when there is none."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of the object; None: there is none."""
        ...

    def fetch(self, key: str, path: Path, most: int) -> None:
        """Writes the object into a file. Raises ObjectMissing; UploadIncomplete: it is longer than ``most``."""
        ...

    def put(self, key: str, path: Path, content_type: str) -> None:
        """Stores a file as an object, whole or not at all."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Raises ObjectMissing."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects; those that do not exist count as deleted."""
        ...

    def delete_below(self, folder: str) -> None:
        """Deletes every object whose key begins with the folder's name and a slash."""
        ...


def media_store(settings: Settings) -> MediaStore:
    """The store that the settings name. Raises ConfigurationError: keys are missing."""
    if settings.media.s3_endpoint:
        from cluster.connections.media.s3 import S3Store

        return S3Store(settings.media)
    from cluster.connections.media.local import LocalStore

    return LocalStore(settings)


def part_sizes(size: int, part_bytes: int) -> list[int]:
    """The sizes of the parts of an upload, all alike but the last."""
    return [min(part_bytes, size - start) for start in range(0, size, part_bytes)]
