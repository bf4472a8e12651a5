"""Whether a payload's ids are canonical: one look at all of them, since a regular expression for each took half of a reader's time."""

from __future__ import annotations

import typing
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from configs.contracts.events.base import Id, Payload

_LETTERS: Final = bytes(
    ord("0") if chr(code) in "0123456789abcdef" else ord("-") if chr(code) == "-" else 0 for code in range(256)
)
_SHAPE: Final = b"00000000-0000-0000-0000-000000000000"
_NONE: Final = type(None)


def checker(kind: type[Payload]) -> Callable[[Any], bool]:
    """Says whether every ``Id``, ``Id | None`` and ``tuple[Id, ...]`` of such a payload is one; their lengths are decoded ones.

    Raises TypeError: an ``Id`` stands deeper inside, where it would not be looked at (``NestedId`` may).
    """
    single: list[str] = []
    several: list[str] = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is typing.ClassVar:
            continue
        members = typing.get_args(hint) if hint != Id and _NONE in typing.get_args(hint) else (hint,)
        if Id in members:
            single.append(name)
        elif any(typing.get_origin(member) is tuple and typing.get_args(member)[0] == Id for member in members):
            several.append(name)
        elif _within(hint):
            raise TypeError(f"{kind.__name__}.{name} holds an Id too deep")
    if not single and not several:
        return lambda payload: True
    if len(single) > 1 and not several:
        return _plain(attrgetter(*single))

    def check(payload: Any) -> bool:
        ids = [getattr(payload, name) for name in single]
        for name in several:
            ids += getattr(payload, name) or ()
        return canonical([text for text in ids if text is not None])

    return check


def canonical(ids: typing.Sequence[str]) -> bool:
    """Whether all are ids in canonical text; none is longer than 36 characters."""
    joined = "".join(ids).encode("utf-8", "replace")
    return joined.translate(_LETTERS) == _SHAPE * len(ids)


def _plain(values: Callable[[Any], tuple[str | None, ...]]) -> Callable[[Any], bool]:
    def check(payload: Any) -> bool:
        found = values(payload)
        return canonical([text for text in found if text is not None] if None in found else typing.cast("tuple[str, ...]", found))

    return check


def _within(hint: Any) -> bool:
    if hint == Id:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return any(_within(field.type) for field in msgspec.structs.fields(hint))
    return any(_within(inner) for inner in typing.get_args(hint))
