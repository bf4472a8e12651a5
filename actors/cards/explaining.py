"""Why one card has the score it has: for an operator, never for an app."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from actors.cards.commands import DeckQuery, Explain, Explanation
from actors.cards.state import Cards
from configs.contracts.ids import key64
from configs.contracts.people import snap
from recommender.candidates import distances_km
from recommender.waiting import TERM, boosted


def explanation(cards: Cards, command: Explain, now: datetime) -> Explanation | None:
    """The terms of the candidate's score for the viewer; None: the candidate is in no cell of this actor.

    Also for a candidate whom the viewer would not be shown: ``eligible`` says so.
    """
    found = cards.found_at(command.candidate_id)
    if found is None:
        return None
    row, *place = found
    latitude, longitude, _ = snap(command.query.latitude, command.query.longitude)
    distance = distances_km(latitude, longitude, np.array([place[0]]), np.array([place[1]]))
    ranker = cards.models.get(command.query.model_version, cards.ranker)
    values = cards.features(command.query, np.array([row]), distance, now, ranker.features)
    eligible, _ = cards.eligible(command.query, now)
    terms = {name: float(np.ravel(term)[0]) for name, term in ranker.explain(values).items()}
    waits = command.query.waiting_boost > 0 and likes(command.query, command.candidate_id)
    if waits:
        terms[TERM] = command.query.waiting_boost
    return Explanation(
        model_version=ranker.version,
        configuration=cards.configuration,
        people_table=cards.table.version,
        score=float(boosted(np.ravel(ranker.score(values))[:1], np.array([waits]), command.query.waiting_boost)[0]),
        terms=terms,
        features={name: float(np.ravel(value)[0]) for name, value in values.items()} | {TERM: float(waits)},
        distance_km=float(distance[0]),
        eligible=bool((eligible == row).any()),
    )


def likes(query: DeckQuery, candidate_id: str) -> bool:
    """Whether the candidate is among those who like the viewer."""
    return bool((np.frombuffer(query.waiting, "<u8") == np.uint64(key64(candidate_id))).any())
