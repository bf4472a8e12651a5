"""One upload from the quarantine to its derivatives, or out. Carried out anywhere, any number of times, with one result."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from cluster.connections.media.store import MediaStore, ObjectMissing, UploadIncomplete, media_store
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import MediaProcessed, MediaRejected
from configs.contracts.media import (
    MediaRecord,
    RejectReason,
    Rendition,
    derivative_key,
    preserved_key,
    preview_key,
    quarantine_key,
)
from configs.settings import Settings
from writers.media.block_lists import CSAM, BlockLists
from writers.media.classifying import Classifier, classifier_of
from writers.media.decoding import Decoder
from writers.media.pictures import PREVIEW

log = structlog.get_logger(__name__)

Outcome = MediaProcessed | MediaRejected
TYPES: Final = {".webp": "image/webp", ".mp4": "video/mp4"}
CHUNK: Final = 1 << 20


class Processing:
    """Processes one media after the other. Belongs to one thread of one process."""

    def __init__(
        self, settings: Settings, *, store: MediaStore | None = None, classifier: Classifier | None = None
    ) -> None:
        self._store = store or media_store(settings)
        self._classifier = classifier or classifier_of(settings.media)
        self._decoder = Decoder(settings.media)

    def process(self, record: MediaRecord, lists: BlockLists) -> Outcome:
        """What became of an upload; its derivatives are stored by then. The upload itself stays where it is.

        Raises DependencyUnavailable: the store or this machine does not work; nothing is decided.
        """
        try:
            return self._processed(record, lists)
        except OSError as error:
            log.exception("media_not_processed", media=record.media_id)
            raise DependencyUnavailable("this machine does not work", kind=type(error).__name__, errno=error.errno) from error

    def _processed(self, record: MediaRecord, lists: BlockLists) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="media-") as directory:
            path, out = Path(directory) / "upload", Path(directory) / "out"
            out.mkdir()
            refused = self._fetched(record, path)
            if refused is not None:
                return _rejected(record, refused)
            facts = self._decoder.decode(path, out, record.kind, record.content_type)
            if "reject" in facts:
                return _rejected(record, facts["reject"])
            match = lists.match(facts["asked"])
            if match is not None:
                preserved = match.name == CSAM
                if preserved:
                    self._store.copy(quarantine_key(record.media_id), preserved_key(record.media_id))
                return MediaRejected(
                    media_id=record.media_id, owner_id=record.owner_id, reason="blocked", matched=match.name,
                    distance=match.distance, preserved=preserved, hashes=tuple(facts["own"]),
                )
            verdict = self._classifier.judge([out / name for name in facts["samples"]])
            if verdict.review == "rejected":
                return _rejected(record, "blocked", tuple(facts["own"]))
            self._put(record, out, facts)
            return MediaProcessed(
                media_id=record.media_id, owner_id=record.owner_id, content_type=facts["contentType"], width=facts["width"],
                height=facts["height"], duration_ms=facts.get("durationMs", 0), derivatives=tuple(facts["derivatives"]),
                renditions=msgspec.convert(tuple(facts.get("renditions", ())), tuple[Rendition, ...]),
                hashes=tuple(facts["own"]), scores=dict(verdict.scores), review=verdict.review,
            )

    def _fetched(self, record: MediaRecord, path: Path) -> RejectReason | None:
        """Brings the upload here; the reason why not, if it is not what was announced."""
        try:
            self._store.fetch(quarantine_key(record.media_id), path, record.size)
        except ObjectMissing:
            # An earlier attempt has ended, and its outcome stands in the log before this one; or the store lost it.
            return "unreadable"
        except UploadIncomplete:
            return "size_mismatch"
        if path.stat().st_size != record.size:
            return "size_mismatch"
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return None if digest.hexdigest() == record.sha256 else "checksum_mismatch"

    def _put(self, record: MediaRecord, out: Path, facts: Mapping[str, Any]) -> None:
        for name in facts["derivatives"]:
            path = out / name
            self._store.put(derivative_key(record.media_id, name), path, TYPES[path.suffix])
        self._store.put(preview_key(record.media_id), out / PREVIEW, TYPES[".webp"])

    def close(self) -> None:
        self._decoder.close()
        self._classifier.close()


def _rejected(record: MediaRecord, reason: RejectReason, hashes: tuple[str, ...] = ()) -> MediaRejected:
    return MediaRejected(media_id=record.media_id, owner_id=record.owner_id, reason=reason, hashes=hashes)
