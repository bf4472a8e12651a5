"""What routes ask the read model about conversations: who takes part, last messages, read marks, pages of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cluster.connections.reading import Reads, Warming
from configs.contracts.conversations import (
    PAGE_MESSAGES,
    WINDOW,
    WINDOW_MESSAGES,
    MessageEntry,
    head_key,
    page_key,
    page_name,
    read_mark,
    read_message,
    read_page,
    window_key,
)
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.read_model import MARKER, MatchEntry, listing_keys, read_versioned
from serve_apps.people import People
from serve_apps.problems import Refused

GAP_S: Final = 0.5
"""How long a message that is acknowledged but not in the read model yet is waited for: projections follow in 0.3 s."""
GAP_POLL_S: Final = 0.05

_ENTRIES: Final = msgspec.json.Decoder(MatchEntry)


@dataclass(frozen=True, slots=True)
class Head:
    """A conversation as one of its members sees it in a list."""

    last_seq: int = 0
    last: MessageEntry | None = None
    read_seq: int = 0
    other_read_seq: int = 0
    unread: int = 0


class Conversations:
    """Conversations in the read model; what is missing there is warmed once."""

    def __init__(self, reads: Reads, people: People, heads: Warming, pages: Warming) -> None:
        self._reads = reads
        self._people = people
        self._heads = heads
        self._pages = pages

    async def entries(self, user_id: str, conversation_ids: Sequence[str]) -> dict[str, MatchEntry]:
        """Those in which the person takes part now. Raises ReadModelUnknown."""
        if not conversation_ids:
            return {}
        _, key = listing_keys("conv", user_id)
        ((_, *values),) = await self._people.sets(user_id, ("HMGET", key, MARKER, *conversation_ids), marked=(0,))
        found = [_ENTRIES.decode(read_versioned(value)[1]) for value in values if value is not None]
        return {entry.match_id: entry for entry in found if entry.status == "active"}

    async def entry(self, user_id: str, conversation_id: str) -> MatchEntry:
        """Raises Refused: there is no such conversation for this person."""
        entry = (await self.entries(user_id, (conversation_id,))).get(conversation_id)
        if entry is None:
            raise Refused("not_found")
        return entry

    async def heads(self, user_id: str, entries: Iterable[MatchEntry]) -> dict[str, Head]:
        """By conversation. Raises ReadModelUnknown: one is not written yet."""
        wanted = list(entries)
        if not wanted:
            return {}
        found: dict[str, Head] = {}
        for warm in (True, False):
            replies = await self._reads.read(*(
                ("HMGET", head_key(entry.match_id), MARKER, "last", "top", f"r:{user_id}", f"r:{entry.other_id}")
                for entry in wanted
            ))
            missing = []
            for entry, (marker, last, top, mine, others) in zip(wanted, replies, strict=True):
                if marker is None:
                    missing.append(entry)
                else:
                    found[entry.match_id] = _head(user_id, last, top, mine, others)
            if not missing:
                return found
            if not warm:
                break
            await self._heads.ensure(entry.match_id for entry in missing)
            wanted = missing
        raise ReadModelUnknown("the conversation is not written yet")

    async def messages(self, conversation_id: str, last_seq: int, seqs: Sequence[int]) -> list[MessageEntry]:
        """The messages with these numbers, in order; all of them exist. Raises ReadModelUnknown: one is not there yet."""
        newer = [seq for seq in seqs if seq > last_seq - WINDOW_MESSAGES]
        older = [seq for seq in seqs if seq <= last_seq - WINDOW_MESSAGES]
        found = await self._window(conversation_id, newer) if newer else {}
        if older:
            found |= await self._older(conversation_id, older)
        return [found[seq] for seq in seqs]

    async def _window(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, MessageEntry]:
        loop = asyncio.get_running_loop()
        end = loop.time() + GAP_S
        warmed = False
        while True:
            (values,) = await self._reads.read(("HMGET", window_key(conversation_id), *seqs))
            if all(value is not None for value in values):
                return {seq: read_message(value) for seq, value in zip(seqs, values, strict=True)}
            if warmed:
                await asyncio.sleep(GAP_POLL_S)
            else:
                await self._pages.ensure((page_name(conversation_id, WINDOW),))
                warmed = True
            if loop.time() >= end:
                raise ReadModelUnknown("messages are not written yet")

    async def _older(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, MessageEntry]:
        names = list(dict.fromkeys(page_name(conversation_id, (seq - 1) // PAGE_MESSAGES) for seq in seqs))
        pages: Mapping[str, bytes | None] = {}
        for warm in (True, False):
            replies = await self._reads.read(*(("GET", page_key(name)) for name in names))
            pages = dict(zip(names, replies, strict=True))
            missing = [name for name, value in pages.items() if value is None]
            if missing and warm:
                await self._pages.ensure(missing)
            elif missing:
                raise ReadModelUnknown("older messages are not written yet")
            else:
                break
        entries = {entry.seq: entry for value in pages.values() if value is not None for entry in read_page(value)}
        return {seq: entries[seq] for seq in seqs}


def _head(user_id: str, last: bytes | None, top: bytes | None, mine: bytes | None, others: bytes | None) -> Head:
    read_seq, read = read_mark(mine)
    entry = None if top is None else read_message(top)
    if entry is None:
        return Head(0, None, read_seq, read_mark(others)[0], 0)
    received = entry.seq - entry.ordinal if entry.sender_id == user_id else entry.ordinal
    return Head(int(last or 0), entry, read_seq, read_mark(others)[0], max(0, received - read))
