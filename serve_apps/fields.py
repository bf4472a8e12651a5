"""What fields of requests and responses are made of: bounds, formats, camelCase."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from fastapi import Header, Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StrictStr
from pydantic.alias_generators import to_camel

from configs.contracts.changes import rfc3339
from configs.contracts.people import MAXIMUM_AGE_YEARS, age_years
from configs.contracts.texts import CONTROL

UUID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
KEY_PATTERN: Final = r"^[\x21-\x7e]{1,64}$"
CURSOR_PATTERN: Final = r"^[A-Za-z0-9_-]{1,512}$"
DATE_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_ATOM: Final = r'[^\s\x00-\x20\x7f-\xa0@()<>\[\]:;,\\".]+'
ADDRESS_PATTERN: Final = rf"^{_ATOM}(\.{_ATOM})*@{_ATOM}(\.{_ATOM})+$"
"""Dot-atoms on both sides (RFC 5321, 6531): what a mail's header takes as one recipient, with nothing around it. Quoted local
parts, comments and lists are none of it."""
LOCAL_PART: Final = 64
"""RFC 5321's bound."""


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False, validate_by_alias=True)


class Answer(BaseModel):
    """Base of responses; fields are only ever added."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


class Success(Answer):
    success: bool = True


def _printable(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


def _address(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if len(local) > LOCAL_PART or any(label.startswith("-") or label.endswith("-") for label in domain.split(".")):
        raise ValueError("is not an e-mail address")
    return text


def _as_date(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(DATE_PATTERN, value):
        raise ValueError("must be a date as YYYY-MM-DD")
    return date.fromisoformat(value)


def _birth(value: date) -> date:
    today = datetime.now(UTC).date()
    if value > today or age_years(value, today) > MAXIMUM_AGE_YEARS:
        raise ValueError("is not a possible birth date")
    return value


Text = Annotated[StrictStr, AfterValidator(_printable)]
DisplayName = Annotated[Text, AfterValidator(filled), Field(min_length=1, max_length=100)]
Bio = Annotated[Text, Field(max_length=2_000)]
Address = Annotated[
    StrictStr, Field(min_length=3, max_length=254, pattern=ADDRESS_PATTERN), AfterValidator(_printable), AfterValidator(_address),
]
Password = Annotated[StrictStr, Field(min_length=8, max_length=256), AfterValidator(_printable)]
BirthDate = Annotated[date, BeforeValidator(_as_date), AfterValidator(_birth)]
UserIdText = Annotated[StrictStr, Field(pattern=UUID_PATTERN, examples=["01890a5d-ac96-774b-bcce-b302099a8057"])]
Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]

UserIdPath = Annotated[str, Path(alias="userId", pattern=UUID_PATTERN, description="a person's id")]
ViewerIdPath = Annotated[str, Path(alias="viewerId", pattern=UUID_PATTERN, description="whose cards: a person's id")]
CandidateIdPath = Annotated[str, Path(alias="candidateId", pattern=UUID_PATTERN, description="who is on the card: a person's id")]
MatchIdPath = Annotated[str, Path(alias="matchId", pattern=UUID_PATTERN, description="a match's id")]
ConversationIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a conversation's id")]
NotificationIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a notification's id")]
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", pattern=KEY_PATTERN, description="names this request for 24 hours, so that it can be repeated"),
]


def body_digest(key: bytes, body: BaseModel | str) -> str:
    """What tells two bodies under one Idempotency-Key apart; keyed, since a body may hold a password."""
    text = body if isinstance(body, str) else body.model_dump_json()
    return hashlib.blake2b(text.encode(), key=key, digest_size=16).hexdigest()
