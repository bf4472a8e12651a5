"""The authority of pairs: judges what both sides say, starts a match once and ends it for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from actors.sharding.memory import Append, Decision
from actors.swipes.commands import Delivery, EndPair, PairEnded, Verdict
from actors.swipes.facts import CODE_MASK
from actors.swipes.people import People
from actors.swipes.person import ACTIVE, BLOCKED, LIKES, UNDONE, UNMATCHED, Pair, Person
from configs.contracts.events import Event, Matched, MatchEnd, Unmatched
from configs.contracts.ids import derived_id, key64, match_id, pair
from configs.contracts.loading import PAIR_CODES
from configs.contracts.topics import MATCHING_MATCHED

PairAnswer = Verdict | PairEnded


class PairMemory:
    """Decides by the present facts of both sides, never by the order of deliveries: judging again changes nothing.

    A pair is kept with its person of lower id, whose own swipes are one side; the likes received are the other.
    - Both like, no match, never unmatched nor blocked: the next generation begins.
    - A match and one side's swipe undone (not merely turned into a pass): it ends with reason ``undone``.
    - A match of a pair that was unmatched or blocked before (a replaced authority's last write): it ends again.

    ``doubtful`` gathers pairs whose match may be such a last write; whoever applied events judges them.
    """

    def __init__(self, people: People) -> None:
        self.people = people
        self.doubtful: list[tuple[str, str]] = []
        self.known = people.known
        self.load = people.load
        self.entries = people.__len__

    def needs(self, command: Delivery | EndPair) -> Sequence[str]:
        return (_pair(command)[0],)

    def conflict_key(self, command: Delivery | EndPair) -> str:
        low, high = _pair(command)
        return low + high

    def decide(self, command: Delivery | EndPair, now: datetime) -> Decision[PairAnswer]:
        low, high = _pair(command)
        if isinstance(command, EndPair):
            return self._end(command, low, high, now)
        person = self.people.used(low)
        key = key64(high)
        state = person.pair(key)
        own = person.own.get(key)
        received = person.incoming.get(key) if person.incoming is not None else 0
        if state is not None and state.code == ACTIVE:
            undone_by = low if own and not own & CODE_MASK else high if received and not received & CODE_MASK else None
            if undone_by is not None:
                return self._ending(low, high, state.generation, undone_by, "undone", now)
            if person.ended and key in person.ended:
                return self._ending(low, high, state.generation, low, "unmatched", now)
        elif own & CODE_MASK in LIKES and received & CODE_MASK in LIKES and (state is None or state.code == UNDONE):
            return self._beginning(low, high, 1 if state is None else state.generation + 1, now)
        verdict = Verdict() if state is None else Verdict(state.code, state.generation, state.version, state.at)
        return Decision((), lambda _: verdict)

    def settled(self, delivery: Delivery, now: datetime) -> Verdict | None:
        """The verdict if it needs neither rows nor an append: the usual case, decided outside any turn."""
        if not self.people.known(min(delivery.swiper_id, delivery.target_id)):
            return None
        decision = self.decide(delivery, now)
        if decision.appends:
            return None
        answer = decision.answer(())
        return answer if isinstance(answer, Verdict) else None

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if isinstance(payload, Matched):
            state = Pair(payload.generation, ACTIVE, version, event.occurred_at)
        elif isinstance(payload, Unmatched):
            state = Pair(payload.generation, PAIR_CODES[payload.reason], version, event.occurred_at)
        else:
            return
        people, low, high = self.people, payload.low_id, payload.high_id
        over = state.code in (UNMATCHED, BLOCKED)
        for user_id, other_id in ((low, high), (high, low)):
            if (user_id == low or over) and people.owns(user_id):
                partition = people.partition(event.key)
                person = people.changing(user_id, MATCHING_MATCHED, partition, version)
                if over:
                    person.end(key64(other_id))
                if user_id == low:
                    person.join(key64(other_id), state)
                    if state.code == ACTIVE and not (person.loaded and self._likes(person, key64(other_id))):
                        self.doubtful.append((low, high))

    def _likes(self, person: Person, key: int) -> bool:
        """Whether a match of this pair fits what is known: nothing undone, never ended before."""
        received = person.incoming.get(key) if person.incoming is not None else 0
        withdrawn = not person.own.get(key) & CODE_MASK or not received & CODE_MASK
        return not withdrawn and not (person.ended and key in person.ended)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Forgets by the rounds of ``People``: a match's partition is not named by a person's id."""
        return self.people.evict(limit)

    def _end(self, command: EndPair, low: str, high: str, now: datetime) -> Decision[PairAnswer]:
        state = self.people.used(low).pair(key64(high))
        match = match_id(low, high)
        if state is not None and state.code in (UNMATCHED, BLOCKED):
            there = command.reason == "blocked" or state.code == UNMATCHED
            known = PairEnded(match, there, state.generation, state.version) if there else PairEnded(match, ended=False)
            return Decision((), lambda _: known)
        if command.reason == "unmatched" and (state is None or state.code != ACTIVE):
            nothing = PairEnded(match, ended=False)
            return Decision((), lambda _: nothing)
        generation = 0 if state is None else state.generation
        ending = self._ending(low, high, generation, command.user_id, command.reason, now)
        return Decision(ending.appends, lambda versions: PairEnded(match, True, generation, versions[0]))

    def _beginning(self, low: str, high: str, generation: int, now: datetime) -> Decision[PairAnswer]:
        match = match_id(low, high)
        payload = Matched(match_id=match, low_id=low, high_id=high, generation=generation)
        event = Event(derived_id(match, f"matched:{generation}"), now, match, payload)
        return Decision(
            (Append(MATCHING_MATCHED, match, event),), lambda versions: Verdict(ACTIVE, generation, versions[0], now)
        )

    def _ending(
        self, low: str, high: str, generation: int, ended_by: str, reason: MatchEnd, now: datetime
    ) -> Decision[PairAnswer]:
        match = match_id(low, high)
        payload = Unmatched(
            match_id=match, low_id=low, high_id=high, generation=generation, ended_by=ended_by, reason=reason
        )
        event = Event(derived_id(match, f"{reason}:{generation}"), now, match, payload)
        code = PAIR_CODES[reason]
        return Decision(
            (Append(MATCHING_MATCHED, match, event),), lambda versions: Verdict(code, generation, versions[0], now)
        )


def _pair(command: Delivery | EndPair) -> tuple[str, str]:
    """(low id, high id)"""
    if isinstance(command, Delivery):
        return pair(command.swiper_id, command.target_id)
    return pair(command.user_id, command.other_id)
