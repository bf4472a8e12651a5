"""Asking a running platform, here or elsewhere, why a card has its score: through its API, with a service token."""

from __future__ import annotations

from typing import Any, Final

import httpx

from configs.contracts.access_tokens import AccessTokens
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.settings import Settings

TIMEOUT_S: Final = 10.0
TOKEN_S: Final = 60
"""How long the token of one question is valid."""


class NotExplained(PlatformError):
    """There is nothing to explain; the message says why."""


def explain(settings: Settings, url: str, viewer_id: str, candidate_id: str, version: str = "") -> dict[str, Any]:
    """The explanation of one card. ``url``: root of the API, as seen from inside: a public edge refuses service tokens.

    Raises NotExplained: one of the two does not exist, or has no place. DependencyUnavailable: the API does not answer.
    """
    token = AccessTokens(settings.auth).issue_service("sugar-ranking", TOKEN_S)
    try:
        answer = httpx.get(
            f"{url}/api/v1/matching/explanations/{viewer_id}/{candidate_id}", params={"version": version} if version else {},
            headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise DependencyUnavailable("the API does not answer", kind=type(error).__name__) from error
    if answer.status_code in (404, 409):
        raise NotExplained("one of the two is not known, or has no location", status=answer.status_code)
    if answer.status_code != 200:
        raise DependencyUnavailable("the API refused", status=answer.status_code, problem=answer.text[:500])
    found: dict[str, Any] = answer.json()
    return found
