"""Whether a payload's ids are canonical: one look at all of them, since a regular expression for each took half of a reader's time."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from configs.contracts.events.base import Id, Payload

_LETTERS: Final = bytes(
    ord("0") if chr(code) in "0123456789abcdef" else ord("-") if chr(code) == "-" else 0 for code in range(256)
)
_SHAPE: Final = b"00000000-0000-0000-0000-000000000000"
_NONE: Final = type(None)


def lister(kind: type[Payload]) -> Callable[[Any], Sequence[str]]:
    """Lists every ``Id``, ``Id | None`` and ``tuple[Id, ...]`` of such a payload, for ``canonical``.

    Raises TypeError: an ``Id`` stands deeper inside, where it would not be looked at (``NestedId`` may).
    """
    single: list[str] = []
    several: list[str] = []
    optional = False
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is typing.ClassVar:
            continue
        members = typing.get_args(hint) if hint != Id and _NONE in typing.get_args(hint) else (hint,)
        if Id in members:
            single.append(name)
            optional |= len(members) > 1
        elif any(typing.get_origin(member) is tuple and typing.get_args(member)[0] == Id for member in members):
            several.append(name)
        elif _within(hint):
            raise TypeError(f"{kind.__name__}.{name} holds an Id too deep")
    if not single and not several:
        return lambda payload: ()
    if len(single) > 1 and not several and not optional:
        return attrgetter(*single)

    def ids(payload: Any) -> list[str]:
        found = [getattr(payload, name) for name in single]
        for name in several:
            found += getattr(payload, name) or ()
        return [text for text in found if text is not None]

    return ids


def canonical(ids: Sequence[str]) -> bool:
    """Whether all are ids in canonical text. None is longer than 36 characters: a decoder has looked."""
    joined = "".join(ids).encode("utf-8", "replace")
    return joined.translate(_LETTERS) == _SHAPE * len(ids)


def _within(hint: Any) -> bool:
    if hint == Id:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return any(_within(field.type) for field in msgspec.structs.fields(hint))
    return any(_within(inner) for inner in typing.get_args(hint))
