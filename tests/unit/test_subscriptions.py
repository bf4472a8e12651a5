"""What follows for subscriptions when people block or leave, and where their shards are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from subscription_facts import BEGIN, CREATOR, FAN, MONTH, SUBSCRIPTION, Reports, terms

from actors.sharding.client import ActorPool
from actors.subscriptions.commands import Cancel, Change, NotPossible, Resume, SubscriptionStands
from actors.subscriptions.state import SubscriptionMemory
from cluster.launch.actors import names
from configs.contracts import events
from configs.contracts.entitlements import GRACE, RENEWING
from configs.contracts.events import Event, Payload
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import new_id
from configs.contracts.subscribers import Subscriber, entry_of
from configs.contracts.subscriptions import Subscription, subscription_after
from configs.contracts.tiers import HELD, Offer, Shop, shop_after
from configs.settings import load_settings
from writers.consumers.subscriptions import Renewing, pairs_and_ended, second, stopped, subscribing
from writers.settling import follows

OTHER = "0198c0de-0000-7000-8000-000000000003"
ONES = (Renewing(FAN, CREATOR, SUBSCRIPTION), Renewing(FAN, OTHER, new_id()), Renewing(OTHER, CREATOR, new_id()))
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)


def event(payload: Payload) -> Event:
    return Event(new_id(), BEGIN, FAN, payload)


def standing(user_id: str, status: Any) -> events.StandingChanged:
    return events.StandingChanged(user_id=user_id, status=status, number=1, cause_id=new_id())


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (events.UserBlocked(user_id=CREATOR, blocked_id=FAN), {0}),
        (events.UserBlocked(user_id=FAN, blocked_id=CREATOR), {0}),
        (events.UserErased(user_id=CREATOR), {0, 2}),
        (events.UserErased(user_id=FAN), {0, 1}),
        (standing(CREATOR, "banned"), {0, 2}),
        (standing(CREATOR, "suspended"), set()),
        (standing(CREATOR, "active"), set()),
    ],
)
def test_who_blocks_or_leaves_is_charged_no_further_period(payload: Payload, expected: set[int]) -> None:
    cause = event(payload)
    found = list(stopped(cause, ONES))
    assert {one.payload.subscription_id for one in found} == {ONES[index].subscription_id for index in expected}
    assert [one.event_id for one in stopped(cause, ONES)] == [one.event_id for one in found]
    pairs, ended = pairs_and_ended((payload,))
    assert bool(pairs or ended) == bool(expected)


def test_a_bill_whose_refund_a_bank_sent_back_opens_what_it_paid_for_and_may_be_given_back_again() -> None:
    reports = Reports()
    bill = reports.paid("pi_1")
    asked = events.BillRefundRequested(
        refund_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, bill_id=bill.object_id, amount_minor=1_000,
        reason="", requested_by="service:test", body_digest="", stops_renewal=False,
    )
    answered = events.BillRefundAnswered(
        refund_id=asked.refund_id, subscription_id=SUBSCRIPTION, subscriber_id=FAN, made=True
    )

    def seen(*facts: Any) -> list[Payload]:
        return [events.SubscriptionObserved(owner_id=FAN, fact=fact) for fact in facts]

    whole = seen(bill, reports.state("active"), reports.refunded("pi_1"))
    given_back = subscription(*whole, asked, answered)
    assert (given_back.refundable_minor(bill), given_back.periods[0].revoked) == (0, True)
    reports.now += timedelta(days=5)
    sent_back = subscription(*whole, asked, answered, *seen(reports.refunded("pi_1", 0.0)))
    assert (sent_back.refundable_minor(bill), sent_back.periods[0].revoked) == (1_000, False)


def test_a_refund_that_is_told_late_stops_no_renewal_that_was_wished_for_after_it() -> None:
    """A dead letter may come anew after whatever its person has done since."""
    asked = events.BillRefundRequested(
        refund_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, bill_id="in_1", amount_minor=1_000, reason="",
        requested_by="service:test", body_digest="", stops_renewal=True,
    )
    resumed = events.SubscriptionResumed(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, body_digest="")
    told = [Event(new_id(), BEGIN, FAN, asked), Event(new_id(), BEGIN + timedelta(minutes=1), FAN, resumed)]
    for order in (told, told[::-1]):
        state: Subscription | None = subscription()
        for version, each in enumerate(order, 2):
            state = subscription_after(state, each, version)
        assert state is not None
        assert state.wish is not None
        assert (state.wish.cancel, len(state.refunds)) == (False, 1)


@pytest.mark.parametrize("late", ["requested", "observed"])
def test_a_subscription_that_is_derived_after_its_people_parted_is_stopped(late: str) -> None:
    requested = events.SubscriptionRequested(
        subscription_id=SUBSCRIPTION, subscriber_id=FAN, creator_id=CREATOR, account_id="a", payment_method_id="p",
        terms=terms(1), checkout_until=BEGIN + timedelta(minutes=30), body_digest="",
    )
    cause = event(requested if late == "requested" else observed("active"))
    assert subscribing((cause.payload,)) == [(FAN, CREATOR)]
    assert not list(stopped(cause, ONES))
    assert not list(stopped(cause, ONES, {(FAN, OTHER)}))
    (found,) = stopped(cause, ONES, {(FAN, CREATOR)})
    assert (found.payload.subscription_id, found.payload.reason) == (SUBSCRIPTION, "blocked")


def test_of_two_that_run_the_later_one_is_stopped_and_given_back_and_no_other() -> None:
    first = subscription(observed("active"), paid())
    later = msgspec.structs.replace(first, subscription_id=new_id(), requested_at=BEGIN + timedelta(minutes=41))
    told = [event(payload) for payload in (observed("active"), paid())]
    for cause in told:
        found = list(second(cause, {(FAN, CREATOR): [later, first]}))
        assert [one.payload.TYPE for one in found] == ["subscription_cancelled", "bill_refund_requested"]
        assert {one.payload.subscription_id for one in found} == {later.subscription_id}
        assert (found[1].payload.amount_minor, found[1].payload.stops_renewal) == (1_000, True)
        assert not list(second(cause, {(OTHER, CREATOR): [later, first]}))
    assert len({one.event_id for cause in told for one in second(cause, {(FAN, CREATOR): [later, first]})}) == 2
    undone: Subscription | None = later
    for version, one in enumerate(second(told[0], {(FAN, CREATOR): [later, first]}), 9):
        undone = subscription_after(undone, one, version)
    assert undone is not None
    assert (undone.renewal_due, undone.unsettled) == (True, True)
    assert not list(second(told[0], {(FAN, CREATOR): [undone, first]})), "it is done once"
    ending = subscription(observed("active"), CANCELLED)
    over = subscription(observed("active", cancel_at_period_end=True))
    resumed = events.SubscriptionResumed(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, body_digest="")
    too_late = subscription(observed("active", cancel_at_period_end=True), resumed)
    for older in (ending, over, too_late):
        anew = msgspec.structs.replace(later, requested_at=BEGIN + MONTH)
        assert not list(second(told[0], {(FAN, CREATOR): [anew, older]})), "what ends is followed by another"


def subscription(*payloads: Payload, trial_days: int = 0, promo_id: str | None = None) -> Subscription:
    state: Subscription | None = None
    requested = events.SubscriptionRequested(
        subscription_id=SUBSCRIPTION, subscriber_id=FAN, creator_id=CREATOR, account_id="a", payment_method_id="p",
        terms=terms(1, trial_days=trial_days, promo_id=promo_id), checkout_until=BEGIN + timedelta(minutes=30), body_digest="",
    )
    for version, payload in enumerate((requested, *payloads), 1):
        state = subscription_after(state, Event(new_id(), BEGIN, FAN, payload), version)
    assert state is not None
    return state


def observed(status: Any, *, later: bool = False, **changes: Any) -> events.SubscriptionObserved:
    reports = Reports()
    reports.now = BEGIN + timedelta(minutes=later)
    return events.SubscriptionObserved(owner_id=FAN, fact=reports.state(status, **changes))


CANCELLED = events.SubscriptionCancelled(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN)


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ((), True),
        ((observed("incomplete"),), True),
        ((observed("active"),), False),
        ((observed("active"), CANCELLED), True),
        ((observed("active"), CANCELLED, observed("active", later=True, cancel_at_period_end=True)), False),
        ((observed("active"), CANCELLED, observed("expired", later=True)), False),
        ((events.SubscriptionAbandoned(subscription_id=SUBSCRIPTION, subscriber_id=FAN, reason="declined"),), False),
    ],
    ids=["asked", "open", "runs", "to be stopped", "stopped", "over", "given up"],
)
def test_what_somebody_still_has_to_do_at_the_provider(payloads: tuple[Payload, ...], expected: bool) -> None:
    assert subscription(*payloads).unsettled is expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed("active"), True),
        (observed("active", cancel_at_period_end=True), True),
        (observed("active", later=True), False),
    ],
    ids=["a look answered before the call did anything", "done", "taken back at the provider"],
)
def test_a_look_that_was_on_its_way_does_not_take_a_cancellation_back(seen: Payload, expected: bool) -> None:
    assert subscription(observed("active"), CANCELLED, seen).cancel_at_period_end is expected


def test_two_reports_of_one_fact_end_in_one_version_in_whichever_order_they_are_taken_in() -> None:
    """A shard has its own report as soon as it is durable, rows have one that stands before it first: what both tell must be as new."""
    asked, seen = subscription(), observed("active")

    def after(*versions: int) -> Subscription | None:
        state: Subscription | None = asked
        for version in versions:
            state = subscription_after(state, Event(new_id(), BEGIN, FAN, seen), version)
        return state

    assert after(2, 3) == after(3) == after(3, 2)


def test_an_unfinished_checkout_ends_and_gives_back_only_what_it_holds() -> None:
    item = subscription(promo_id=OTHER)
    held = Offer(subscription_id=SUBSCRIPTION, promo_id=OTHER, instrument="visa", released=False, version=7)
    found = list(follows(item, (), held, NOW))
    assert [one.payload.TYPE for one in found] == ["offer_released", "subscription_abandoned"]
    assert (found[0].key, found[0].payload.instrument) == (CREATOR, "visa")
    assert [one.payload.TYPE for one in follows(item, (), None, NOW)] == ["subscription_abandoned"]


def test_a_checkout_that_was_paid_in_the_last_moment_stands() -> None:
    item = subscription(observed("incomplete"), promo_id=OTHER)
    held = Offer(subscription_id=SUBSCRIPTION, promo_id=OTHER, instrument=None, released=False, version=7)
    paid = Reports().state("active")
    assert [one.payload.TYPE for one in follows(item, (paid,), held, NOW)] == ["subscription_observed"]
    assert list(follows(item, (), held, NOW)) == [], "the provider said nothing: it is asked again"


def test_time_alone_ends_checkouts_and_cancelled_periods() -> None:
    open_one = subscription()
    assert [open_one.status_at(BEGIN + timedelta(minutes=minutes)) for minutes in (29, 30)] == ["incomplete", "expired"]
    assert [open_one.live_at(BEGIN + timedelta(minutes=minutes)) for minutes in (35, 39, 40)] == [True, True, False]
    given_up = events.SubscriptionAbandoned(subscription_id=SUBSCRIPTION, subscriber_id=FAN, reason="expired")
    assert not subscription(given_up).live_at(BEGIN)
    ending = subscription(observed("active", cancel_at_period_end=True))
    over = BEGIN + timedelta(days=30)
    assert (ending.status_at(over - timedelta(seconds=1)), ending.status_at(over)) == ("active", "expired")
    assert entry_of(ending).status_at(over) == "expired"


def paid(**changes: Any) -> events.SubscriptionObserved:
    return events.SubscriptionObserved(owner_id=FAN, fact=Reports().paid("pi_1", **changes))


NEXT = {"period_start": BEGIN + MONTH, "period_end": BEGIN + 2 * MONTH, "later": True}


@pytest.mark.parametrize(
    ("payloads", "trial_days", "until"),
    [
        ((paid(), observed("active")), 0, BEGIN + MONTH),
        ((paid(), observed("active", **NEXT)), 0, BEGIN + MONTH + RENEWING),
        ((paid(), observed("active", cancel_at_period_end=True, **NEXT)), 0, BEGIN + MONTH),
        ((paid(), observed("active", **NEXT | {"later": False}), CANCELLED), 0, BEGIN + MONTH),
        ((paid(), observed("past_due", **NEXT)), 0, BEGIN + MONTH + GRACE),
        ((observed("active", **NEXT),), 0, None),
        ((observed("trialing", trial_end=BEGIN + MONTH),), 30, BEGIN + MONTH),
        ((observed("active", trial_end=BEGIN + MONTH, **NEXT),), 30, BEGIN + MONTH + RENEWING),
        ((observed("active", trial_end=BEGIN + MONTH, cancel_at_period_end=True, **NEXT),), 30, BEGIN + MONTH),
        ((observed("past_due", trial_end=BEGIN + MONTH, **NEXT),), 30, None),
        ((paid(period_end=BEGIN + 2 * MONTH), observed("active", trial_end=BEGIN + MONTH, **NEXT)), 30, BEGIN + 2 * MONTH),
    ],
    ids=[
        "paid", "renewed and not charged yet", "cancelled", "to be cancelled", "charged in vain", "never paid", "on trial",
        "trial over and not charged yet", "trial over and cancelled", "trial over and charged in vain", "trial over and paid",
    ],
)
def test_access_does_not_stop_between_the_end_of_a_period_and_the_next_charge(
    payloads: tuple[Payload, ...], trial_days: int, until: datetime | None
) -> None:
    item = subscription(*payloads, trial_days=trial_days)
    assert item.entitled_until == until
    if until is not None:
        assert [item.holding.rank_at(until + moment) for moment in (-timedelta(seconds=1), timedelta(0))] == [1, None]


def test_what_is_sold_has_actors_of_its_own_where_the_plan_says_so() -> None:
    apart = load_settings("test", plan={"commerce_actors": 3, "identity_actors": 2})
    assert names(apart)["commerce"] == ["commerce-0", "commerce-1", "commerce-2"]
    assert {ActorPool(apart).actor_of(service, 4) for service in ("tiers", "subscriptions")} == {"commerce-1"}
    together = load_settings("test", plan={"commerce_actors": 0, "identity_actors": 2})
    assert names(together)["commerce"] == []
    assert {ActorPool(together).actor_of(service, 3) for service in ("tiers", "subscriptions")} == {"identity-1"}


def asked(item: Subscription, wanted: Terms, now: datetime) -> tuple[str, bool]:
    """("", whether at once) of a change that is recorded; else (the problem's code, False)."""
    memory = SubscriptionMemory()
    memory.load(FAN, Subscriber({item.subscription_id: item}, item.version))
    decided = memory.decide(
        Change(subscriber_id=FAN, request_id=new_id(), body_digest="", subscription_id=item.subscription_id, terms=wanted), now
    )
    if decided.appends:
        return "", decided.appends[0].event.payload.now
    answer = decided.answer(())
    assert isinstance(answer, NotPossible)
    return answer.code, False


DAY = BEGIN + timedelta(days=1)


@pytest.mark.parametrize("reason", ["blocked", "account"])
def test_what_a_block_or_an_ended_account_stopped_stays_so_whoever_cancels_it_anew(reason: Any) -> None:
    parted = events.SubscriptionCancelled(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, reason=reason)
    late = events.SubscriptionResumed(request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, body_digest="")
    for following in ((CANCELLED,), (late,), (late, CANCELLED, late)):
        item = subscription(observed("active"), paid(), parted, *following)
        assert item.wish is not None
        assert (item.parted, item.wish.reason, item.cancel_at_period_end) == (True, reason, True)
        assert decided(item, Resume) == NotPossible("subscription_not_active")
        assert isinstance(decided(item, Cancel), SubscriptionStands), "saying so again is no error"
    assert isinstance(decided(subscription(observed("active"), paid(), CANCELLED), Resume), SubscriptionStands)


def decided(item: Subscription, kind: type[Cancel | Resume]) -> object:
    memory = SubscriptionMemory()
    memory.load(FAN, Subscriber({item.subscription_id: item}, item.version))
    decision = memory.decide(
        kind(subscriber_id=FAN, request_id=new_id(), body_digest="", subscription_id=item.subscription_id), DAY
    )
    return decision.answer(tuple(range(item.version + 1, item.version + 1 + len(decision.appends))))


def facts(*found: Any) -> list[Payload]:
    return [events.SubscriptionObserved(owner_id=FAN, fact=fact) for fact in found]


def changed_to(rank: int) -> events.SubscriptionChangeRequested:
    return events.SubscriptionChangeRequested(
        request_id=new_id(), subscription_id=SUBSCRIPTION, subscriber_id=FAN, terms=terms(rank), now=True, body_digest="",
    )


@pytest.mark.parametrize("back", ["refunded", "disputed"])
def test_what_went_back_to_the_payer_is_no_part_of_the_price_of_another_tier(back: str) -> None:
    reports = Reports()
    first, state = reports.paid("pi_1"), reports.state("active")
    returned = reports.refunded("pi_1") if back == "refunded" else reports.disputed("pi_1")
    assert asked(subscription(*facts(first, state)), terms(2), DAY) == ("", True)
    assert asked(subscription(*facts(first, state, returned)), terms(2), DAY) == ("subscription_not_active", False)
    upgrade = reports.paid("pi_2", 2, "change", period_start=DAY)
    above = reports.state("active", 2)
    item = subscription(changed_to(2), *facts(first, upgrade, above))
    assert asked(item, terms(3), DAY) == ("", True)
    given = reports.refunded("pi_2", amount=2_000)
    item = subscription(changed_to(2), *facts(first, upgrade, above, given))
    assert item.holding.rank_at(DAY) == 1
    assert asked(item, terms(3), DAY) == ("subscription_not_active", False)
    assert asked(subscription(*facts(state)), terms(2), DAY) == ("subscription_not_active", False), "nothing was paid yet"


def test_a_refund_of_an_earlier_period_keeps_nobody_from_another_tier() -> None:
    reports = Reports()
    first, given = reports.paid("pi_1"), reports.refunded("pi_1")
    reports.now += MONTH
    item = subscription(*facts(first, given, reports.paid("pi_2", reason="renewal"), reports.state("active")))
    assert asked(item, terms(2), reports.now + timedelta(days=1)) == ("", True)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (terms(2), ("", True)),
        (terms(2, amount_minor=1_000), ("", True)),
        (terms(2, amount_minor=999), ("", False)),
        (terms(0), ("", False)),
        (terms(1, interval="year", amount_minor=1_000), ("", True)),
        (terms(1, interval="year", amount_minor=999), ("not_offered", False)),
        (terms(2, interval="year", amount_minor=999), ("not_offered", False)),
        (terms(0, interval="year", amount_minor=9_000), ("not_offered", False)),
    ],
    ids=["above", "above at the price", "above for less", "below", "longer", "longer for less", "above and longer for less", "below and longer"],
)
def test_a_change_to_a_lower_price_leaves_no_credit_for_bills_of_others(wanted: Terms, expected: tuple[str, bool]) -> None:
    item = subscription(*facts(Reports().paid("pi_1"), Reports().state("active")))
    assert asked(item, wanted, DAY) == expected


def shop_with_code(redemptions: int) -> tuple[Shop, list[str]]:
    """A shop one of whose codes was redeemed by so many checkouts, and these."""
    code = events.PromoCodeChanged(creator_id=CREATOR, promo_id=OTHER, code="VIRAL", percent=50)
    names = [new_id() for _ in range(redemptions)]
    taken = [events.OfferRedeemed(
        creator_id=CREATOR, subscription_id=name, subscriber_id=FAN, promo_id=OTHER, instrument=None
    ) for name in names]
    return told_shop(None, code, *taken), names


def told_shop(shop: Shop | None, *payloads: Payload) -> Shop:
    for payload in payloads:
        shop = shop_after(shop, Event(new_id(), BEGIN, CREATOR, payload), 1 if shop is None else shop.version + 1)
    assert shop is not None
    return shop


def released(name: str) -> events.OfferReleased:
    return events.OfferReleased(creator_id=CREATOR, subscription_id=name, promo_id=OTHER, instrument=None)


def test_a_checkout_gives_its_redemption_back_once_however_many_redeemed_the_code_since() -> None:
    shop, names = shop_with_code(HELD + 2)
    for again in range(2):
        shop = told_shop(shop, *[released(name) for name in (names[0], names[-1], names[1])])
        assert [promo.redeemed for promo in shop.promo_codes] == [HELD - 1], again
    shop, names = shop_with_code(2)
    shop = told_shop(shop, released(names[0]), released(names[0]), released(new_id()))
    assert [promo.redeemed for promo in shop.promo_codes] == [1]


def over(**changes: Any) -> list[Payload]:
    return [observed("incomplete"), observed("expired", later=True, **changes)]


def test_a_checkout_that_ended_before_it_gave_back_is_found_and_gives_back_first() -> None:
    item = subscription(*over(), promo_id=OTHER)
    assert (item.renewal_due, item.offer_due, item.unsettled) == (False, True, True)
    held = Offer(subscription_id=SUBSCRIPTION, promo_id=OTHER, instrument=None, released=False, version=7)
    assert [one.payload.TYPE for one in follows(item, (), held, NOW)] == ["offer_released", "subscription_abandoned"]
    gone = msgspec.structs.replace(held, released=True)
    assert [one.payload.TYPE for one in follows(item, (), gone, NOW)] == ["subscription_abandoned"], "it is looked at no more"
    given_up = events.SubscriptionAbandoned(subscription_id=SUBSCRIPTION, subscriber_id=FAN, reason="declined")
    kept = [
        subscription(*over(), given_up, promo_id=OTHER), subscription(*over()), subscription(paid(), *over(), promo_id=OTHER),
        subscription(*over(trial_end=BEGIN + MONTH), trial_days=30),
    ]
    for other in kept:
        assert not other.unsettled
        assert not list(follows(other, (), held, NOW))


def test_a_checkout_that_is_ended_at_the_provider_is_given_up_too() -> None:
    item = subscription(observed("incomplete"), promo_id=OTHER)
    held = Offer(subscription_id=SUBSCRIPTION, promo_id=OTHER, instrument=None, released=False, version=7)
    reports = Reports()
    reports.now += timedelta(minutes=36)
    ended = reports.state("expired")
    told = list(follows(item, (ended,), held, NOW))
    assert [one.payload.TYPE for one in told] == ["subscription_observed", "offer_released", "subscription_abandoned"]
    after: Subscription | None = item
    for version, one in enumerate((one for one in told if one.key == FAN), 10):
        after = subscription_after(after, one, version)
    assert after is not None
    assert not after.unsettled
