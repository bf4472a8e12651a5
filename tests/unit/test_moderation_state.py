"""What a case decides where the model-based test comes by seldom: floods of removal requests, and rows of before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.moderation.commands import (
    AppealDecision,
    Decide,
    DecideAppeal,
    DecisionMade,
    OwnCase,
    RemovalTaken,
    RequestRemoval,
    TooManyRequests,
)
from actors.moderation.state import ModerationMemory
from configs.contracts.ids import derived_id, new_id
from configs.contracts.moderation import REQUESTS, CaseRow, History
from configs.contracts.positions import version_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Shard:
    """One target: commands are decided, appended and applied."""

    def __init__(self, row: CaseRow | None = None) -> None:
        self.target = new_id() if row is None else row.target_id
        self.memory, self.offset = ModerationMemory(), 1_000
        self.memory.load(self.target, row)

    def ask(self, command: Any) -> Any:
        decision = self.memory.decide(command, NOW)
        for append in decision.appends:
            self.offset += 1
            self.memory.apply(append.event, version_of(1, self.offset))
        return decision.answer(())

    def request(self, digest: str) -> Any:
        return self.ask(RequestRemoval(
            request_id=derived_id(digest, "removal"), target_type="post", target_id=self.target, contact="c", signature="s",
            description="d", digest=digest,
        ))

    def dismiss(self) -> Any:
        return self.ask(Decide(
            target_type="post", target_id=self.target, subject_id=new_id(), action="dismiss", category="intimate_image",
            statement="Nothing of the kind.", decided_by="person:m", seen=self.row.number,
        ))

    def act(self, *actions: Any) -> list[str]:
        """Decides about the person, who appeals where that is possible; the decisions."""
        made = []
        for action in actions:
            answer = self.ask(Decide(
                target_type="user", target_id=self.target, subject_id=self.target, action=action, category="spam",
                statement="s", decided_by="person:m", seen=0 if not made else self.row.number,
            ))
            made.append(answer.decision_id)
            self.ask(AppealDecision(target_id=self.target, decision_id=made[-1], appellant_id=self.target, text="t"))
        return made

    def reverse(self, decision_id: str, person_id: str | None = None) -> Any:
        return self.ask(DecideAppeal(
            target_id=self.target, decision_id=decision_id, outcome="reversed", statement="s", decided_by="person:n",
            person_id=person_id,
        ))

    @property
    def row(self) -> CaseRow:
        row = self.memory._cases.use(self.target).row
        assert row is not None
        return row


def test_bogus_requests_that_were_dismissed_do_not_close_the_form_to_whom_it_is_for() -> None:
    """Otherwise whoever posts an intimate image sends them first, and nobody can ever ask for its removal."""
    shard = Shard()
    for number in range(REQUESTS):
        assert isinstance(shard.request(f"bogus {number}"), RemovalTaken)
    assert shard.request("the victim's") == TooManyRequests(), "the case is open already"
    newest = f"bogus {REQUESTS - 1}"
    for wave in range(2):
        assert isinstance(shard.dismiss(), DecisionMade)
        assert shard.request(newest) == RemovalTaken(derived_id(newest, "removal")), "it is no further one"
        newest = f"the victim's {wave}"
        for number in range(REQUESTS - 1):
            assert isinstance(shard.request(f"bogus {wave} {number}"), RemovalTaken)
        assert shard.request(newest) == RemovalTaken(derived_id(newest, "removal"))
        assert shard.request("one too many") == TooManyRequests()
    assert len(shard.row.history.requests) == REQUESTS


@pytest.mark.parametrize("decided", [True, False])
def test_a_case_that_was_stored_before_requests_were_counted_takes_further_ones(decided: bool) -> None:
    shard = Shard()
    for number in range(REQUESTS):
        shard.request(f"bogus {number}")
    if decided:
        shard.dismiss()
    stored = msgspec.to_builtins(shard.row.history)
    del stored["undecided"]
    restored = Shard(replace(shard.row, history=msgspec.convert(stored, History)))
    assert isinstance(restored.request("the victim's"), RemovalTaken)


def test_nobody_decides_an_appeal_about_themselves() -> None:
    shard = Shard()
    (warned,) = shard.act("warn")
    assert shard.reverse(warned, shard.target) == OwnCase()
    assert isinstance(shard.reverse(warned, new_id()), DecisionMade)


@pytest.mark.parametrize(("actions", "reversals"), [
    (["ban"], [(0, "active")]),
    (["warn"], [(0, None)]),
    (["ban", "warn"], [(1, None), (0, "active")]),
    (["warn", "ban"], [(0, None), (1, "active")]),
    (["suspend", "ban"], [(0, None), (1, "active")]),
    (["suspend", "ban"], [(1, "suspended"), (0, "active")]),
    (["ban", "reinstate", "suspend"], [(0, None), (2, "active")]),
], ids=lambda told: " ".join(map(str, told)))
def test_a_reversal_takes_back_its_own_decision_and_no_newer_one(
    actions: list[str], reversals: list[tuple[int, str | None]]
) -> None:
    shard = Shard()
    decisions = shard.act(*actions)
    answers = []
    for at, standing in reversals:
        answers.append(shard.reverse(decisions[at]))
        assert answers[-1].standing == standing
    for (at, _), answer in zip(reversals, answers, strict=True):
        assert shard.reverse(decisions[at]) == replace(answer, repeated=True), "as it was decided, whatever was since"


def test_an_appeal_that_was_decided_before_its_number_was_kept_changes_no_account_again() -> None:
    shard = Shard()
    (banned,) = shard.act("ban")
    shard.reverse(banned)
    stored = msgspec.to_builtins(shard.row.history)
    for name in ("number", "standing"):
        del stored["decisions"][0]["appeal"][name]
    restored = Shard(replace(shard.row, history=msgspec.convert(stored, History)))
    again = restored.reverse(banned)
    assert (again.number, again.standing, again.repeated) == (2, None, True)
