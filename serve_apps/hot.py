"""Routes that are called thousands of times a second: msgspec in, bytes out, and still in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec
from pydantic import BaseModel

from configs.contracts.access_tokens import Identity
from serve_apps.dependencies import Dependencies
from serve_apps.edge import Receive, Scope, read_body
from serve_apps.fields import KEY_PATTERN
from serve_apps.identity import admit
from serve_apps.problems import Refused, errors
from serve_apps.responding import Send, respond_json

REF: Final = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class HotRequest:
    """What a hot handler gets: who asks, the raw query and body, and the Idempotency-Key."""

    person: Identity
    query: bytes
    body: bytes
    idempotency_key: str | None


Handler = Callable[[Dependencies, HotRequest], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A hot route: how it is called and how it is documented."""

    method: str
    path: str
    operation_id: str
    tag: str
    summary: str
    handler: Handler
    answer: type[msgspec.Struct | BaseModel]
    codes: tuple[str, ...]
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    idempotent: bool = False
    examples: Mapping[str, Any] = field(default_factory=dict)


class HotApp:
    """One hot route as an ASGI application."""

    def __init__(self, route: HotRoute, dependencies: Dependencies) -> None:
        self._handler = route.handler
        self._dependencies = dependencies
        self._with_body = route.body is not None

    async def answered(self, scope: Scope, receive: Receive) -> bytes:
        """The body of the answer, JSON. Raises PlatformError."""
        authorization = key = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"idempotency-key":
                key = value
        person = admit(self._dependencies, authorization)
        body = await read_body(receive) if self._with_body else b""
        request = HotRequest(person, scope["query_string"], body, None if key is None else _key(key))
        return await self._handler(self._dependencies, request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(send, await self.answered(scope, receive))


def _key(value: bytes) -> str:
    text = value.decode("latin-1")
    if not 1 <= len(text) <= 64 or not text.isascii() or not text.isprintable() or " " in text:
        raise Refused("invalid", fields=[{"field": "header.Idempotency-Key", "message": "1 to 64 visible characters"}])
    return text


def refused(error: msgspec.MsgspecError, where: str) -> Refused:
    """A decoding error as the answer: 400 for what is not JSON, 422 for what does not fit."""
    if isinstance(error, msgspec.ValidationError):
        return Refused("invalid", fields=[{"field": where, "message": str(error)}])
    return Refused("malformed_body")


def query_values(query: bytes) -> dict[str, str]:
    """The query's fields, decoded; of a repeated one the last counts."""
    if not query:
        return {}
    values: dict[str, str] = {}
    for pair in query.decode("latin-1").split("&", 64)[:64]:
        name, _, value = pair.partition("=")
        values[unquote_plus(name)] = unquote_plus(value)
    return values


def document(openapi: dict[str, Any], routes: tuple[HotRoute, ...], prefix: str) -> None:
    """Adds the hot routes to an OpenAPI document."""
    kinds = [kind for route in routes for kind in (route.body, route.answer) if kind is not None]
    structs = [kind for kind in kinds if issubclass(kind, msgspec.Struct)]
    _, components = msgspec.json.schema_components(structs, ref_template=REF)
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    for model in kinds:
        if issubclass(model, BaseModel):
            described = model.model_json_schema(ref_template=REF.replace("{name}", "{model}"), mode="serialization")
            for name, nested in described.pop("$defs", {}).items():
                schemas.setdefault(name, nested)
            schemas.setdefault(model.__name__, described)
    for route in routes:
        operation: dict[str, Any] = {
            "tags": [route.tag],
            "summary": route.summary,
            "operationId": route.operation_id,
            "security": [{"person": []}],
            "responses": {
                "200": {
                    "description": "Successful Response",
                    "content": {"application/json": {"schema": {"$ref": REF.format(name=route.answer.__name__)}}},
                },
                **{str(status): described for status, described in errors(*route.codes).items()},
            },
        }
        parameters = [] if route.query is None else _parameters(route.query)
        if route.idempotent:
            parameters.append({
                "name": "Idempotency-Key", "in": "header", "required": False,
                "schema": {"type": "string", "pattern": KEY_PATTERN},
                "description": "names this request, so that it can be repeated",
            })
        if parameters:
            operation["parameters"] = parameters
        if route.body is not None:
            schema: dict[str, Any] = {"schema": {"$ref": REF.format(name=route.body.__name__)}}
            if route.examples:
                schema["example"] = dict(route.examples)
            operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
        openapi["paths"].setdefault(prefix + route.path, {})[route.method.lower()] = operation


def _parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=REF)
    schema = components[query.__name__]
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(member)}
        for name, member in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: an optional field is left out."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        return {**choices[0], **{name: value for name, value in schema.items() if name not in ("anyOf", "default")}}
    return {name: value for name, value in schema.items() if not (name == "default" and value is None)}
