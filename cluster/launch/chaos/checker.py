"""Invariants: what clients were told, against what the platform holds once it is quiet. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.launch.chaos.history import Operation
from configs.contracts.ids import match_id

LIKES: Final = ("like", "super_like")
ENDS: Final = ("unmatch", "block")


@dataclass(frozen=True, slots=True)
class Held:
    """What the rows hold of the run's people."""

    swipes: Mapping[tuple[str, str], str]
    """(swiper, swiped) -> action."""
    matches: Sequence[tuple[str, str, str, str]]
    """(member, other, match id, status), a row each."""
    messages: Mapping[str, Sequence[tuple[int, str, str]]]
    """Conversation -> (seq, sender, content) in the order of seq."""
    notified: Mapping[tuple[str, str], int]
    """(person, match id) -> notifications of the match."""


def contradictions(operations: Sequence[Operation], held: Held) -> list[str]:
    """Every invariant that does not hold, in words; empty: all do."""
    return [
        *_swipes(operations, held), *_matches(operations, held), *_messages(operations, held), *_visible(operations),
    ]


def _swipes(operations: Sequence[Operation], held: Held) -> Iterator[str]:
    """Every acknowledged swipe stands with its latest action, unless a later one was never answered."""
    last: dict[tuple[str, str], set[str]] = {}
    for one in operations:
        if one.kind != "swipe" or one.outcome == "refused":
            continue
        pair = (one.person, one.about["target"])
        if one.outcome == "ok":
            last[pair] = {one.about["action"]}
        elif pair in last:
            last[pair].add(one.about["action"])
    for pair, allowed in last.items():
        if held.swipes.get(pair) not in allowed:
            yield f"swipe {pair[0]} -> {pair[1]}: told {sorted(allowed)}, rows have {held.swipes.get(pair)}"


def _matches(operations: Sequence[Operation], held: Held) -> Iterator[str]:
    """A mutual like is one match, on both sides, notified once to each; an ended one is active for neither."""
    rows = Counter((member, other) for member, other, _, _ in held.matches)
    active = {(member, other) for member, other, _, status in held.matches if status == "active"}
    known = {match for _, _, match, _ in held.matches}
    tried = {frozenset((one.person, one.about["target"])) for one in operations if one.kind in ENDS and one.outcome != "refused"}
    blocked = {
        frozenset((one.person, one.about["target"])) for one in operations if one.kind == "block" and one.outcome == "ok"
    }
    for pair, count in rows.items():
        if count != 1 or rows[pair[::-1]] != 1:
            yield f"match of {pair} has {count} and {rows[pair[::-1]]} rows"
    for (me, other), action in held.swipes.items():
        if action in LIKES and held.swipes.get((other, me)) in LIKES and frozenset((me, other)) not in tried:
            if (me, other) not in active:
                yield f"mutual like of {me} and {other} is no active match"
            elif (count := held.notified.get((me, match_id(me, other)), 0)) != 1:
                yield f"{me} has {count} notifications of {match_id(me, other)}"
    for member, other in active:
        if (other, member) not in active:
            yield f"match of {member} and {other} is active for one of them"
        if frozenset((member, other)) in blocked:
            yield f"blocked pair {member} and {other} is matched"
    for swipe in operations:
        if swipe.kind == "swipe" and swipe.about.get("match") and swipe.about["match"] not in known:
            yield f"{swipe.person} was told of match {swipe.about['match']}, which is in no row"


def _messages(operations: Sequence[Operation], held: Held) -> Iterator[str]:
    """Every acknowledged message is there once, under the number that was told; numbers are dense, and a sender's in order."""
    tried: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    told: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for one in operations:
        if one.kind != "send" or one.outcome == "refused":
            continue
        conversation, content = one.about["conversation"], one.about["content"]
        tried[conversation].add((one.person, content))
        if one.outcome != "ok":
            continue
        told[conversation, one.person].append(one.about["seq"])
        there = [seq for seq, sender, text in held.messages.get(conversation, ()) if (sender, text) == (one.person, content)]
        if there != [one.about["seq"]]:
            yield f"message {content} in {conversation}: told {one.about['seq']}, rows have it at {there}"
    for (conversation, person), numbers in told.items():
        if numbers != sorted(numbers):
            yield f"messages of {person} in {conversation} are out of order: {numbers}"
    for conversation, rows in held.messages.items():
        if [seq for seq, _, _ in rows] != list(range(1, len(rows) + 1)):
            yield f"numbers of {conversation} have gaps: {[seq for seq, _, _ in rows]}"
        for _, sender, text in rows:
            if (sender, text) not in tried[conversation]:
                yield f"message {text} in {conversation} was sent by nobody"


def _visible(operations: Sequence[Operation]) -> Iterator[str]:
    """Nobody is shown a match, or gets a message into it, by a request that began after its end was acknowledged.

    People do not swipe on whom they ended a match with; where the other's swipe overlaps, a new match may be right."""
    ended: dict[str, tuple[float, frozenset[str]]] = {}
    for one in operations:
        if one.kind in ENDS and one.outcome == "ok":
            pair = frozenset((one.person, one.about["target"]))
            name = match_id(*sorted(pair))
            ended[name] = min(ended.get(name, (one.answered_s, pair)), (one.answered_s, pair), key=lambda item: item[0])
    last_swipe: dict[frozenset[str], float] = {}
    for one in operations:
        if one.kind == "swipe":
            pair = frozenset((one.person, one.about["target"]))
            last_swipe[pair] = max(last_swipe.get(pair, 0.0), one.answered_s)
    sure = {
        name: at_s for name, (at_s, pair) in ended.items()
        if last_swipe.get(pair, 0.0) <= min(one.asked_s for one in operations if one.kind in ENDS and frozenset((one.person, one.about["target"])) == pair)
    }
    for one in operations:
        if one.outcome != "ok":
            continue
        shown = one.about["matches"] if one.kind == "look" else [one.about["conversation"]] if one.kind == "send" else ()
        for name in shown:
            if name in sure and one.asked_s > sure[name]:
                yield f"{one.kind} of {one.person} at {one.asked_s} s has match {name}, which ended at {sure[name]} s"
