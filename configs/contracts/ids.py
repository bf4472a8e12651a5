"""Identifiers: how they are made, derived, hashed and assigned to partitions."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import NewType
from uuid import UUID, uuid5

import uuid_utils

UserId = NewType("UserId", str)
MatchId = NewType("MatchId", str)
EventId = NewType("EventId", str)
FamilyId = NewType("FamilyId", str)
EmailHash = NewType("EmailHash", str)

NAMESPACE = UUID("6f1c7c1e-35a5-5d0f-9d0a-6a2a4c1f0b57")
"""Namespace of every derived id (RFC 9562 version 5); never change it."""


def new_id() -> str:
    """A new UUIDv7 in canonical lower-case text."""
    return str(uuid_utils.uuid7())


def derived_id(parent: str, role: str) -> str:
    """The id of what follows from ``parent`` in the given role: the same on every retry and replica."""
    return str(uuid5(NAMESPACE, f"{parent}:{role}"))


def pair(one: str, other: str) -> tuple[str, str]:
    """Both user ids, lower first; the shard of the lower one is the pair's authority."""
    return (one, other) if one < other else (other, one)


def match_id(one: str, other: str) -> MatchId:
    """The id of the match of an unordered pair; also its conversation's id."""
    low, high = pair(one, other)
    return MatchId(derived_id(f"{low}:{high}", "match"))


def normalised_address(address: str) -> str:
    """The form in which e-mail addresses are compared: NFC, lower case, nothing else."""
    return unicodedata.normalize("NFC", address).lower()


def email_hash(address: str) -> EmailHash:
    """The md5 of the normalised address in hex: the key of auth.accounts (not a secret)."""
    return EmailHash(hashlib.md5(normalised_address(address).encode(), usedforsecurity=False).hexdigest())


def identity_hash(issuer: str, subject: str) -> str:
    """The md5 of a provider's identity in hex: the key of auth.identities (not a secret)."""
    return hashlib.md5(f"{issuer} {subject}".encode(), usedforsecurity=False).hexdigest()


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: the first 8 hex digits of its md5, modulo the partition count."""
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:8], 16) % partitions


def key64(user_id: str) -> int:
    """The low 64 bits of a UUID as an unsigned integer: how shards remember a swiped person.

    62 of the bits are random, so two of 2 million people share a value with probability 4e-7.
    """
    return int(user_id[19:23] + user_id[24:], 16)


def ids_of(raw: bytes) -> list[str]:
    """The canonical texts of ids that stand one after another as 16 bytes each."""
    h = raw.hex()
    return [
        f"{h[at : at + 8]}-{h[at + 8 : at + 12]}-{h[at + 12 : at + 16]}-{h[at + 16 : at + 20]}-{h[at + 20 : at + 32]}"
        for at in range(0, len(h), 32)
    ]


def packed_keys(user_ids: Iterable[str]) -> bytes:
    """The ``key64`` of each, little-endian, 8 bytes apiece: how sets of people travel between processes."""
    return b"".join([key64(user_id).to_bytes(8, "little") for user_id in user_ids])
