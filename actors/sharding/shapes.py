"""What calls to shards carry, as one short name: code of two releases may call each other while it is the same.

Calls travel pickled (``wire``): a command that gained a field cannot be read by an actor that does not know it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
import typing
from enum import Enum
from types import ModuleType
from typing import Any, Final

import msgspec

import actors

PACKAGES: Final = ("actors.", "configs.")
"""Whose classes are looked into."""


def digest() -> str:
    """Another one when a shard has other methods, or a command, an answer or anything in them other fields, types or defaults."""
    return hashlib.sha256(json.dumps(described(), sort_keys=True).encode()).hexdigest()[:12]


def described() -> dict[str, list[str]]:
    """Class -> its fields, of every class in the shards' ``commands`` and ``answers`` and of what those hold; shard -> its methods."""
    waiting = [kind for module in _modules((".commands", ".answers")) for kind in _own(module)]
    known = {
        _name(kind): sorted(kind.METHODS) for module in _modules((".shard",)) for kind in _own(module) if hasattr(kind, "METHODS")
    }
    while waiting:
        kind = waiting.pop()
        if _name(kind) in known:
            continue
        hints = fields(kind)
        known[_name(kind)] = [f"{field}: {hint!r}{default}" for field, (hint, default) in hints.items()]
        waiting += [inner for hint, _ in hints.values() for inner in within(hint)]
    return known


def _modules(endings: tuple[str, ...]) -> list[ModuleType]:
    names = sorted(found.name for found in pkgutil.walk_packages(actors.__path__, "actors.") if found.name.endswith(endings))
    return [importlib.import_module(name) for name in names]


def _own(module: ModuleType) -> list[Any]:
    return [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def fields(kind: type) -> dict[str, tuple[Any, str]]:
    """Field -> (type, ``= default`` or nothing), in order; an enumeration's members."""
    if issubclass(kind, Enum):
        return {member.name: (member.value, "") for member in kind}
    hints = typing.get_type_hints(kind, include_extras=True)
    if issubclass(kind, msgspec.Struct):
        return {
            field.name: (hints[field.name], "" if field.required else f" = {_default(field.default, field.default_factory)}")
            for field in msgspec.structs.fields(kind)
        }
    if dataclasses.is_dataclass(kind):
        return {
            field.name: (hints[field.name], "" if field.default is dataclasses.MISSING else f" = {field.default!r}")
            for field in dataclasses.fields(kind)
        }
    return {name: (hints[name], "") for name in getattr(kind, "_fields", ())}


def within(hint: Any) -> list[type]:
    """Our own classes of a type: itself, or what it is made of."""
    found = [inner for argument in typing.get_args(hint) for inner in within(argument)]
    if isinstance(hint, type) and f"{hint.__module__}.".startswith(PACKAGES):
        found.append(hint)
    return found


def _default(value: Any, factory: Any) -> str:
    return repr(value) if value is not msgspec.NODEFAULT else f"{factory.__name__}()"
