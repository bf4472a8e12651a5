"""Decks from all card actors at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from actors.cards.commands import Deck, DeckEntry, DeckQuery, Explain, Explanation, Noted, NotedPayload, Shortlist
from configs.contracts.errors import PlatformError, ShardUnavailable
from configs.contracts.positions import version_text
from configs.contracts.ranking import BASELINE

DEADLINE_S: Final = 2.0
"""Longest wait for a deck; a query takes under 1 ms, so past it an actor is restoring or gone."""
EXPLAIN_DEADLINE_S: Final = 20.0
"""An operator's process has to find the actors first, and waits rather than asks again."""
NOTE_DEADLINE_S: Final = 0.5
"""Longest wait of a change for the card actors; the change itself is acknowledged already."""


class Pool(Protocol):
    """What is needed of ``actors.sharding.client.ActorPool``."""

    def slots(self, service: str) -> int: ...

    async def ask(
        self, service: str, shard: int, method: str, command: Any, *,
        deadline_s: float = ..., traceparent: str | None = None,
    ) -> Any: ...


class CardsClient:
    """Asks every card actor, since a radius crosses many cells, and merges their answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.left_to_log = 0
        """Changes that an actor had not taken in before their request was answered."""

    async def deck(self, query: DeckQuery, *, traceparent: str | None = None) -> Deck:
        """The best ``query.size`` people for the viewer.

        Raises ShardUnavailable: an actor did not answer; nothing less than the whole is served.
        """
        if query.with_features and not query.at_us:
            query = msgspec.structs.replace(query, at_us=int(time() * 1e6))
        answers = await self._ask(query, traceparent)
        for last in (False, True):
            if len({answer.model_version for answer in answers}) == 1:
                return merged(answers, query.size)
            # Scores of two models do not compare. Actors still have the model that the one furthest behind has used;
            # what all of them have without any artifact comes last.
            behind = BASELINE if last else min(answers, key=lambda answer: answer.configuration).model_version
            answers = await self._ask(msgspec.structs.replace(query, model_version=behind), traceparent)
        if len({answer.model_version for answer in answers}) > 1:
            raise ShardUnavailable("card shards do not agree on a model")
        return merged(answers, query.size)

    async def _ask(self, query: DeckQuery, traceparent: str | None) -> list[Shortlist]:
        ask = self._pool.ask
        slots = self._pool.slots("cards")
        if slots == 1:
            only: Shortlist = await ask("cards", 0, "deck", query, deadline_s=DEADLINE_S, traceparent=traceparent)
            return [only]
        return list(await asyncio.gather(
            *(ask("cards", slot, "deck", query, deadline_s=DEADLINE_S, traceparent=traceparent) for slot in range(slots))
        ))

    async def explain(self, command: Explain) -> Explanation | None:
        """Why a candidate has its score for a viewer; None: no actor knows a place of the candidate.

        Raises ShardUnavailable: an actor did not answer.
        """
        answers = await asyncio.gather(*(
            self._pool.ask("cards", slot, "explain", command, deadline_s=EXPLAIN_DEADLINE_S)
            for slot in range(self._pool.slots("cards"))
        ))
        return next((answer for answer in answers if answer is not None), None)

    async def note(self, payload: NotedPayload, version: int = 0) -> None:
        """Lets every card actor take in a change that is in the log, so that the next deck shows it.

        Returns once they have, or after ``NOTE_DEADLINE_S``: then the log brings it. ``version`` 0: a creation.
        """
        noted = Noted(payload, version)
        answers = await asyncio.gather(
            *(self._pool.ask("cards", slot, "note", noted, deadline_s=NOTE_DEADLINE_S)
              for slot in range(self._pool.slots("cards"))),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, PlatformError) or answer is False:
                self.left_to_log += 1
            elif isinstance(answer, BaseException):
                raise answer


def merged(shortlists: Sequence[Shortlist], size: int) -> Deck:
    """One deck of several actors' shares by one model: the newest version of each person, best first, ties by id.

    Someone who is just moving may be known to two actors in different cells; the one with the newer version is right.
    """
    found: dict[bytes, tuple[int, DeckEntry, bytes]] = {}
    width = 4 * len(shortlists[0].feature_names)
    for shortlist in shortlists:
        ids = shortlist.ids
        versions = np.frombuffer(shortlist.versions, "<u8").tolist()
        texts = ids.hex()
        columns = zip(
            versions,
            np.frombuffer(shortlist.distances_km, "<f4").tolist(),
            np.frombuffer(shortlist.scores, "<f4").tolist(),
            np.frombuffer(shortlist.match_versions, "<u8").tolist(),
            strict=True,
        )
        for place, (version, distance, score, match_version) in enumerate(columns):
            key = ids[16 * place : 16 * place + 16]
            known = found.get(key)
            if known is None or known[0] < version:
                h = texts[32 * place : 32 * place + 32]
                user_id = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
                row = shortlist.features[width * place : width * (place + 1)]
                found[key] = version, DeckEntry(user_id, distance, score, version_text(match_version)), row
    chosen = list(found.values())
    if len(shortlists) > 1:
        chosen.sort(key=lambda item: (-item[1].score, item[1].user_id))
    del chosen[size:]
    return Deck(
        [entry for _, entry, _ in chosen],
        shortlists[0].model_version,
        min((shortlist.beyond_km for shortlist in shortlists if shortlist.beyond_km is not None), default=None),
        min(shortlist.configuration for shortlist in shortlists),
        shortlists[0].decided_at_us,
        shortlists[0].feature_names,
        b"".join(row for _, _, row in chosen),
    )
