"""What a socket may do, and when it must end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.realtime.session import REFUSALS_AT_ONCE, Allowance, Refusal, Session
from configs.contracts.access_tokens import Identity
from configs.contracts.frames import (
    CLIENT_FRAMES,
    ERRORS,
    FRAME_BYTES,
    NOT_AUTHENTICATED_IN_TIME,
    POLICY,
    TEXT_LIMIT,
    UNAUTHENTICATED,
    MarkDelivered,
    Ping,
    Send,
    Typing,
)
from configs.settings import Realtime

CONVERSATION = "0190a3f0-0000-7000-8000-000000000001"
ADA = Identity("ada", "family", "user", 2_000.0)
SETTINGS = Realtime(frames_a_second=10, authenticate_s=5)


def opened() -> Session:
    session = Session("c1", SETTINGS, 0.0)
    assert session.authenticated(ADA)
    return session


def text(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def message(content: str = "hello", client: str = "m1") -> str:
    return text("send", conversationId=CONVERSATION, clientMessageId=client, content=content)


def test_nobody_may_do_anything_before_saying_who_they_are() -> None:
    session = Session("c1", SETTINGS, 0.0)
    refusal = session.received(message(), 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.answer is not None
    assert (refusal.answer.code, refusal.close) == ("unauthenticated", UNAUTHENTICATED)


def test_a_socket_that_says_nothing_ends_and_one_that_did_lives_as_long_as_its_token() -> None:
    silent = Session("c1", SETTINGS, 100.0)
    assert silent.overdue(104.9, 0.0) is None
    assert silent.overdue(105.0, 0.0) is NOT_AUTHENTICATED_IN_TIME
    session = opened()
    assert session.overdue(1_000_000.0, 1_999.9) is None
    assert session.overdue(0.0, 2_000.0) is UNAUTHENTICATED


def test_a_fresh_token_prolongs_a_socket_and_never_makes_it_another_persons() -> None:
    session = opened()
    assert session.authenticated(Identity("ada", "family2", "user", 3_000.0))
    assert (session.family_id, session.overdue(0.0, 2_500.0)) == ("family2", None)
    assert not session.authenticated(Identity("eve", "family3", "user", 9_000.0))
    assert (session.user_id, session.expires_at) == ("ada", 3_000.0)


@pytest.mark.parametrize(
    ("received", "code"),
    [
        ("{", "malformed_frame"), ("\x00", "malformed_frame"), ("", "malformed_frame"), ("[]", "invalid"), ("null", "invalid"),
        ("[" * 10_000, "invalid"), (text("dance"), "unknown_type"), ('{"type": 7}', "invalid"),
        (text("ping", extra=1), "invalid"), (text("ping", ref="\n"), "invalid"), (text("ping", ref="x" * 65), "invalid"),
        (text("send", conversationId="x", clientMessageId="m", content="c"), "invalid"),
        (text("typing", conversationId=CONVERSATION + "\n"), "invalid"), (message(client="m\n"), "invalid"),
        (message(""), "invalid"), (message("  \n "), "invalid"), (message("nul \x00"), "invalid"),
        (message("x" * (TEXT_LIMIT + 1)), "invalid"), (message(client="blank s"), "invalid"), (message(client="x" * 65), "invalid"),
        (text("read", conversationId=CONVERSATION, seq=0), "invalid"), (text("read", conversationId=CONVERSATION, seq=2**53), "invalid"),
        (text("read", conversationId=CONVERSATION, seq=1.5), "invalid"), (text("delivered", conversationId=CONVERSATION, seq="1"), "invalid"),
        (text("presence", conversationIds=[CONVERSATION] * 51), "invalid"), (text("presence", conversationIds=CONVERSATION), "invalid"),
        (text("authenticate"), "invalid"), (text("authenticate", ticket="t", accessToken="a"), "invalid"),
        (text("authenticate", ticket="again"), "invalid"), (text("ready"), "unknown_type"), (text("ack"), "unknown_type"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_documented_code_and_the_socket_lives(received: str, code: str) -> None:
    session = opened()
    refusal = session.received(received, 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.answer is not None
    assert refusal.close is None
    assert refusal.answer.code == code
    assert refusal.answer.title == ERRORS[refusal.answer.code]
    assert isinstance(session.received(text("ping"), 0.0), Ping)


def test_a_refusal_repeats_what_names_the_frame_and_nothing_of_its_content() -> None:
    session = opened()
    refusal = session.received(json.dumps(json.loads(message(" ")) | {"ref": "r7"}), 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.answer is not None
    assert (refusal.answer.ref, refusal.answer.client_message_id) == ("r7", "m1")


def test_the_longest_text_fits_a_frame_however_it_is_escaped() -> None:
    frame = message("😀" * TEXT_LIMIT)
    assert len(frame.encode()) <= FRAME_BYTES
    accepted = opened().received(frame, 0.0)
    assert isinstance(accepted, Send)
    assert len(accepted.content) == TEXT_LIMIT


def test_too_many_frames_are_refused_with_the_time_to_wait_and_do_no_harm() -> None:
    session = opened()
    assert all(isinstance(session.received(text("ping"), 0.0), Ping) for _ in range(20))
    refusal = session.received(text("ping"), 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.answer is not None
    assert (refusal.answer.code, refusal.close) == ("too_many_requests", None)
    assert refusal.answer.retry_after_ms is not None
    assert 0 < refusal.answer.retry_after_ms <= 101
    assert isinstance(session.received(text("ping"), refusal.answer.retry_after_ms / 1_000), Ping)


def test_who_goes_on_sending_what_is_refused_is_closed() -> None:
    session = opened()
    closes = [refusal.close for _ in range(REFUSALS_AT_ONCE + 1) if isinstance(refusal := session.received("{", 0.0), Refusal)]
    assert closes[:REFUSALS_AT_ONCE] == [None] * REFUSALS_AT_ONCE
    assert closes[-1] is POLICY


def test_typing_is_passed_on_once_in_two_seconds_and_a_delivered_mark_once() -> None:
    session = opened()
    typing = text("typing", conversationId=CONVERSATION)
    assert isinstance(session.received(typing, 0.0), Typing)
    assert session.received(typing, 1.9) is None
    assert isinstance(session.received(typing, 2.0), Typing)
    delivered = text("delivered", conversationId=CONVERSATION, seq=5)
    first = session.received(delivered, 3.0)
    assert isinstance(first, MarkDelivered)
    session.reported(first)
    assert session.received(delivered, 3.0) is None
    assert session.received(text("delivered", conversationId=CONVERSATION, seq=4), 3.0) is None
    assert isinstance(session.received(text("delivered", conversationId=CONVERSATION, seq=6), 3.0), MarkDelivered)


def test_watching_is_limited_more_than_other_frames() -> None:
    session = opened()
    watch = text("presence", conversationIds=[CONVERSATION])
    answers = [session.received(watch, 0.0) for _ in range(6)]
    assert [isinstance(answer, Refusal) for answer in answers] == [False] * 5 + [True]


def test_a_session_remembers_a_bounded_number_of_conversations() -> None:
    session = Session("c1", Realtime(frames_a_second=100_000), 0.0)
    session.authenticated(ADA)
    for number in range(1_000):
        session.received(text("typing", conversationId=f"0190a3f0-0000-7000-8000-{number:012x}"), 0.0)
    assert len(session._typed) == 64


def test_an_allowance_gives_its_rate_in_the_long_run() -> None:
    allowance = Allowance(10, 20)
    taken = sum(allowance.take(step / 1_000) == 0.0 for step in range(10_000))
    assert taken == 20 + 99


def test_every_frame_type_is_named_once() -> None:
    tags = [kind.__struct_config__.tag for kind in CLIENT_FRAMES]
    assert len(set(tags)) == len(tags)
