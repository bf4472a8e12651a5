"""Request parameters, decoded from Stripe's form encoding and checked against the TypedDicts of its own client."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final, Literal, NotRequired, Union
from urllib.parse import parse_qsl

from cluster.embedded.sandbox_provider.errors import ApiError

_STEP: Final = re.compile(r"\[([^\[\]]*)\]")
MOST: Final = 1_000
"""Parameters in one request."""


def decoded(text: str) -> dict[str, Any]:
    """``items[0][price]=p&metadata[a]=b`` as nested dicts; a dict whose keys are 0, 1, … (or empty) is a list."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MOST):
        head, _, _ = name.partition("[")
        steps = [head, *_STEP.findall(name[len(head):])]
        node = root
        for at, step in enumerate(steps):
            key = str(len(node)) if step == "" and at else step
            if at == len(steps) - 1:
                node[key] = value
            else:
                found = node.setdefault(key, {})
                if not isinstance(found, dict):
                    raise ApiError(f"Invalid parameter: {name}", param=name)
                node = found
    return {key: _listed(value) for key, value in root.items()}


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_listed(node[key]) for key in sorted(node, key=int)]
    return {key: _listed(value) for key, value in node.items()}


def checked(given: Mapping[str, Any], kind: type | None) -> dict[str, Any]:
    """The parameters with the types that the client declares.

    Raises ApiError (Stripe's ``invalid_request_error``): unknown, missing, or not of its type. ``kind`` None: none may be
    given but ``expand``.
    """
    return _struct(given, kind, "") if kind is not None else _struct(given, _Bare, "")


class _Bare(typing.TypedDict):
    expand: NotRequired[list[str]]


@cache
def fields_of(kind: type) -> tuple[dict[str, Any], frozenset[str]]:
    """(name -> type, required names) of a TypedDict, without the client's own request options."""
    from stripe._request_options import RequestOptions

    names = {**vars(typing), **vars(sys.modules[kind.__module__]), "UntypedStripeObject": dict, "Decimal": Decimal,
             "StripeContext": object, "Mapping": Mapping}
    hints = typing.get_type_hints(kind, globalns=names, include_extras=True)
    own = {name: hint for name, hint in hints.items() if name not in RequestOptions.__annotations__}
    required = frozenset(name for name, hint in own.items() if typing.get_origin(hint) is not NotRequired)
    return {name: typing.get_args(hint)[0] if typing.get_origin(hint) is NotRequired else hint for name, hint in own.items()}, required


def _struct(given: Mapping[str, Any], kind: type, path: str) -> dict[str, Any]:
    fields, required = fields_of(kind)
    for name in given:
        if name not in fields:
            where = _at(path, name)
            raise ApiError(f"Received unknown parameter: {where}", code="parameter_unknown", param=where)
    for name in sorted(required - set(given)):
        where = _at(path, name)
        raise ApiError(f"Missing required param: {where}.", code="parameter_missing", param=where)
    return {name: _value(value, fields[name], _at(path, name)) for name, value in given.items()}


def _at(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _value(given: Any, kind: Any, path: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(given, parts, path)
    if origin is Literal:
        if given in parts:
            return given
        raise ApiError(f"Invalid {path}: must be one of {', '.join(map(str, parts))}", param=path)
    if origin in (list, Sequence):
        if isinstance(given, list):
            return [_value(item, parts[0], f"{path}[{at}]") for at, item in enumerate(given)]
        raise ApiError("Invalid array", param=path)
    if hasattr(kind, "__total__"):
        if isinstance(given, dict):
            return _struct(given, kind, path)
        raise ApiError("Invalid object", param=path)
    if origin is dict or kind is dict:
        if isinstance(given, dict) and all(isinstance(value, str) for value in given.values()):
            return dict(given)
        raise ApiError("Invalid hash", param=path)
    return _scalar(given, kind, path)


def _one_of(given: Any, parts: Sequence[Any], path: str) -> Any:
    """The client opens every enumeration with ``| str`` for values of later versions; the API of this one does not."""
    named = [part for part in parts if typing.get_origin(part) is Literal and part != Literal[""]]
    tried = [part for part in parts if not (part is str and named) and part is not type(None)]
    failure: ApiError | None = None
    for part in tried:
        try:
            return _value(given, part, path)
        except ApiError as error:
            failure = error
    raise failure or ApiError(f"Invalid {path}", param=path)


def _scalar(given: Any, kind: Any, path: str) -> Any:
    if not isinstance(given, str):
        raise ApiError(f"Invalid {path}", param=path)
    if kind is bool:
        if given in ("true", "false"):
            return given == "true"
        raise ApiError(f"Invalid boolean: {given}", param=path)
    if kind is int:
        if re.fullmatch(r"-?\d{1,18}", given):
            return int(given)
        raise ApiError(f"Invalid integer: {given}", code="parameter_invalid_integer", param=path)
    if kind in (float, Decimal):
        try:
            number = Decimal(given)
        except InvalidOperation as error:
            raise ApiError(f"Invalid decimal: {given}", param=path) from error
        if not number.is_finite():
            raise ApiError(f"Invalid decimal: {given}", param=path)
        return float(number) if kind is float else number
    if kind is str:
        if len(given) <= 5_000:
            return given
        raise ApiError(f"Invalid string: {path} is too long", param=path)
    raise ApiError(f"This sandbox does not take {path}", param=path)
