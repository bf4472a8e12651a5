"""Decks from all card actors at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.cards.commands import Deck, DeckQuery, Explain, Explanation, Noted, NotedPayload, Shortlist
from configs.contracts.errors import PlatformError, ShardUnavailable
from configs.contracts.ranking import BASELINE
from recommender.waiting import mixed

DEADLINE_S: Final = 2.0
"""Longest wait for a deck; a query takes under 1 ms, so past it an actor is restoring or gone."""
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
            self._pool.ask("cards", slot, "explain", command, deadline_s=DEADLINE_S)
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
    """One deck of several actors' shares by one model: the newest version of each person, best first, ties by id, and
    people whose like waits mixed in.

    Someone who is just moving may be known to two actors in different cells; the one with the newer version is right.
    """
    first = shortlists[0]
    ids = np.frombuffer(b"".join([share.ids for share in shortlists]), ">u8").reshape(-1, 2)
    distances = np.frombuffer(b"".join([share.distances_km for share in shortlists]), "<f4")
    scores = np.frombuffer(b"".join([share.scores for share in shortlists]), "<f4")
    match_versions = np.frombuffer(b"".join([share.match_versions for share in shortlists]), "<u8")
    features = b"".join([share.features for share in shortlists])
    width = 4 * len(first.feature_names)
    if len(shortlists) == 1:
        chosen: slice | NDArray[np.int64] = slice(0, size)
        features = features[: width * size]
    else:
        versions = np.frombuffer(b"".join([share.versions for share in shortlists]), "<u8")
        high, low = ids.astype("u8").T
        people = np.lexsort((~versions, low, high))  # of one person the newest first
        newest = np.ones(people.size, np.bool_)
        newest[1:] = (high[people[1:]] != high[people[:-1]]) | (low[people[1:]] != low[people[:-1]])
        people = people[newest]
        chosen = people[np.argsort(-scores[people], kind="stable")]  # ties are in the order of ids
        if any(share.waiting for share in shortlists):
            waits = np.frombuffer(b"".join([share.waiting or bytes(len(share.ids) // 16) for share in shortlists]), np.bool_)
            chosen = chosen[mixed(waits[chosen])]
        chosen = chosen[:size]
        features = b"".join([features[width * place : width * (place + 1)] for place in chosen.tolist()]) if width else b""
    return Deck(
        ids[chosen].tobytes(),
        distances[chosen].tobytes(),
        scores[chosen].tobytes(),
        match_versions[chosen].astype(">u8").tobytes(),
        first.model_version,
        min((shortlist.beyond_km for shortlist in shortlists if shortlist.beyond_km is not None), default=None),
        min(shortlist.configuration for shortlist in shortlists),
        first.decided_at_us,
        first.feature_names,
        features,
    )
