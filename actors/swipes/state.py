"""Swipes and undos of one person: what is recorded, what repeats, what is too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from actors.idempotency import IdempotencyConflict
from actors.sharding.memory import Append, Decision
from actors.swipes.commands import Delivery, LastSwipe, LimitReached, Swipe, Undo, UndoRefused
from actors.swipes.commands import Swiped as LastSwiped
from actors.swipes.facts import CODE_MASK, STALE
from actors.swipes.outgoing import Outgoing
from actors.swipes.people import People
from actors.swipes.person import LIKES, swipe_request, undo_request
from configs.contracts.errors import ShardUnavailable
from configs.contracts.events import Event, SwipeAction, Swiped, SwipeUndone
from configs.contracts.ids import key64, new_id
from configs.contracts.loading import ACTION_BITS, ACTION_CODES
from configs.contracts.topics import MATCHING_SWIPE
from configs.settings import Limits

LIKE, SUPER_LIKE = ACTION_CODES["like"], ACTION_CODES["super_like"]


@dataclass(frozen=True, slots=True)
class Kept:
    """The swipe is in the log: appended now, or found there. ``fact``: what now stands, ``version << 2 | code``."""

    fact: int
    appended: bool


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The undo is in the log: appended now, or found there."""

    target_id: str
    action: SwipeAction
    fact: int
    appended: bool


SwipeDecision = Kept | Withdrawn | LimitReached | UndoRefused | IdempotencyConflict


class SwipeMemory:
    """Decides swipes and undos by the swiper's own facts; notes in ``outgoing`` what the pair's authority must learn."""

    def __init__(self, people: People, outgoing: Outgoing, limits: Limits) -> None:
        self.people = people
        self.outgoing = outgoing
        self._limits = limits
        self._undo_window = timedelta(seconds=limits.undo_window_s)
        self.known = people.known
        self.load = people.load
        self.entries = people.__len__

    def needs(self, command: Swipe | Undo) -> Sequence[str]:
        return (command.swiper_id,)

    def conflict_key(self, command: Swipe | Undo) -> str:
        return command.swiper_id

    def decide(self, command: Swipe | Undo, now: datetime) -> Decision[SwipeDecision]:
        """Raises ShardUnavailable: an undo of the same pair has not reached the pair's authority yet."""
        return self._swipe(command, now) if isinstance(command, Swipe) else self._undo(command, now)

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if not isinstance(payload, Swiped | SwipeUndone):
            return
        people, swiper_id, target_id = self.people, payload.swiper_id, payload.swiped_id
        partition = people.partition(swiper_id)
        code = ACTION_CODES[payload.action] if isinstance(payload, Swiped) else 0
        if people.hosts(partition):
            person = people.changing(swiper_id, MATCHING_SWIPE, partition, version)
            if not person.loaded:
                person.waiting.append((payload, event.occurred_at, version))
                self.outgoing.add(partition, Delivery(swiper_id, target_id, code, version))
            else:
                before = person.swiped(payload, event.occurred_at, version)
                if before != STALE and (code in LIKES or code == 0 or before & CODE_MASK in LIKES):
                    self.outgoing.add(partition, Delivery(swiper_id, target_id, code, version))
        if target_id < swiper_id and people.owns(target_id):
            target = people.changing(target_id, MATCHING_SWIPE, partition, version)
            target.receive(key64(swiper_id), code, version)

    def note(self, delivery: Delivery) -> None:
        """Takes in what another actor's shard says of a person of lower id here. It is durable in that one's partition."""
        partition = self.people.partition(delivery.swiper_id)
        person = self.people.changing(delivery.target_id, MATCHING_SWIPE, partition, delivery.version)
        person.receive(key64(delivery.swiper_id), delivery.code, delivery.version)

    def last(self, command: LastSwipe) -> LastSwiped:
        """Whom the person's next undo under this key concerns; the person must be known."""
        person = self.people.used(command.swiper_id)
        request = command.idempotency_key
        earlier = None if request is None else person.requests.undone(request)
        return LastSwiped(person.last_target) if earlier is None else LastSwiped(earlier[0], undone=True)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Forgets by the rounds of ``People``: a person's facts come from partitions that their own id does not name."""
        return self.people.evict(limit)

    def _swipe(self, command: Swipe, now: datetime) -> Decision[SwipeDecision]:
        person = self.people.used(command.swiper_id)
        target = key64(command.target_id)
        fact = person.own.get(target)
        code = ACTION_CODES[command.action]
        request = command.idempotency_key
        if request is not None:
            named = person.requests.swiped(request)
            if named is not None:
                return _answer(Kept(fact, appended=False) if named in ((target, code), (target, 0)) else IdempotencyConflict())
        if fact & CODE_MASK == code:
            return _answer(Kept(fact, appended=False))
        if self.outgoing.undoing(command.swiper_id, command.target_id):
            raise ShardUnavailable("the undo of this pair is still on its way")
        if code in LIKES:
            likes, super_likes = person.given(now.toordinal())
            if likes >= self._limits.likes_a_day if code == LIKE else super_likes >= self._limits.super_likes_a_day:
                return _answer(LimitReached(_next_midnight(now)))
        payload = Swiped(
            swiper_id=command.swiper_id, swiped_id=command.target_id, action=command.action,
            idempotency_key=None if request is None else swipe_request(command.action, request), impression_id=command.impression_id,
        )
        return _appending(payload, now, lambda version: Kept(version << ACTION_BITS | code, appended=True))

    def _undo(self, command: Undo, now: datetime) -> Decision[SwipeDecision]:
        person = self.people.used(command.swiper_id)
        request = command.idempotency_key
        earlier = None if request is None else person.requests.undone(request)
        if earlier is not None:
            target_id, action = earlier
            return _answer(Withdrawn(target_id, action, person.own.get(key64(target_id)), appended=False))
        target, done, at = person.last_target, person.last_action, person.last_at
        if target is None or done is None or at is None:
            return _answer(UndoRefused("nothing_to_undo"))
        if command.target_id is not None and command.target_id != target:
            return _answer(UndoRefused("changed"))
        if now - at > self._undo_window:
            return _answer(UndoRefused("too_late"))
        if command.until is not None and now > command.until:
            raise ShardUnavailable("the conversation may not be held any more")
        payload = SwipeUndone(
            swiper_id=command.swiper_id, swiped_id=target, undone_action=done,
            idempotency_key=None if request is None else undo_request(done, request),
        )
        return _appending(payload, now, lambda version: Withdrawn(target, done, version << ACTION_BITS, appended=True))


def _answer(answer: SwipeDecision) -> Decision[SwipeDecision]:
    return Decision((), lambda _: answer)


def _appending(
    payload: Swiped | SwipeUndone, now: datetime, answer: Callable[[int], SwipeDecision]
) -> Decision[SwipeDecision]:
    event = Event(new_id(), now, payload.swiper_id, payload)
    return Decision((Append(MATCHING_SWIPE, payload.swiper_id, event),), lambda versions: answer(versions[0]))


def _next_midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
