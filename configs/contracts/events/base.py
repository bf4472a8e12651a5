"""What payloads are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

import msgspec

Role = Literal["sugar_baby", "sugar_daddy"]


Gender = Literal["woman", "man", "non_binary"]


Standing = Literal["active", "suspended", "banned", "deleted"]
"""Of an account; only an active one signs in, is shown or gets anything."""


PermissionRole = Literal["user", "moderator", "admin"]
"""What an account may do for the platform; an admin may do what a moderator may."""


StandingAfter = Literal["active", "suspended", "banned", "unchanged"]
"""Of a person's account once a decision about them is reversed; ``unchanged``: it was a warning, or a newer one stands."""


Verification = Literal["unverified", "pending", "verified", "failed"]
"""What age assurance has found out so far; ``failed`` may try again."""


TargetType = Literal["user", "message", "post", "comment", "media", "unlocated"]
"""What a report or decision is about; ``unlocated``: a removal request that only describes it, under its own id."""


ReportCategory = Literal[
    "spam", "harassment", "fake", "underage", "nudity", "violence", "scam", "other", "intimate_image", "child_abuse"
]


Action = Literal["dismiss", "warn", "remove", "suspend", "ban", "reinstate"]
"""remove: the content · suspend, ban, reinstate: the account of a ``user`` target."""


Outcome = Literal["upheld", "reversed"]


MailTemplate = Literal[
    "verify_address", "reset_password", "address_in_use", "password_changed", "sign_in_changed", "account_restricted",
    "reminder", "change_address", "address_changed",
]


Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset; one without is refused, since it could not be compared with any other."""


ID_PATTERN: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


Id = Annotated[str, msgspec.Meta(max_length=36, extra_json_schema={"pattern": ID_PATTERN})]
"""An id in canonical text, checked when a record is decoded (``checking``): shards compute with its digits."""


NestedId = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, max_length=36)]
"""The same inside something else than a payload."""


class Payload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Base of all payloads; unset optional fields are not written. Trees, so the collector need not look at them."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


class Barrier(Payload, frozen=True, kw_only=True):
    """Appended by a restoring shard: whoever reads it back has read everything before it. No row follows."""

    TYPE: ClassVar[str] = "barrier"
    nonce: str
