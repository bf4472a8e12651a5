"""The error tree: facts in ``details``, leaves named by who must act."""

from __future__ import annotations

from typing import Any


class PlatformError(Exception):
    """A promise that was not kept; ``details`` holds the facts, never secrets or message text."""

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))

    def __str__(self) -> str:
        facts = " ".join(f"{key}={value!r}" for key, value in self.details.items())
        return f"{self.message} ({facts})" if facts else self.message


def _rebuild(kind: type[PlatformError], message: str, details: dict[str, Any]) -> PlatformError:
    return kind(message, **details)


class DependencyUnavailable(PlatformError):
    """A server that the request needs does not answer: the caller retries later (HTTP 503)."""


class ShardUnavailable(DependencyUnavailable):
    """The shard that owns the key is restoring, overloaded or unreachable: the caller retries."""


class AppendUnconfirmed(DependencyUnavailable):
    """The log may hold the batch or not: the shard must be discarded and rebuilt from the log."""


class LogUnavailable(DependencyUnavailable):
    """The log has not acknowledged in time; the batch stays pending in the producer."""


class ReadModelUnknown(DependencyUnavailable):
    """A presence marker is missing: the fact is unknown until the writers warm it."""


class ReadModelRebuilding(DependencyUnavailable):
    """Redis lost data and is not yet rebuilt and caught up with the log."""


class InvalidEvent(PlatformError):
    """The record can never be applied: it goes to the dead letters."""


class DeadLetterLimit(PlatformError):
    """Too many records in a row could not be applied: the worker stops so that a bad deploy loses nothing."""


class PartitionFenced(PlatformError):
    """Another writer owns the partition now: stop."""


class EpochFenced(ShardUnavailable):
    """The answer came from a shard that has been replaced: ask again."""


class PositionOutsideLog(PlatformError):
    """The stored position is not inside the log that the broker holds: an operator must decide."""


class PartitionCountMismatch(PlatformError):
    """A topic has another number of partitions than configured: resharding is an explicit command."""


class RecordsWaiting(PlatformError):
    """Somebody has not taken in every record of a topic that is to go."""


class ConfigurationError(PlatformError):
    """The settings cannot be used; the message says what to change."""


class ArtifactCorrupt(PlatformError):
    """A stored model or table is incomplete, altered or not of a known kind: deploy another one."""


class ArtifactMissing(PlatformError):
    """The store has no such version."""


class ArtifactExists(PlatformError):
    """A version is written once: choose another directory."""


class FeaturesDiffer(PlatformError):
    """The model reads features that this code computes differently or not at all; ``details`` names them."""
