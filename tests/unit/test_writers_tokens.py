"""Refresh tokens name their family and counter, and nobody without the key can make one."""

from __future__ import annotations

import pytest

from configs.contracts.ids import new_id
from configs.contracts.tokens import parse_refresh_token, refresh_token, token_hash

KEY = bytes(range(32))


def test_a_token_names_its_family_and_counter() -> None:
    family = new_id()
    assert parse_refresh_token(KEY, refresh_token(KEY, family, 7)) == (family, 7)


def test_the_same_family_and_counter_always_give_the_same_token() -> None:
    family = new_id()
    assert refresh_token(KEY, family, 0) == refresh_token(KEY, family, 0)
    assert token_hash(refresh_token(KEY, family, 0)) != token_hash(refresh_token(KEY, family, 1))


def test_a_token_of_another_key_is_refused() -> None:
    assert parse_refresh_token(KEY, refresh_token(bytes(32), new_id(), 0)) is None


def test_every_single_changed_character_is_refused() -> None:
    token = refresh_token(KEY, new_id(), 3)
    for index, old in enumerate(token):
        changed = token[:index] + ("A" if old != "A" else "B") + token[index + 1 :]
        parsed = parse_refresh_token(KEY, changed)
        assert parsed is None, index


@pytest.mark.parametrize("text", ["", "x", "A" * 69, "A" * 70, "A" * 71, "é" * 70, " " * 70, "A" * 100_000])
def test_anything_else_is_refused(text: str) -> None:
    assert parse_refresh_token(KEY, text) is None
