"""Ids, partitions and versions: fixed for ever, since rows, logs and other systems hold what they gave."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.contracts import ids
from configs.contracts.positions import OFFSET_BITS, Position, version_of, version_text

UUIDS = st.uuids().map(str)


def test_new_ids_are_version_7_and_grow() -> None:
    made = [ids.new_id() for _ in range(1_000)]
    assert all(UUID(value).version == 7 and value == str(UUID(value)) for value in made)
    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_derived_ids_are_what_they_were() -> None:
    """Changing the namespace or the text would make old parents' consequences happen again."""
    assert ids.derived_id("parent", "role") == "d698604e-2848-52cd-9c31-4b7d84d11d8c"
    assert ids.match_id("b", "a") == "f9e9c318-2b9f-5352-b05c-cf83afe9545f"


@given(UUIDS, UUIDS)
def test_both_sides_of_a_pair_name_the_same_match(one: str, other: str) -> None:
    assert ids.match_id(one, other) == ids.match_id(other, one)
    low, high = ids.pair(one, other)
    assert (low, high) == ids.pair(other, one)
    assert low <= high


@given(UUIDS, UUIDS, UUIDS)
def test_different_pairs_have_different_matches(one: str, two: str, three: str) -> None:
    if len({one, two, three}) == 3:
        assert len({ids.match_id(one, two), ids.match_id(one, three), ids.match_id(two, three)}) == 3


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("ju\u0308rgen@example.org", "j\u00fcrgen@example.org"),
        ("\u00c5sa@example.org", "a\u030asa@example.org"),
    ],
)
def test_one_address_in_several_spellings(address: str, same: str) -> None:
    assert ids.email_hash(address) == ids.email_hash(same)


@pytest.mark.parametrize("other", ["a.da@example.org", "ada+x@example.org", " ada@example.org", "ada@example.org."])
def test_nothing_else_is_normalised(other: str) -> None:
    """Dots and tags mean different mailboxes at some providers."""
    assert ids.email_hash(other) != ids.email_hash("ada@example.org")


def test_an_address_is_keyed_by_its_md5() -> None:
    assert ids.email_hash("Ada@example.org") == hashlib.md5(b"ada@example.org").hexdigest()


@given(st.text(), st.integers(0, 10).map(lambda power: 2**power))
def test_a_partition_is_the_md5s_first_eight_digits(key: str, partitions: int) -> None:
    expected = int(hashlib.md5(key.encode()).hexdigest()[:8], 16) % partitions
    assert ids.partition_of(key, partitions) == expected
    assert 0 <= expected < partitions


def test_partitions_are_what_they_were() -> None:
    assert [ids.partition_of(key, 16) for key in ("", "a", "user")] == [9, 9, 1]


@given(st.uuids())
def test_key64_is_the_low_half(value: UUID) -> None:
    assert ids.key64(str(value)) == value.int & (2**64 - 1)


@given(st.integers(1, 8_191), st.integers(0, 2**OFFSET_BITS - 1), st.integers(1, 8_191), st.integers(0, 2**OFFSET_BITS - 1))
def test_versions_compare_like_positions_as_numbers_texts_and_doubles(g1: int, o1: int, g2: int, o2: int) -> None:
    """Rows compare integers, Redis compares texts and Lua may hold doubles: all must agree."""
    one, two = Position(g1, o1), Position(g2, o2)
    v1, v2 = one.version, two.version
    assert (v1, v2) == (version_of(g1, o1), version_of(g2, o2))
    assert (v1 < v2) == (one < two) == (version_text(v1) < version_text(v2)) == (float(v1) < float(v2))
    assert len(version_text(v1)) == 16
    assert int(version_text(v1), 16) == v1


def test_every_version_is_after_none() -> None:
    assert version_of(1, 0) > 0
