"""JSON Schema and AsyncAPI of all events and realtime frames, made from their types themselves.

``python -m configs.contracts.schemas > docs/asyncapi.json`` writes the committed document; a test says when it is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from configs.contracts.events import EVENTS, Barrier, Payload
from configs.contracts.frames import CLIENT_FRAMES, CLOSE_CODES, ERRORS, FRAME_BYTES, SERVER_FRAMES
from configs.contracts.topics import TOPICS, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI_VERSION = "3.0.0"
DOCUMENT_VERSION = "1.0.0"
"""Of the document as a whole; each event carries its own version."""

Schema = dict[str, Any]


def _payloads() -> tuple[type[Payload], ...]:
    return (*(payload for _, payload in EVENTS), Barrier)


def _components(template: str) -> dict[str, Schema]:
    _, components = msgspec.json.schema_components(_payloads(), ref_template=template)
    return components


FRAME_SETS = (("client", CLIENT_FRAMES), ("server", SERVER_FRAMES))


def _frame_name(side: str, frame: type[msgspec.Struct]) -> str:
    return f"{side}.{frame.__struct_config__.tag}"


def _frame_schema(side: str, frame: type[msgspec.Struct]) -> Schema:
    """The schema of one frame. Clients ignore fields that they do not know; the gateway refuses them."""
    [_], components = msgspec.json.schema_components([frame])
    schema: Schema = components[frame.__name__]
    schema["title"] = _frame_name(side, frame)
    return schema


def _frame_message(side: str, frame: type[msgspec.Struct]) -> Schema:
    message: Schema = {
        "name": _frame_name(side, frame),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{_frame_name(side, frame)}"},
    }
    if frame.__doc__:
        message["summary"] = " ".join(frame.__doc__.split())
    return message


def _realtime_channel() -> Schema:
    errors = "; ".join(f"`{code}`: {title}" for code, title in ERRORS.items())
    closes = "; ".join(f"{close.code}: {close.title} ({close.client})" for close in CLOSE_CODES)
    names = [_frame_name(side, frame) for side, frame_set in FRAME_SETS for frame in frame_set]
    return {
        "address": "/api/v1/messaging/ws",
        "description": "The realtime socket: text frames, one JSON object each, told apart by `type`, at most "
        f"{FRAME_BYTES} bytes. Opened with `?ticket=` from POST /messaging/ws-ticket, or by an `authenticate` frame within "
        f"5 seconds. Codes of `error` frames: {errors} Close codes: {closes}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _realtime_operation(action: str, side: str, frames: Sequence[type[msgspec.Struct]]) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/realtime"},
        "messages": [{"$ref": f"#/channels/realtime/messages/{_frame_name(side, frame)}"} for frame in frames],
    }


def _envelope(payload: type[Payload], payload_schema: Schema) -> Schema:
    """The whole record's value for one event type. Unknown fields are allowed everywhere: readers ignore them."""
    properties: Schema = {
        "eventId": {"type": "string", "format": "uuid", "description": "UUIDv7, or derived from what it follows from"},
        "type": {"const": payload.TYPE},
        "version": {"type": "integer", "minimum": 1, "maximum": payload.VERSION},
        "occurredAt": {"type": "string", "format": "date-time"},
        "key": {"type": "string", "description": "the record's key, which decides its partition"},
        "payload": payload_schema,
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def json_schemas() -> dict[str, Schema]:
    """One self-contained JSON Schema (2020-12) of the record's value for every event type, by type name."""
    components = _components("#/$defs/{name}")
    return {
        payload.TYPE: {
            "$schema": DIALECT,
            "title": payload.TYPE,
            **_envelope(payload, {"$ref": f"#/$defs/{payload.__name__}"}),
            "$defs": _needed(payload.__name__, components),
        }
        for payload in _payloads()
    }


def _needed(name: str, components: dict[str, Schema]) -> dict[str, Schema]:
    """The component and every one that it refers to."""
    needed = {name: components[name]}
    for other in re.findall(r'"#/\$defs/(\w+)"', json.dumps(components[name])):
        needed |= _needed(other, components)
    return needed


def _message(payload: type[Payload]) -> Schema:
    message: Schema = {
        "name": payload.TYPE,
        "title": payload.__name__,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {"traceparent": {"type": "string", "description": "W3C trace context of the cause"}},
        },
        "payload": {
            "schemaFormat": f"application/vnd.aai.asyncapi+json;version={ASYNCAPI_VERSION}",
            "schema": _envelope(payload, {"$ref": f"#/components/schemas/{payload.__name__}"}),
        },
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }
    if payload.__doc__:
        message["summary"] = " ".join(payload.__doc__.split())
    return message


def _channel(topic: Topic) -> Schema:
    types = [payload.TYPE for of, payload in EVENTS if of is topic] + [Barrier.TYPE]
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. Partition: first 8 hex digits of the key's md5, modulo the partition count. "
        f"Records that can never be applied go to {topic.dead_letters}."
        + (" Restricted: payloads are never logged or listed." if topic.restricted else ""),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in types},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {"retention.ms": topic.retention_ms},
                "bindingVersion": "0.5.0",
            }
        },
    }


def asyncapi() -> Schema:
    """The AsyncAPI 3.0 document: every topic as a channel, every event as a message, every payload as a schema."""
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Events and realtime frames of the platform",
            "version": DOCUMENT_VERSION,
            "description": "Fields are only ever added, with defaults; readers ignore what they do not know. "
            "An optional field that was not set is not written.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS} | {"realtime": _realtime_channel()},
        "operations": {
            f"append.{topic.name}": {"action": "send", "channel": {"$ref": f"#/channels/{topic.name}"}}
            for topic in TOPICS
        } | {
            "realtime.receive": _realtime_operation("receive", "client", CLIENT_FRAMES),
            "realtime.send": _realtime_operation("send", "server", SERVER_FRAMES),
        },
        "components": {
            "messages": {payload.TYPE: _message(payload) for payload in _payloads()} | {
                _frame_name(side, frame): _frame_message(side, frame) for side, frames in FRAME_SETS for frame in frames
            },
            "schemas": _components("#/components/schemas/{name}") | {
                _frame_name(side, frame): _frame_schema(side, frame) for side, frames in FRAME_SETS for frame in frames
            },
        },
    }


def document() -> str:
    """The text of docs/asyncapi.json."""
    return json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
