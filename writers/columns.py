"""Columns of a batch as PostgreSQL binary arrays, ready for ``unnest``: one pass a column instead of one a value.

Each builder takes n values and returns a parameter that psycopg sends untouched. A value that does not fit its type
raises InvalidEvent: the record can never be stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

from configs.contracts.errors import InvalidEvent

_HEADER = struct.Struct(">iiIii")
_NULL = b"\xff\xff\xff\xff"
_LENGTH = struct.Struct(">i")
_HYPHENS = (8, 13, 18, 23)
_DIGITS = np.array([index for index in range(36) if index not in _HYPHENS])
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""What PostgreSQL counts microseconds from."""
MICROSECOND = timedelta(microseconds=1)
_EPOCH_DAY = date(2000, 1, 1).toordinal()


class Column:
    """One array parameter in PostgreSQL's binary form."""

    __slots__ = ("data",)
    OID: ClassVar[int]

    def __init__(self, data: bytes) -> None:
        self.data = data


class Uuids(Column):
    OID = 2951


class Bigints(Column):
    OID = 1016


class Integers(Column):
    OID = 1007


class Smallints(Column):
    OID = 1005


class Doubles(Column):
    OID = 1022


class Booleans(Column):
    OID = 1000


class Timestamps(Column):
    OID = 1185


class Dates(Column):
    OID = 1182


class Texts(Column):
    OID = 1009


class ByteStrings(Column):
    OID = 1001


_ELEMENT = {
    Uuids: 2950, Bigints: 20, Integers: 23, Smallints: 21, Doubles: 701, Booleans: 16, Timestamps: 1184, Dates: 1082,
    Texts: 25, ByteStrings: 17,
}


def _dumper(kind: type[Column]) -> type[Dumper]:
    class ColumnDumper(Dumper):
        format = Format.BINARY
        oid = kind.OID

        def dump(self, obj: Any) -> bytes:
            data: bytes = obj.data
            return data

    return ColumnDumper


_DUMPERS = {kind: _dumper(kind) for kind in _ELEMENT}


def register(context: AdaptContext) -> None:
    """Lets a connection send columns; once a connection."""
    for kind, dumper in _DUMPERS.items():
        context.adapters.register_dumper(kind, dumper)


def _fixed(kind: type[Column], values: NDArray[Any], dtype: DTypeLike, size: int) -> Any:
    """An array without NULLs of fixed-size elements."""
    packed = np.empty(len(values), dtype=np.dtype([("length", ">i4"), ("value", dtype)]))
    packed["length"] = size
    packed["value"] = values
    return kind(_header(kind, len(values), nulls=False) + packed.tobytes())


def _header(kind: type[Column], count: int, *, nulls: bool) -> bytes:
    return _HEADER.pack(1 if count else 0, nulls, _ELEMENT[kind], count, 1)[: None if count else 12]


def _variable(kind: type[Column], values: Iterable[bytes | None]) -> Any:
    parts: list[bytes] = []
    count, nulls, pack = 0, False, _LENGTH.pack
    for value in values:
        count += 1
        if value is None:
            nulls = True
            parts.append(_NULL)
        else:
            parts.append(pack(len(value)))
            parts.append(value)
    return kind(_header(kind, count, nulls=nulls) + b"".join(parts))


def nulls(kind: type[Column], count: int) -> Any:
    """``count`` NULLs."""
    return kind(_header(kind, count, nulls=True) + _NULL * count)


def uuid_bytes(texts: Sequence[str]) -> NDArray[np.void]:
    """(n,) 16-byte values of ids in canonical text (36 characters). Raises InvalidEvent."""
    joined = "".join(texts)
    if len(joined) != 36 * len(texts) or not joined.isascii():
        raise InvalidEvent("not an id")
    letters = np.frombuffer(joined.encode(), np.uint8).reshape(len(texts), 36)
    if len(texts) and not (letters[:, _HYPHENS] == ord("-")).all():
        raise InvalidEvent("not an id")
    try:
        raw = bytes.fromhex(letters[:, _DIGITS].tobytes().decode())
    except ValueError as error:
        raise InvalidEvent("not an id") from error
    if len(raw) != 16 * len(texts):
        raise InvalidEvent("not an id")
    return np.frombuffer(raw, np.dtype("V16"))


def uuids(texts: Sequence[str | None]) -> Uuids:
    """Ids in canonical text; None is NULL."""
    present = [text for text in texts if text is not None]
    if not present and texts:
        return nulls(Uuids, len(texts))  # type: ignore[no-any-return]
    raw = uuid_bytes(present)
    if len(present) == len(texts):
        return _fixed(Uuids, raw, "V16", 16)  # type: ignore[no-any-return]
    left = iter(raw)
    return _variable(Uuids, (None if text is None else bytes(next(left)) for text in texts))  # type: ignore[no-any-return]


def bigints(values: Sequence[int] | NDArray[Any]) -> Bigints:
    return _fixed(Bigints, _integers(values, np.int64), ">i8", 8)  # type: ignore[no-any-return]


def integers(values: Sequence[int] | NDArray[Any]) -> Integers:
    return _fixed(Integers, _integers(values, np.int32), ">i4", 4)  # type: ignore[no-any-return]


def smallints(values: Sequence[int] | NDArray[Any]) -> Smallints:
    return _fixed(Smallints, _integers(values, np.int16), ">i2", 2)  # type: ignore[no-any-return]


def _integers(values: Sequence[int] | NDArray[Any], kind: type[np.signedinteger[Any]]) -> NDArray[Any]:
    try:
        return np.asarray(values, dtype=kind)
    except OverflowError as error:
        raise InvalidEvent("number is out of range", type=kind.__name__) from error


def nullable_bigints(values: Iterable[int | None]) -> Bigints:
    try:
        return _variable(  # type: ignore[no-any-return]
            Bigints, (None if value is None else value.to_bytes(8, "big", signed=True) for value in values)
        )
    except OverflowError as error:
        raise InvalidEvent("number is out of range", type="int64") from error


def nullable_doubles(values: Iterable[float | None]) -> Doubles:
    pack = struct.Struct(">d").pack
    return _variable(Doubles, (None if value is None else pack(value) for value in values))  # type: ignore[no-any-return]


def booleans(values: Sequence[bool] | NDArray[np.bool_]) -> Booleans:
    return _fixed(Booleans, np.asarray(values, dtype=np.uint8), ">u1", 1)  # type: ignore[no-any-return]


def timestamps(values: Sequence[datetime | None]) -> Timestamps:
    """Times with an offset; None is NULL."""
    try:
        present = [at for at in values if at is not None]
        if len(present) == len(values):
            return _fixed(  # type: ignore[no-any-return]
                Timestamps, np.fromiter([(at - EPOCH) // MICROSECOND for at in present], np.int64, len(present)), ">i8", 8,
            )
        return _variable(  # type: ignore[no-any-return]
            Timestamps,
            (None if at is None else ((at - EPOCH) // MICROSECOND).to_bytes(8, "big", signed=True) for at in values),
        )
    except (OverflowError, ValueError) as error:
        raise InvalidEvent("time is out of range") from error


def dates(values: Iterable[date | None]) -> Dates:
    return _variable(  # type: ignore[no-any-return]
        Dates, (None if day is None else (day.toordinal() - _EPOCH_DAY).to_bytes(4, "big", signed=True) for day in values)
    )


def texts(values: Iterable[str | None]) -> Texts:
    """Texts without NUL; None is NULL."""
    try:
        encoded = [None if value is None else value.encode() for value in values]
    except UnicodeEncodeError as error:
        raise InvalidEvent("text cannot be encoded") from error
    if any(value is not None and b"\0" in value for value in encoded):
        raise InvalidEvent("text holds a zero byte")
    return _variable(Texts, encoded)  # type: ignore[no-any-return]


def byte_strings(values: Iterable[bytes | None]) -> ByteStrings:
    return _variable(ByteStrings, values)  # type: ignore[no-any-return]

