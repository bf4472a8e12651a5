"""Several actors' shares become one deck: nobody twice, the newest knowledge wins, the best first."""

from __future__ import annotations

import pickle
from uuid import UUID

import msgspec
import numpy as np
import pytest

from actors.cards.client import CardsClient, merged
from actors.cards.commands import DeckEntry, DeckQuery, Shortlist
from configs.contracts.errors import ShardUnavailable
from configs.contracts.ids import derived_id
from configs.contracts.positions import version_text


def share(*people: tuple[str, float, int], model: str = "m1") -> Shortlist:
    """(id, score, version) each, best first; the distance is minus the score, the match version half the version."""
    return Shortlist(
        b"".join(UUID(user_id).bytes for user_id, _, _ in people),
        np.array([-score for _, score, _ in people], "<f4").tobytes(),
        np.array([score for _, score, _ in people], "<f4").tobytes(),
        np.array([version for _, _, version in people], "<u8").tobytes(),
        np.array([version // 2 for _, _, version in people], "<u8").tobytes(),
        model,
    )


A, B, C = sorted(derived_id("merge", str(number)) for number in range(3))


def test_shares_are_merged_by_score_and_cut_to_size() -> None:
    deck = merged([share((A, -1, 10), (C, -3, 30)), share((B, -2, 20))], 2)
    assert deck.entries == [DeckEntry(A, 1.0, -1.0, version_text(5)), DeckEntry(B, 2.0, -2.0, version_text(10))]
    assert deck.model_version == "m1"


def test_who_is_known_to_two_actors_appears_once_as_the_newer_one_knows_them() -> None:
    for shares in ([share((A, -1, 10)), share((A, -5, 12))], [share((A, -5, 12)), share((A, -1, 10))]):
        assert [(entry.user_id, entry.score) for entry in merged(shares, 9).entries] == [(A, -5.0)]


def test_equal_scores_are_ordered_the_same_whoever_answers_first() -> None:
    one, other = share((C, -1, 1)), share((B, -1, 1), (A, -1, 1))
    assert merged([one, other], 9).entries == merged([other, one], 9).entries


class Actors:
    """Card actors that each have some models, the first of them their default."""

    def __init__(self, *models: tuple[str, ...]) -> None:
        self._models = models
        self.asked: list[str] = []

    def slots(self, service: str) -> int:
        return len(self._models)

    async def ask(
        self, service: str, shard: int, method: str, command: DeckQuery, *, deadline_s: float = 1.0,
        traceparent: str | None = None,
    ) -> Shortlist:
        self.asked.append(command.model_version)
        own = self._models[shard]
        model = command.model_version if command.model_version in own else own[0]
        return msgspec.structs.replace(share((A if shard else B, -1, 1), model=model), configuration=9 - shard)


QUERY = DeckQuery(A, 1.0, 2.0, "1990-01-01", "sugar_daddy", None, 18, 99, 50, ("sugar_baby",))


@pytest.mark.parametrize(("models", "expected"), [
    ([("new", "old", "baseline"), ("old", "baseline")], "old"),
    ([("new", "baseline"), ("old", "baseline")], "baseline"),
])
async def test_scores_of_two_models_are_not_mixed_and_nobody_is_left_out(models: list[tuple[str, ...]], expected: str) -> None:
    """During a deploy an actor may be a step behind; a deck without its people would lose cards."""
    actors = Actors(*models)
    deck = await CardsClient(actors).deck(QUERY)
    assert (deck.model_version, deck.configuration) == (expected, 8)
    assert {entry.user_id for entry in deck.entries} == {A, B}


async def test_actors_without_a_common_model_are_an_error() -> None:
    with pytest.raises(ShardUnavailable):
        await CardsClient(Actors(("one",), ("other",))).deck(QUERY)


def test_feature_values_stay_with_their_person() -> None:
    def with_feature(found: Shortlist, *values: float) -> Shortlist:
        return msgspec.structs.replace(
            found, feature_names=("x",), features=np.array(values, "<f4").tobytes()
        )

    shares = [with_feature(share((A, -1, 1), (C, -4, 1)), 1.5, 4.5), with_feature(share((B, -2, 1)), 2.5)]
    deck = merged(shares, 2)
    assert [entry.user_id for entry in deck.entries] == [A, B]
    assert np.frombuffer(deck.features, "<f4").tolist() == [1.5, 2.5]


def test_nobody_is_an_empty_deck() -> None:
    assert merged([share(), share()], 9).entries == []


def test_versions_beyond_53_bits_survive() -> None:
    huge = (1 << 63) + 2
    assert merged([share((A, -1, huge))], 1).entries[0].match_version == version_text(huge // 2)


def test_commands_and_answers_survive_the_way_between_processes() -> None:
    query = DeckQuery(A, 1.0, 2.0, "1990-01-01", "sugar_daddy", None, 18, 99, 50, ("sugar_baby",), seen=b"12345678")
    for value in (query, share((A, -1, 1))):
        assert pickle.loads(pickle.dumps(value)) == value
