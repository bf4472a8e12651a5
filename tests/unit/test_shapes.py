"""What calls to shards carry has a name, which changes when a shard of another release would not understand them."""

from __future__ import annotations

import os
import subprocess
import sys
from enum import Enum

import msgspec
import pytest

from actors.sharding import shapes


class Colour(Enum):
    RED = 1


class Inner(msgspec.Struct):
    number: int


class Asked(msgspec.Struct):
    inner: Inner | None
    several: tuple[Inner, ...] = ()
    colour: Colour = Colour.RED


def test_every_command_answer_and_what_it_holds_is_in_it() -> None:
    found = shapes.described()
    assert found["actors.swipes.commands.Swipe"][0] == "swiper_id: <class 'str'>"
    assert found["actors.accounts.answers.Registered"][0] == "user_id: <class 'str'>"
    assert "configs.contracts.events.content.Followed" in found, "a field of a command"
    assert "deck" in found["actors.cards.shard.CardShard"]


def test_fields_are_told_with_types_and_defaults() -> None:
    assert {name: default for name, (_, default) in shapes.fields(Asked).items()} == {
        "inner": "", "several": " = ()", "colour": " = <Colour.RED: 1>",
    }
    assert [kind for hint, _ in shapes.fields(Asked).values() for kind in shapes.within(hint)] == [], "not of our packages"


@pytest.mark.parametrize("change", [
    [("inner", Inner), ("several", tuple[Inner, ...], ()), ("colour", Colour, Colour.RED)],
    [("inner", Inner | None), ("several", tuple[Inner, ...]), ("colour", Colour)],
    [("inner", Inner | None), ("several", tuple[Inner, ...], ()), ("colour", Colour, Colour.RED), ("more", int, 0)],
    [("several", tuple[Inner, ...], ()), ("colour", Colour, Colour.RED)],
])
def test_another_type_default_or_field_is_another_shape(change: list[tuple[str, type] | tuple[str, type, object]]) -> None:
    assert shapes.fields(msgspec.defstruct("Asked", change)) != shapes.fields(Asked)


def test_all_processes_of_one_release_agree() -> None:
    command = [sys.executable, "-c", "from actors.sharding.shapes import digest; print(digest())"]
    told = {
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {shapes.digest()}
