"""Every address that the API takes is one recipient of a mail, written as it was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from configs.contracts.events import MailRequested
from configs.contracts.ids import email_hash, new_id
from configs.settings import load_settings
from serve_apps.fields import ADDRESS_PATTERN, Address
from writers.consumers.mail_text import message

TAKES: TypeAdapter[str] = TypeAdapter(Address)
SETTINGS = load_settings("test")
MADE = st.from_regex(ADDRESS_PATTERN, fullmatch=True)
PIECES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4) | st.sampled_from(list("@.,;:<>()[]\\\" \t'-+=?_é%ß"))


def taken(text: str) -> bool:
    try:
        TAKES.validate_python(text)
    except ValidationError:
        return False
    return True


@given(MADE | st.lists(PIECES, max_size=12).map("".join) | st.tuples(st.lists(PIECES, max_size=5).map("".join), st.lists(PIECES, max_size=5).map("".join)).map("@".join))
def test_what_is_taken_is_one_recipient(text: str) -> None:
    if not taken(text):
        return
    made = message(SETTINGS, bytes(32), MailRequested(
        mail_id=new_id(), user_id=new_id(), email_hash=email_hash(text), address=text, template="password_changed",
        token_id=None, expires_at=datetime.now(UTC) + timedelta(hours=1),
    ))
    (one,) = made["To"].addresses
    assert one.addr_spec == text


@pytest.mark.parametrize("text", [
    "a@[b.c", "a:;@x.y", '<@a.?:"', "(a@b.c", "a,b@c.de", "a <b@c.de>", '"a"@b.c', "a@b", "a..b@c.de", ".a@b.c", "a.@b.c", "a@b..c",
    "a@-b.c", "a@b-.c", "a@b.c ", "a@b.c\nBcc: d@e.f", "a@b@c.de", "x" * 65 + "@b.c", "a\u2028@b.c", "",
])
def test_what_is_no_address_is_not_taken(text: str) -> None:
    assert not taken(text)


@pytest.mark.parametrize("text", ["ada@example.com", "o'hara+dates@mail.example.co.uk", "Zoë.Ødegård@example.com", "x_1-2=3@a-b.c", "é@bücher.example"])
def test_ordinary_addresses_are_taken(text: str) -> None:
    assert taken(text)
