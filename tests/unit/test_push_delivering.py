"""A batch is delivered until each push is decided: backing off, bounded, nothing sent twice by one process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from configs.contracts.ids import new_id
from writers.push import delivering
from writers.push.delivering import ATTEMPTS, Delivery, Push, Stopping
from writers.push.provider import SENT, Message, Outcome, Target

NOW = datetime.now(UTC)
WAIT = Outcome("wait", "busy", 0.0)


def push(name: str = "d", *, left_s: float = 3_600) -> Push:
    target = Target(name, "u", "fcm", f"token-{name}", None, None, "r", NOW)
    return Push(target, Message(new_id(), new_id(), "t", "body", {}, datetime.now(UTC) + timedelta(seconds=left_s)))


class Scripted:
    """Answers each device by its script; the last answer repeats."""

    name = "scripted"
    platforms = frozenset({"fcm"})

    def __init__(self, **scripts: list[Outcome]) -> None:
        self.scripts = defaultdict(lambda: [SENT], scripts)
        self.sent: list[tuple[str, str]] = []
        self.on_send: Callable[[], None] = lambda: None

    async def send(self, target: Target, message: Message) -> Outcome:
        self.sent.append((target.device_id, message.push_id))
        self.on_send()
        script = self.scripts[target.device_id]
        outcome = script.pop(0) if len(script) > 1 else script[0]
        if outcome.reason == "bug":
            raise RuntimeError("a bug in a provider")
        return outcome

    async def close(self) -> None: ...


def names(provider: Scripted) -> list[str]:
    return [name for name, _ in provider.sent]


async def test_who_could_not_be_served_is_served_again_and_nobody_else() -> None:
    provider = Scripted(slow=[WAIT, WAIT, SENT])
    delivery = Delivery(provider, lambda: False)
    assert await delivery.deliver([push("a"), push("slow"), push("b")]) == []
    assert names(provider) == ["a", "slow", "b", "slow", "slow"]
    assert (delivery.counts["sent"], delivery.counts["waits"]) == (3, 2)


async def test_the_wait_is_as_long_as_the_provider_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "SHORTEST_WAIT_S", 100.0)
    provider = Scripted(a=[Outcome("wait", "busy", 0.4), SENT])
    began = time.monotonic()
    await Delivery(provider, lambda: False).deliver([push("a")])
    assert 0.4 <= time.monotonic() - began < 50


async def test_a_batch_that_comes_again_is_not_sent_again() -> None:
    """As when the commit of the position fails: this process knows what it has sent."""
    provider = Scripted(gone=[Outcome("unregistered")])
    delivery = Delivery(provider, lambda: False)
    batch = [push("a"), push("gone")]
    assert [one.target.device_id for one, _ in await delivery.deliver(batch)] == ["gone"]
    await delivery.deliver(batch)
    assert names(provider) == ["a", "gone"]


async def test_one_device_that_is_always_busy_holds_nobody_up_for_ever() -> None:
    provider = Scripted(busy=[WAIT])
    delivery = Delivery(provider, lambda: False)
    others = [push(f"d{number}") for number in range(3)]
    # While nobody else is served there is nothing to hold up: attempts are not counted then.
    provider.scripts["d0"] = [WAIT] * 2 + [SENT]
    for _ in range(ATTEMPTS):
        await delivery.deliver([push("busy", left_s=0.5), *others])
        others = [push(f"e{number}") for number in range(2)]
    assert delivery.counts["sent"] > ATTEMPTS
    assert delivery.counts["gave_up"] + delivery.counts["too_old"] == ATTEMPTS


async def test_during_an_outage_a_push_is_tried_until_it_is_too_old() -> None:
    provider = Scripted(a=[Outcome("wait", "down", 0.05)])
    delivery = Delivery(provider, lambda: False)
    assert await delivery.deliver([push("a", left_s=3.0)]) == []
    assert len(provider.sent) > ATTEMPTS
    assert (delivery.counts["too_old"], delivery.counts["sent"]) == (1, 0)


async def test_refused_keys_stop_everything_but_one_question_now_and_then() -> None:
    provider = Scripted()
    refused = Outcome("credentials", "InvalidProviderToken")
    provider.scripts = defaultdict(lambda: [refused])
    delivery = Delivery(provider, lambda: False, wait_s=0.05)
    seen: list[str] = []

    def look() -> None:
        if delivery.stopped:
            seen.append(delivery.stopped)
            if len(seen) == 3:
                provider.scripts = defaultdict(lambda: [SENT])

    provider.on_send = look
    await delivery.deliver([push(f"d{number}") for number in range(10)])
    assert seen == ["InvalidProviderToken"] * 3
    assert len(provider.sent) == 10 + 3 + 9, "all once, then one at a time, then the rest"
    assert (delivery.stopped, delivery.counts["sent"], delivery.counts["credentials_refused"]) == ("", 10, 3)


async def test_a_writer_that_ends_does_not_wait_for_a_provider() -> None:
    provider = Scripted(a=[Outcome("wait", "down", 300.0)])
    stopping: list[bool] = []
    provider.on_send = lambda: stopping.append(True)
    began = time.monotonic()
    with pytest.raises(Stopping):
        await Delivery(provider, lambda: bool(stopping)).deliver([push("a")])
    assert time.monotonic() - began < 100


async def test_a_fault_in_a_provider_costs_the_one_push() -> None:
    provider = Scripted(odd=[Outcome("rejected", "bug")])
    delivery = Delivery(provider, lambda: False)
    await delivery.deliver([push("odd"), push("a")])
    assert (delivery.counts["sent"], delivery.counts["rejected"]) == (1, 1)
