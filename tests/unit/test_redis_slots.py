"""Which slot a key has, how commands of many slots are split and put together, and which addresses name a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from cluster.connections.redis_topology import cluster_address, read_topology
from configs.contracts.albums import media_key
from configs.contracts.content import comments_keys, counts_key, media_posts_key, post_key
from configs.contracts.conversations import head_key, window_key
from configs.contracts.errors import ConfigurationError
from configs.contracts.read_model import (
    GENERATION,
    NotificationEntry,
    forget_person,
    listing_keys,
    open_person,
    put_notification,
    put_record,
)
from configs.contracts.realtime import devices_key, frames_channel, seen_key
from configs.contracts.slots import PARTS, SLOTS, keys_of, part_key, slot_of, split
from writers.rebuild import TOKENS

THIRDS = [
    [0, 5460, [b"10.0.0.1", 6379, b"a", []], [b"10.0.0.4", 6379, b"d", []]],
    [5461, 10922, [b"10.0.0.2", 6379, b"b", []]],
    [10923, 16383, [b"", 6380, b"c", []]],
]


@given(st.binary())
def test_slots_are_those_of_the_servers(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


@pytest.mark.parametrize("keys", [
    put_record("u", {"bio": ""}, 1).keys, open_person("u").keys, forget_person("u").keys,
    put_notification("u", NotificationEntry("n", "match", "", None, {}, ""), version=1, at_ms=1).keys,
    listing_keys("match", "u"), (devices_key("u"), seen_key("u"), frames_channel("u")), (head_key("c"), window_key("c")),
    (post_key("p"), counts_key("p"), *comments_keys("p")), (media_key("m"), media_posts_key("m")), (GENERATION, TOKENS),
])
def test_the_keys_of_one_script_are_one_slot(keys: tuple[str, ...]) -> None:
    assert len(set(map(slot_of, keys))) == 1


def test_markers_lie_evenly_over_the_slots() -> None:
    assert [slot_of(part_key(part)) * PARTS // SLOTS for part in range(PARTS)] == list(range(PARTS))


def test_a_script_is_found_by_its_keys_and_a_channel_by_its_name() -> None:
    assert keys_of(("EVALSHA", "0" * 40, 2, "a", "b", "argument")) == ("a", "b")
    assert keys_of(("SPUBLISH", "rt:{u}", b"frame")) == ("rt:{u}",)
    assert keys_of(("PING",)) == ()


@given(st.lists(st.one_of(
    st.tuples(st.just("GET"), st.text(min_size=1)),
    st.lists(st.text(min_size=1), min_size=1, max_size=5).map(lambda keys: ("MGET", *keys)),
    st.lists(st.text(min_size=1), min_size=1, max_size=5).map(lambda keys: ("UNLINK", *keys)),
), max_size=8))
def test_what_is_split_is_put_together_in_its_order(commands: list[tuple[str, ...]]) -> None:
    parts = split(commands)
    assert all(len({slot_of(key) for key in keys_of(sent)}) == 1 for sent in parts.sent)
    assert [slot_of(keys_of(sent)[0]) for sent in parts.sent] == parts.slots
    replies = parts.together([1 if sent[0] == "UNLINK" else sent[1] for sent in parts.sent])
    expected = [
        list(keys) if name == "MGET" else len(keys) if name == "UNLINK" else keys[0] for name, *keys in commands
    ]
    assert replies == expected


def test_a_part_that_failed_stands_for_the_whole() -> None:
    parts = split([("MGET", "a", "b"), ("GET", "a")])
    failure = OSError()
    assert parts.together(["a", failure, "a"]) == [failure, "a"]


def test_owners_and_markers_are_read_from_what_a_node_says() -> None:
    topology = read_topology(THIRDS, "10.0.0.9:7000")
    assert topology.primaries == ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.9:6380"]
    assert {owner: topology.owner(slot_of(key)) for owner, key in topology.markers.items()} == {
        name: name for name in topology.primaries
    }
    assert topology.owner(-1) == "10.0.0.1:6379"


def test_slots_that_nobody_owns_have_no_owner() -> None:
    assert read_topology(THIRDS[:1], "10.0.0.1:6379").owner(16383) == ""


def test_addresses_of_a_cluster() -> None:
    assert cluster_address("redis://:secret@cache:6379/0") is None
    address = cluster_address("rediss+cluster://user:secret@a:1,b")
    assert address is not None
    assert address.seeds == ("a:1", "b:6379")
    assert address.url("c:3") == "rediss://user:secret@c:3"
    trusting = cluster_address("rediss+cluster://:secret@a:1/0?ssl_ca_certs=/ca.crt")
    assert trusting is not None
    assert trusting.url("c:3") == "rediss://:secret@c:3?ssl_ca_certs=/ca.crt"
    for wrong in ("redis+cluster://", "redis+cluster://a:1/3"):
        with pytest.raises(ConfigurationError):
            cluster_address(wrong)
