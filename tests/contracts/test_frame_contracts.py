"""Frames of the realtime socket: what is published is what the gateway takes and sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from configs.contracts import schemas
from configs.contracts.frames import (
    CLIENT_FRAMES,
    CLOSE_CODES,
    ERRORS,
    SERVER_FRAMES,
    FrameRefused,
    encode,
    error,
    read_client,
    read_server,
)

GOLDEN = Path(__file__).parent / "golden_frames"
DOCUMENT = schemas.asyncapi()
SIDES = {"client": (CLIENT_FRAMES, read_client), "server": (SERVER_FRAMES, read_server)}
FRAMES = [(side, frame) for side, (frames, _) in SIDES.items() for frame in frames]


def name_of(side: str, frame: Any) -> str:
    return f"{side}.{frame.__struct_config__.tag}"


@pytest.mark.parametrize(("side", "frame"), FRAMES, ids=[name_of(*item) for item in FRAMES])
def test_every_frame_has_a_golden_file_that_is_read_and_written_as_it_was(side: str, frame: Any) -> None:
    """A changed or removed field would break the apps that are out there."""
    path = GOLDEN / f"{name_of(side, frame)}.json"
    assert path.exists(), f"no {path.relative_to(GOLDEN.parents[1])}"
    read = SIDES[side][1](path.read_bytes())
    assert isinstance(read, frame)
    assert json.loads(encode(read)) == json.loads(path.read_bytes())


@pytest.mark.parametrize(("side", "frame"), FRAMES, ids=[name_of(*item) for item in FRAMES])
def test_the_published_schema_accepts_the_golden_frame_and_nothing_less(side: str, frame: Any) -> None:
    document = json.loads((GOLDEN / f"{name_of(side, frame)}.json").read_bytes())
    schema = DOCUMENT["components"]["schemas"][name_of(side, frame)]
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(document)
    for name in schema["required"]:
        less = {key: value for key, value in document.items() if key != name}
        assert not validator.is_valid(less), f"without {name}"
        with pytest.raises(FrameRefused):
            SIDES[side][1](json.dumps(less))


def test_the_gateway_refuses_fields_it_does_not_know_and_clients_ignore_them() -> None:
    with pytest.raises(FrameRefused) as refused:
        read_client('{"type": "ping", "more": 1}')
    assert refused.value.message == "invalid"
    assert read_server('{"type": "pong", "more": 1}') == read_server('{"type": "pong"}')


def test_the_document_names_every_error_and_close_code() -> None:
    description = DOCUMENT["channels"]["realtime"]["description"]
    assert all(f"`{code}`" in description for code in ERRORS)
    assert all(str(close.code) in description for close in CLOSE_CODES)
    assert len({close.code for close in CLOSE_CODES}) == len(CLOSE_CODES)
    assert all(len(close.title.encode()) <= 123 for close in CLOSE_CODES), "RFC 6455 bounds the reason"
    for code in ERRORS:
        assert msgspec.json.decode(encode(error(code)))["code"] == code
