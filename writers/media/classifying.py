"""What a classifier says of pictures. Whatever it does not clearly allow waits for a person: it fails closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import httpx
import msgspec
import structlog

from configs.contracts.media import Review
from configs.settings import Media

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 3
CATEGORIES_MOST: Final = 32


class Verdict(NamedTuple):
    """What follows, and the highest score of each category over all pictures."""

    review: Review
    scores: Mapping[str, float]


class Classifier(Protocol):
    """Looks at pictures (JPEG files) of one media."""

    def judge(self, samples: Sequence[Path]) -> Verdict:
        """Never raises: what cannot be judged is pending."""
        ...

    def close(self) -> None: ...


def classifier_of(media: Media) -> Classifier:
    """The classifier that the settings name, else the policy that a person looks at everything."""
    return HttpClassifier(media) if media.classifier_url else HumanReview()


class HumanReview:
    """The policy without a classifier: nothing is approved, or refused, before a person has looked at it."""

    def judge(self, samples: Sequence[Path]) -> Verdict:
        return Verdict("pending", {})

    def close(self) -> None:
        """Holds nothing."""


class _Answer(msgspec.Struct):
    scores: dict[str, float]


class HttpClassifier:
    """A service that takes a JPEG by POST and answers ``{"scores": {category: 0..1}}``; 0 is harmless.

    The highest score decides: at or above ``reject_above`` it is refused, at or below ``approve_below`` (unless that is
    0) it is approved; anything between, and everything while the service does not answer properly, waits for a person.
    """

    def __init__(self, media: Media, *, transport: httpx.BaseTransport | None = None) -> None:
        self._media = media
        token = media.classifier_token.get_secret_value()
        self._client = httpx.Client(
            timeout=media.classifier_timeout_s, follow_redirects=False, trust_env=False, transport=transport,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def judge(self, samples: Sequence[Path]) -> Verdict:
        scores: dict[str, float] = {}
        for sample in samples:
            found = self._scores(sample.read_bytes())
            if found is None:
                return Verdict("pending", {})
            for category, score in found.items():
                scores[category] = max(score, scores.get(category, 0.0))
        highest = max(scores.values(), default=None)
        if highest is None:
            return Verdict("pending", scores)
        if highest >= self._media.reject_above:
            return Verdict("rejected" if self._media.reject_above < 1 else "pending", scores)
        approves = self._media.approve_below > 0 and highest <= self._media.approve_below
        return Verdict("approved" if approves else "pending", scores)

    def _scores(self, picture: bytes) -> dict[str, float] | None:
        """None: no proper answer."""
        for _ in range(ATTEMPTS):
            try:
                answer = self._client.post(
                    self._media.classifier_url, content=picture, headers={"Content-Type": "image/jpeg"}
                )
                if answer.status_code == 200:
                    found = msgspec.json.decode(answer.content, type=_Answer).scores
                    if 0 < len(found) <= CATEGORIES_MOST and all(0 <= score <= 1 for score in found.values()):
                        return found
            except (httpx.HTTPError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("classifier_failed", kind=type(error).__name__)
        return None

    def close(self) -> None:
        self._client.close()
