"""One decision at a time, one appeal a decision, one receipt a request: whatever is lost, repeated and replayed.

Nobody closes the form for good: every decision makes room for further requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulated_shard import Logged, ShardMachine, SimulatedShard

from actors.moderation.commands import (
    AppealDecision,
    Appealed,
    CaseMoved,
    Decide,
    DecideAppeal,
    DecisionMade,
    NotAppealable,
    OwnCase,
    RemovalTaken,
    RequestRemoval,
    SameModerator,
    TooManyRequests,
)
from actors.moderation.state import ModerationMemory
from configs.contracts.events import AppealDecided, CaseDecided, Event
from configs.contracts.ids import derived_id, new_id
from configs.contracts.moderation import APPEAL_WINDOW, REQUESTS, STANDINGS, CaseRow, case_after, standing_of
from configs.contracts.positions import version_of

TARGETS = [derived_id("target", str(number)) for number in range(2)]
TARGET, MODERATOR = st.sampled_from(TARGETS), st.sampled_from(["person:a", "person:b"])
ACTION = st.sampled_from(["dismiss", "warn", "suspend", "ban", "reinstate"])


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> CaseRow | None:
    row: CaseRow | None = None
    for event, version in committed:
        if event.payload.target_id == key:
            row = case_after(row, event, version)
    return row


class Made:
    """A decision as the model knows it."""

    def __init__(self, target: str, by: str, action: Any, at: datetime) -> None:
        self.target, self.by, self.action, self.at = target, by, action, at
        self.number = 0
        """Under which its appeal was decided."""
        self.appealed = False
        self.outcome: str | None = None


class Moderation(ShardMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shard = SimulatedShard(ModerationMemory, rows_of)
        self.numbers = dict.fromkeys(TARGETS, 0)
        self.made: dict[str, Made] = {}
        self.remembered: dict[str, list[str]] = {target: [] for target in TARGETS}
        """Target -> digests of its newest requests."""
        self.undecided = dict.fromkeys(TARGETS, 0)

    def ask(self, command: Any, crash: bool) -> Any:
        if crash:
            self.shard.ask_and_crash(command)
        return self.shard.ask(command)
        # After a crash nobody heard the answer, and the command is sent again.

    @rule(about=TARGET, by=MODERATOR, action=ACTION, behind=st.integers(0, 2), crash=st.booleans())
    def decide(self, about: str, by: str, action: Any, behind: int, crash: bool) -> None:
        number = self.numbers[about]
        seen = max(0, number - behind)
        command = Decide(
            target_type="user", target_id=about, subject_id=about, action=action, category="spam",
            statement=f"{action} {len(self.shard.log)}", decided_by=by, seen=seen,
        )
        answer = self.ask(command, crash)
        if seen != number:
            assert answer == CaseMoved(number)
            return
        assert isinstance(answer, DecisionMade)
        assert answer.number == number + 1
        assert answer.decision_id not in self.made
        again = self.shard.ask(command)
        assert (again.decision_id, again.repeated) == (answer.decision_id, True)
        self.numbers[about] = number + 1
        self.undecided[about] = 0
        self.made[answer.decision_id] = Made(about, by, action, self.shard.now)

    @rule(data=st.data(), crash=st.booleans(), foreign=st.booleans())
    def appeal(self, data: st.DataObject, crash: bool, foreign: bool) -> None:
        if not self.made:
            return
        decision_id = data.draw(st.sampled_from(sorted(self.made)))
        made = self.made[decision_id]
        appellant = new_id() if foreign else made.target
        answer = self.ask(AppealDecision(
            target_id=made.target, decision_id=decision_id, appellant_id=appellant, text="t"
        ), crash)
        late = self.shard.now - made.at > APPEAL_WINDOW
        if foreign or made.action in ("dismiss", "reinstate") or late or made.outcome:
            assert answer == NotAppealable()
            return
        assert answer == Appealed(derived_id(decision_id, "appeal"))
        made.appealed = True

    @rule(
        data=st.data(), by=MODERATOR, outcome=st.sampled_from(["upheld", "reversed"]), crash=st.booleans(),
        own=st.sampled_from([False, False, True]),
    )
    def decide_appeal(self, data: st.DataObject, by: str, outcome: Any, crash: bool, own: bool) -> None:
        if not self.made:
            return
        decision_id = data.draw(st.sampled_from(sorted(self.made)))
        made = self.made[decision_id]
        answer = self.ask(DecideAppeal(
            target_id=made.target, decision_id=decision_id, outcome=outcome, statement="s", decided_by=by,
            person_id=made.target if own else None,
        ), crash)
        if not made.appealed:
            assert answer == NotAppealable()
        elif own:
            assert answer == OwnCase(), "nobody judges themselves"
        elif by == made.by:
            assert answer == SameModerator()
        elif made.outcome not in (None, outcome):
            assert answer == NotAppealable()
        else:
            assert isinstance(answer, DecisionMade)
            if made.outcome is None:
                self.numbers[made.target] += 1
                made.number = self.numbers[made.target]
            assert answer.number == made.number, "also repeated, when others were made since"
            made.outcome = outcome

    @rule(about=TARGET, digest=st.sampled_from(["d1", "d2"]), crash=st.booleans())
    def request(self, about: str, digest: str, crash: bool) -> None:
        self.requested(about, digest, crash)

    @rule(about=TARGET, requests=st.integers(30, REQUESTS))
    def flood(self, about: str, requests: int) -> None:
        for _ in range(requests):
            self.requested(about, new_id(), False)

    def requested(self, about: str, digest: str, crash: bool) -> None:
        receipt = derived_id(f"{about} {digest}", "removal")
        appended = len(self.shard.log)
        answer = self.ask(RequestRemoval(
            request_id=receipt, target_type="media", target_id=about, contact="c", signature="s", description="d",
            digest=digest,
        ), crash)
        if digest in self.remembered[about]:
            assert answer == RemovalTaken(receipt)
            assert len(self.shard.log) == appended
        elif self.undecided[about] == REQUESTS:
            assert answer == TooManyRequests()
        else:
            assert answer == RemovalTaken(receipt)
            self.remembered[about] = [*self.remembered[about], digest][-REQUESTS:]
            self.undecided[about] += 1

    @rule(about=TARGET)
    def a_replaced_shard_decides_once_more(self, about: str) -> None:
        """Its event is in the log: it counts, with a number that stands already."""
        payload = CaseDecided(
            decision_id=new_id(), target_type="user", target_id=about, subject_id=about, action="warn", category="spam",
            statement="z", decided_by="person:z", number=self.numbers[about],
        )
        if not payload.number:
            return
        self.shard.log.append((Event(payload.decision_id, self.shard.now, about, payload), version_of(1, len(self.shard.log))))
        self.shard.memory.apply(*self.shard.log[-1])
        self.made[payload.decision_id] = Made(about, "person:z", "warn", self.shard.now)
        self.undecided[about] = 0

    @rule(days=st.sampled_from([1, 200]))
    def pass_time(self, days: int) -> None:
        self.shard.pass_time(days * 86_400)

    @invariant()
    def the_rows_agree(self) -> None:
        for target, number in self.numbers.items():
            row = rows_of(target, self.shard.log, self.shard.now)
            assert (0 if row is None else row.number) == number
            assert (0 if row is None else row.history.undecided) == self.undecided[target]


    @invariant()
    def an_account_has_the_standing_of_the_newest_decision_that_was_not_reversed(self) -> None:
        for target in TARGETS:
            stands = [STANDINGS[made.action] for made in self.made.values() if made.target == target
                      and made.action in STANDINGS and made.outcome != "reversed"]
            number, standing = 0, "active"
            for event, _ in self.shard.log:
                if isinstance(event.payload, CaseDecided | AppealDecided) and event.payload.target_id == target:
                    follows = standing_of(event.payload)
                    if follows is not None and event.payload.number > number:
                        number, standing = event.payload.number, follows
            assert standing == (stands[-1] if stands else "active")


TestModeration = Moderation.TestCase
TestModeration.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
