"""The read model's pure parts: keys in one slot, operations, and telling unknown from empty."""

from __future__ import annotations

import re

import msgspec
import pytest

from configs.contracts import read_model
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.positions import version_of, version_text
from configs.contracts.read_model import (
    LISTING_BOUNDS,
    MARKED_LISTINGS,
    SCRIPTS,
    Credential,
    LikeEntry,
    MatchEntry,
    NotificationEntry,
    Operation,
    UserRecord,
    open_person,
    put_credential,
    put_entry,
    put_notification,
    put_record,
    put_relation,
    read_blocked,
    read_record,
    read_versioned,
)
from configs.contracts.record_scripts import MATCH_FIELDS

VERSION = version_of(2, 77)
ENTRY = MatchEntry("m", "other", "2026-03-01T12:00:00Z", 1)
OPERATIONS = [
    put_record("u", {"bio": "x", "ageMin": 20}, VERSION),
    put_relation("u", "v", by_other=True, blocked=True, version=VERSION),
    put_entry("match", "u", "m", ENTRY, version=VERSION, at_ms=1),
    put_entry("like", "u", "v", LikeEntry("v", "like", "2026-03-01T12:00:00Z"), version=VERSION, at_ms=None),
    put_notification("u", NotificationEntry("n", "match", "t", None, {}, "2026-03-01T12:00:00Z"), version=VERSION, at_ms=1),
    put_credential("h", Credential("u", "hash"), VERSION),
    open_person("u"),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.script)
def test_all_keys_of_an_operation_share_one_slot(operation: Operation) -> None:
    """Redis Cluster refuses a script whose keys lie in several slots."""
    tags = {match.group(1) for key in operation.keys if (match := re.search(r"\{(.+?)\}", key))}
    assert len(tags) == 1
    assert all("{" in key for key in operation.keys)
    assert operation.script in SCRIPTS


def test_a_record_carries_each_field_as_json_with_one_version() -> None:
    operation = OPERATIONS[0]
    assert operation.args == ("u", version_text(VERSION), "bio", b'"x"', "ageMin", b"20")


def test_fields_that_matter_for_matching_are_fields_of_the_record() -> None:
    encoded = {field.encode_name for field in msgspec.structs.fields(UserRecord)}
    assert set(MATCH_FIELDS) < encoded
    assert "bio" not in MATCH_FIELDS


def test_an_entry_that_is_taken_out_leaves_its_version_and_its_listing_a_bound() -> None:
    put, taken = OPERATIONS[2], OPERATIONS[3]
    assert put.args[3:] == (1, LISTING_BOUNDS["match"])
    assert taken.args[3:] == ("", LISTING_BOUNDS["like"])
    assert taken.args[1] == version_text(VERSION)


def test_a_new_persons_sets_are_marked_as_known() -> None:
    keys = set(open_person("u").keys)
    assert keys == {read_model.relation_key("u")} | {read_model.listing_keys(listing, "u")[1] for listing in MARKED_LISTINGS}


def test_a_stored_value_gives_back_its_version_and_its_rest() -> None:
    args = put_credential("h", Credential("u", "hash"), VERSION).args
    stored = str(args[0]).encode() + bytes(args[1])  # type: ignore[arg-type]
    version, rest = read_versioned(stored)
    assert version == VERSION
    assert msgspec.json.decode(rest, type=Credential) == Credential("u", "hash")


def test_no_marker_means_unknown_and_never_empty() -> None:
    """Otherwise a lost key would show blocked people to each other."""
    with pytest.raises(ReadModelUnknown):
        read_blocked(None, None, None)
    with pytest.raises(ReadModelUnknown):
        read_blocked(None, version_text(1).encode() + b"1")


@pytest.mark.parametrize(
    ("fields", "blocked"), [((None, None), False), ((b"0", None), False), ((b"1", b"0"), True), ((None, b"1"), True)]
)
def test_either_direction_blocks(fields: tuple[bytes | None, ...], blocked: bool) -> None:
    stamped = [None if field is None else version_text(VERSION).encode() + field for field in fields]
    assert read_blocked(b"1", *stamped) is blocked


@pytest.mark.parametrize(
    ("text", "exists"),
    [
        (b'{"userId":"u"}', False),
        (b'{"userId":"u","bio":"came before the creation"}', False),
        (b'{"userId":"u","role":"sugar_baby"}', True),
        (b'{"userId":"u","role":"sugar_baby","status":"deleted"}', False),
    ],
)
def test_a_person_exists_once_created_and_until_deleted(text: bytes, exists: bool) -> None:
    assert read_record(text).exists is exists


def test_a_new_persons_preferences_are_the_documented_ones() -> None:
    record = read_record(b'{"userId":"u","role":"sugar_baby","fieldOfLaterCode":1}')
    assert (record.age_min, record.age_max, record.max_distance_km) == (18, 99, 50)
    assert (record.roles, record.genders, record.hide_distance, record.discoverable) == (None, (), False, True)
