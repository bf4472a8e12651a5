"""A person's export as the read model tells of it, for a minute after somebody has asked the writers."""

from __future__ import annotations

from typing import Final

import msgspec

from configs.contracts.read_model import Operation

EXPORT_TTL_S: Final = 60


class Export(msgspec.Struct, frozen=True, rename="camel"):
    """A file in the media store."""

    key: str
    bytes: int
    made_at: str


def export_key(user_id: str) -> str:
    return f"export:{{{user_id}}}"


def put_export(user_id: str, export: Export) -> Operation:
    return Operation("cache", (export_key(user_id),), (msgspec.json.encode(export), EXPORT_TTL_S))


_EXPORTS: Final = msgspec.json.Decoder(Export)


def read_export(value: bytes) -> Export:
    """What ``put_export`` wrote."""
    return _EXPORTS.decode(value)
