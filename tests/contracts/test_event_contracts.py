"""Events stay readable for as long as they stand in a log, and the published documents tell the truth about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.contracts import schemas
from configs.contracts.errors import InvalidEvent
from configs.contracts.events import (
    BY_TYPE,
    EVENTS,
    TOPIC_OF,
    Barrier,
    Event,
    Id,
    Instant,
    Payload,
    Swiped,
    decode,
    decode_many,
    encode,
)
from configs.contracts.events.base import ID_PATTERN, NestedId
from configs.contracts.events.checking import lister
from configs.contracts.ids import new_id
from configs.contracts.topics import TOPICS

GOLDEN = Path(__file__).parent / "golden"
ASYNCAPI = Path(__file__).parents[2] / "docs" / "asyncapi.json"
TYPES = [*(payload for _, payload in EVENTS), Barrier]
SCHEMAS = schemas.json_schemas()


@pytest.mark.parametrize("payload", TYPES, ids=lambda payload: payload.TYPE)
def test_every_version_of_every_event_has_a_golden_file(payload: type[Payload]) -> None:
    for version in range(1, payload.VERSION + 1):
        path = GOLDEN / f"{payload.TYPE}.v{version}.json"
        assert path.exists(), f"event {payload.TYPE} version {version} has no {path.relative_to(GOLDEN.parents[2])}"


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_a_golden_event_is_read_and_written_as_it_was(path: Path) -> None:
    """A changed or removed field would make records in logs and dead letters unreadable or lose what they say."""
    name, version = path.name.removesuffix(".json").split(".v")
    assert name in BY_TYPE, f"{path.name}: no such event; the type must stay readable"
    event = decode(path.read_bytes())
    assert isinstance(event.payload, BY_TYPE[name])
    if int(version) == BY_TYPE[name].VERSION:
        assert msgspec.json.format(encode(event), indent=2) + b"\n" == path.read_bytes()
        unset = {field for field in event.payload.__struct_fields__ if getattr(event.payload, field) in (None, {}, ())}
        assert not unset, f"{path.name} shows every field, but not {sorted(unset)}"


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_the_published_schema_accepts_the_golden_event_and_nothing_less(path: Path) -> None:
    document = json.loads(path.read_bytes())
    schema = SCHEMAS[document["type"]]
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(document)
    required = schema["$defs"][BY_TYPE[document["type"]].__name__]["required"]
    for name in required:
        less = document | {"payload": {key: value for key, value in document["payload"].items() if key != name}}
        assert not validator.is_valid(less)
        with pytest.raises(InvalidEvent):
            decode(json.dumps(less).encode())


def test_the_committed_asyncapi_document_is_up_to_date() -> None:
    assert ASYNCAPI.read_text() == schemas.document(), (
        "run: python -m configs.contracts.schemas > docs/asyncapi.json"
    )


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = schemas.asyncapi()

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return found + [reference for value in node.values() for reference in references(value)]
        return [reference for value in node for reference in references(value)] if isinstance(node, list) else []

    found = references(document)
    assert len(found) > len(TYPES) + len(TOPICS)
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_every_event_stands_on_one_channel_and_barriers_on_all() -> None:
    channels = schemas.asyncapi()["channels"]
    sockets = channels.pop("realtime")
    assert set(channels) == {topic.name for topic in TOPICS}
    assert not set(sockets["messages"]) & set(BY_TYPE)
    for payload, topic in TOPIC_OF.items():
        assert [name for name, channel in channels.items() if payload.TYPE in channel["messages"]] == [topic.name]
    assert all(Barrier.TYPE in channel["messages"] for channel in channels.values())


def test_type_names_are_told_apart() -> None:
    assert len(BY_TYPE) == len(TYPES)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind in (Id, NestedId):
        return st.uuids().map(str)
    if kind in (datetime, Instant):
        return st.datetimes(timezones=st.just(UTC))
    if kind is int:
        return st.integers(-(2**53), 2**53)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if get_origin(kind) is tuple:
        return st.lists(values_of(get_args(kind)[0]), max_size=4).map(tuple)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs_of(kind)
    if get_origin(kind) is dict:
        return st.dictionaries(*map(values_of, get_args(kind)))
    if get_origin(kind) is not None and type(None) in get_args(kind):
        return st.none() | st.one_of(*(values_of(part) for part in get_args(kind) if part is not type(None)))
    if get_origin(kind) in (Union, UnionType):
        return st.one_of(*map(values_of, get_args(kind)))
    return st.from_type(kind)


def structs_of(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    return st.fixed_dictionaries({name: values_of(hints[name]) for name in kind.__struct_fields__}).map(
        lambda fields: kind(**fields)
    )


EVENT = st.builds(
    Event, st.uuids().map(str), st.datetimes(timezones=st.just(UTC)), st.text(), st.one_of(*map(structs_of, TYPES))
)


@settings(deadline=None)
@given(EVENT)
def test_an_event_survives_its_record(event: Event) -> None:
    value = encode(event)
    assert decode(value) == event
    jsonschema.validate(json.loads(value), SCHEMAS[event.payload.TYPE])


@settings(deadline=None)
@given(EVENT)
def test_fields_of_later_code_are_ignored(event: Event) -> None:
    """Readers that are not yet deployed anew must go on reading."""
    record = json.loads(encode(event))
    record["addedLater"] = record["payload"]["addedLater"] = {"any": ["thing"]}
    assert decode(json.dumps(record).encode()) == event


def record(**changes: object) -> bytes:
    document = json.loads((GOLDEN / "was_active.v1.json").read_bytes())
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"type": "swiped"}',
        record(type="unheard_of"), record(version=2), record(version="1"), record(occurredAt="2026-03-01T12:00:00"),
        record(occurredAt="yesterday"), record(payload=None), record(payload={}), record(payload={"userId": 1, "activeAt": 2}),
        record(payload={"userId": "u", "activeAt": "2026-03-01T12:00:00"}),
    ],
)
def test_a_record_that_is_no_event_is_refused_as_invalid(value: bytes | None) -> None:
    """Anything else than InvalidEvent would stop the partition instead of going to the dead letters."""
    with pytest.raises(InvalidEvent):
        decode(value)


def test_an_id_has_nothing_behind_it() -> None:
    """``$`` alone would let a line break pass, and shards compute with an id's digits."""
    one, other = new_id(), new_id()
    whole = encode(Event(new_id(), datetime.now(UTC), one, Swiped(swiper_id=one, swiped_id=other, action="like")))
    assert decode(whole).payload.swiped_id == other
    with pytest.raises(InvalidEvent):
        decode(whole.replace(other.encode(), other.encode() + rb"\n"))


def ids_within(schema: dict[str, Any], document: Any, definitions: dict[str, Any]) -> Iterator[list[str | int]]:
    """The path of every id in a document, by its schema."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        yield from ids_within(choice, document, definitions)
    if isinstance(document, str) and schema.get("pattern") == ID_PATTERN:
        yield []
    inside: Iterable[tuple[str | int, Any, dict[str, Any]]] = ()
    if isinstance(document, dict):
        inside = [(name, value, schema.get("properties", {}).get(name, {})) for name, value in document.items()]
    elif isinstance(document, list):
        inside = [(place, value, schema.get("items", {})) for place, value in enumerate(document)]
    for step, value, described in inside:
        yield from ([step, *path] for path in ids_within(described, value, definitions))


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_every_id_of_every_event_must_be_one(path: Path) -> None:
    text = path.read_bytes()
    document = json.loads(text)
    definitions = SCHEMAS[document["type"]]["$defs"]
    paths = list(ids_within(definitions[BY_TYPE[document["type"]].__name__], document["payload"], definitions))
    for *steps, last in paths:
        changed = json.loads(text)
        holder = changed["payload"]
        for step in steps:
            holder = holder[step]
        good = holder[last]
        decode(json.dumps(changed).encode())
        for bad in ("", good.upper(), good[:-1], good[:-1] + "g", good[1:] + "-", good.replace("-", "0"), "é" + good[1:]):
            if bad == good:
                continue  # digits alone have no upper case
            holder[last] = bad
            with pytest.raises(InvalidEvent):
                decode(json.dumps(changed).encode())


def test_ids_of_other_lengths_do_not_make_up_for_each_other() -> None:
    one, other = new_id(), new_id()
    whole = encode(Event(new_id(), datetime.now(UTC), one, Swiped(swiper_id=one, swiped_id=other, action="like")))
    with pytest.raises(InvalidEvent):
        decode(whole.replace(b'"swiperId":"' + one.encode(), b'"swiperId":"' + one[:-1].encode())
               .replace(b'"swipedId":"' + other.encode(), b'"swipedId":"' + one[-1:].encode() + other.encode()))


class Inner(msgspec.Struct):
    person: Id


class Deep(Payload, frozen=True, kw_only=True):
    inner: Inner | None


def test_an_id_where_it_would_not_be_looked_at_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError):
        lister(Deep)


@given(st.lists(st.sampled_from([*(path.read_bytes() for path in sorted(GOLDEN.iterdir())), None, b"", b"{}", b"\xff", record(version=9), record(type="unheard_of"),
                                 record(payload={"userId": "u", "activeAt": "2026-03-01T12:00:00Z"})]), max_size=8))
def test_many_are_decoded_as_each_alone(values: list[bytes | None]) -> None:
    def alone(value: bytes | None) -> Any:
        try:
            return decode(value)
        except InvalidEvent as error:
            return (error.message, error.details)

    together = [(found.message, found.details) if isinstance(found, InvalidEvent) else found for found in decode_many(values)]
    assert together == [alone(value) for value in values]
