"""HTTP as providers are spoken to: bounded, without redirects, with their own idea of when to come again."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import msgspec

from configs.settings import Push
from writers.push.provider import LONGEST_WAIT_S, Outcome

TIMEOUT_S: Final = 10.0
CONNECTIONS: Final = 16


def client(settings: Push, *, http2: bool = False) -> httpx.AsyncClient:
    """A client that follows no redirect and trusts the configured authorities."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    return httpx.AsyncClient(
        http2=http2, verify=context, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False,
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
    )


def unreachable(error: httpx.HTTPError) -> Outcome:
    """The network's doing: it may or may not have arrived."""
    return Outcome("wait", type(error).__name__)


def retry_after_s(answer: httpx.Response, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header (seconds or a date, RFC 9110 10.2.3) asks for, bounded; None: it has none."""
    value = answer.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdigit():
        return min(float(value), LONGEST_WAIT_S) if len(value) < 10 else LONGEST_WAIT_S
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - (now or datetime.now(UTC))).total_seconds()), LONGEST_WAIT_S)


def answer_json(answer: httpx.Response) -> dict[str, object]:
    """The answer's object; empty when it is none."""
    try:
        found = msgspec.json.decode(answer.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
