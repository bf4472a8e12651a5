"""What routes ask the read model about people: records, relations, and what is missing there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from cluster.connections.reading import Command, Reads, Warming
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.read_model import (
    MARKER,
    Credential,
    UserRecord,
    credential_key,
    read_blocked,
    read_record,
    read_versioned,
    record_key,
    relation_key,
)

_CREDENTIALS: Final = msgspec.json.Decoder(Credential)


def relation_command(user_id: str, other_id: str) -> Command:
    """Reads whether the relations are known, whether ``user_id`` blocks the other, and whether they are blocked."""
    return ("HMGET", relation_key(user_id), MARKER, f"b:{other_id}", f"by:{other_id}")


def relations_commands(user_id: str) -> tuple[Command, Command]:
    """Reads whether the person's relations are known and how many there are, for ``unrelated``."""
    return ("HGET", relation_key(user_id), MARKER), ("HLEN", relation_key(user_id))


def unrelated(marker: bytes | None, count: int) -> bool:
    """Whether the person certainly blocks nobody and is blocked by nobody: there is nothing beside the marker."""
    return marker is not None and count == 1


class People:
    """Reads people's facts; a fact that is missing is warmed once, and then known to be absent."""

    def __init__(self, reads: Reads, people: Warming, addresses: Warming) -> None:
        self._reads = reads
        self._people = people
        self._addresses = addresses

    async def warm(self, user_id: str) -> bool:
        """Has the writers write all of a person's keys; whether there is such a person."""
        return bool(await self._people.ensure((user_id,)))

    async def records(self, user_ids: Sequence[str]) -> dict[str, UserRecord]:
        """The records of those who exist, whatever their status.

        Raises ReadModelUnknown: someone's record is missing although there are rows.
        """
        if not user_ids:
            return {}
        (values,) = await self._reads.read(("MGET", *map(record_key, user_ids)))
        return await self.completed(user_ids, values)

    async def completed(self, user_ids: Sequence[str], values: Sequence[bytes | None]) -> dict[str, UserRecord]:
        """``records`` when their values (in the order of the ids) have been read already."""
        whole = await self._complete(user_ids, values)
        return {
            user_id: read_record(value) for user_id, value in zip(user_ids, whole, strict=True) if value is not None
        }

    async def _complete(self, user_ids: Sequence[str], values: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """The values, those that are missing although there are rows written and read; None: there is no such person.

        Raises ReadModelUnknown: one could not be written.
        """
        if None not in values:
            return values
        missing = [user_id for user_id, value in zip(user_ids, values, strict=True) if value is None]
        existing = await self._people.ensure(missing)
        warmed = [user_id for user_id in missing if user_id in existing]
        if not warmed:
            return values
        (found,) = await self._reads.read(("MGET", *map(record_key, warmed)))
        if None in found:
            raise ReadModelUnknown("record is not written yet")
        written: dict[str, bytes] = dict(zip(warmed, found, strict=True))
        return [value if value is not None else written.get(user_id) for user_id, value in zip(user_ids, values, strict=True)]

    async def own_record(self, user_id: str) -> UserRecord:
        """The record of the person who asks. Raises ReadModelUnknown: it is not written yet."""
        record = (await self.records((user_id,))).get(user_id)
        if record is None or record.role is None:
            raise ReadModelUnknown("own record is not written yet")
        return record

    async def sets(self, user_id: str, *commands: Command, marked: Iterable[int]) -> list[Any]:
        """Replies about a person's sets. ``marked``: which replies begin with a marker that must be there.

        Warms the person when a marker is missing. Raises ReadModelUnknown: still missing.
        """
        marked = tuple(marked)
        for warm in (True, False):
            replies: list[Any] = await self._reads.read(*commands)
            if all(replies[index][0] is not None for index in marked):
                return replies
            if warm and not await self.warm(user_id):
                break
        raise ReadModelUnknown("the person's sets are not written yet")

    async def relation(self, user_id: str, other_id: str) -> tuple[bool, bool]:
        """(whether ``user_id`` blocks the other, whether the other blocks them)."""
        ((marker, blocks, blocked),) = await self.sets(user_id, relation_command(user_id, other_id), marked=(0,))
        return read_blocked(marker, blocks), read_blocked(marker, blocked)

    async def visible(self, viewer_id: str, other_id: str) -> UserRecord | None:
        """The record of another person, or None when they do not exist, or either blocks the other."""
        value, relation = await self._reads.read(("GET", record_key(other_id)), relation_command(viewer_id, other_id))
        if relation[0] is None:
            (relation,) = await self.sets(viewer_id, relation_command(viewer_id, other_id), marked=(0,))
        record = read_record(value) if value is not None else (await self.completed((other_id,), (None,))).get(other_id)
        if record is None or not record.exists or read_blocked(relation[0], relation[1], relation[2]):
            return None
        return record

    async def unblocked(self, viewer_id: str, user_ids: Sequence[str]) -> dict[str, UserRecord]:
        """The records of those among ``user_ids`` who are active and neither block the viewer nor are blocked."""
        if not user_ids:
            return {}
        values = await self.values(viewer_id, user_ids, self.ask_values(viewer_id, user_ids))
        return {
            user_id: record for user_id, value in zip(user_ids, values, strict=True)
            if value is not None and (record := read_record(value)).exists
        }

    def ask_values(self, viewer_id: str, user_ids: Sequence[str], *, unrelated: bool = False) -> asyncio.Future[list[Any]]:
        """Starts the read of ``values``, to await something else meanwhile.

        ``unrelated``: the viewer is known to block nobody and to be blocked by nobody (``relations_commands``).
        """
        records = ("MGET", *map(record_key, user_ids))
        if unrelated:
            return self._reads.read(records)
        fields = [side + user_id for user_id in user_ids for side in ("b:", "by:")]
        return self._reads.read(records, ("HMGET", relation_key(viewer_id), MARKER, *fields))

    async def values(
        self, viewer_id: str, user_ids: Sequence[str], asked: asyncio.Future[list[Any]]
    ) -> Sequence[bytes | None]:
        """The record of each person as it is stored, None for those who do not exist, block the viewer or are blocked."""
        values, *relations = await asked
        if relations and relations[0][0] is None:
            if not await self.warm(viewer_id):
                raise ReadModelUnknown("the person's sets are not written yet")
            values, *relations = await self.ask_values(viewer_id, user_ids)
        values = await self._complete(user_ids, values)
        if not relations:
            return values
        marker, *fields = relations[0]
        if marker is not None and not any(fields):
            return values
        return [
            None if read_blocked(marker, *fields[2 * index : 2 * index + 2]) else value
            for index, value in enumerate(values)
        ]

    async def credential(self, email_hash: str) -> Credential | None:
        """What Redis knows of an address; None: nothing (``fresh_credential`` makes sure)."""
        (value,) = await self._reads.read(("GET", credential_key(email_hash)))
        return None if value is None else _CREDENTIALS.decode(read_versioned(value)[1])

    async def fresh_credential(self, email_hash: str) -> Credential | None:
        """The credential as the rows have it, or newer."""
        await self._addresses.ensure((email_hash,))
        return await self.credential(email_hash)
