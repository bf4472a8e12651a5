"""Tips and pay-per-view through the API, with the sandbox as payment processor: paid once, opened once, refused clearly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import RETURN, SandboxDriver, assured, code, creator_of, payer_of, paying

from cluster.connections.payments.stripe import StripeProvider
from cluster.connections.redis import apply_async
from configs.contracts.albums import put_media
from configs.contracts.ids import derived_id, new_id
from configs.contracts.media import MediaRecord
from configs.contracts.payments import Pay, ProviderUnavailable, Started
from configs.settings import Settings
from serve_apps.payments import paying as routes

pytestmark = pytest.mark.servers

MANY = 100_000


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    limits = servers.limits.model_copy(update={"checkouts_per_user_an_hour": MANY, "requests_per_user_a_second": MANY})
    yield await make_world(payments=paying(servers, sandbox), limits=limits)


async def paid(sandbox: SandboxDriver, payer: Person) -> list[tuple[int, int]]:
    """(amount, platform's share) of every payment of the payer that the processor has charged."""
    return [
        (intent["amount"], intent["application_fee_amount"]) for intent in await sandbox.objects("payment_intent")
        if intent["metadata"]["payerId"] == payer.user_id and intent["status"] == "succeeded"
    ]


async def post_for_sale(creator: Person, amount: str = "5.00") -> str:
    made = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "what is sold", "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": amount, "currency": "USD"}},
    })
    return str(made["postId"])


async def test_a_tip_is_charged_once_however_often_it_is_asked_for(world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(world)
    payer, card = await payer_of(world, sandbox)
    body = {"toUserId": creator.user_id, "amount": "12.34", "currency": "USD", "paymentMethodId": card, "message": "Thank you"}
    answers = await asyncio.gather(*(payer.ask("POST", "/payments/tips", json=body, key="tip") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    made = answers[0].json()
    assert {(answer.json()["id"], answer.json()["status"]) for answer in answers} == {(made["id"], "completed")}
    assert (made["amount"], made["currency"], made["livemode"]) == ("12.34", "USD", False)
    assert await paid(sandbox, payer) == [(1_234, 246)], "a fifth, floored"
    assert (await payer.ok("GET", f"/payments/requests/{made['id']}"))["status"] == "completed"
    assert code(await payer.ask("POST", "/payments/tips", json=body | {"amount": "1"}, key="tip")) == (409, "idempotency_conflict")
    stranger = await world.register("sugar_daddy")
    assert code(await stranger.ask("GET", f"/payments/requests/{made['id']}")) == (404, "not_found")


async def test_who_cannot_be_paid_or_is_oneself_or_blocks_gets_no_tip(world: World, sandbox: SandboxDriver) -> None:
    payer, card = await payer_of(world, sandbox)
    unpayable, creator = await creator_of(world, paid=False), await creator_of(world)
    body = {"amount": "5", "currency": "USD", "paymentMethodId": card}
    for target, expected in ((unpayable, (409, "creator_not_payable")), (payer, (422, "self_target"))):
        answer = await payer.ask("POST", "/payments/tips", json=body | {"toUserId": target.user_id}, key=new_id())
        assert code(answer) == expected
    assert (await payer.ask("POST", "/payments/tips", json=body | {"toUserId": creator.user_id})).status_code == 422, "no key"
    await creator.ok("POST", f"/users/{payer.user_id}/block")
    answer = await payer.ask("POST", "/payments/tips", json=body | {"toUserId": creator.user_id}, key="blocked")
    assert code(answer) == (404, "not_found")
    assert await paid(sandbox, payer) == []


async def test_the_chosen_card_pays_where_none_is_named_and_an_expired_or_foreign_one_is_refused(
    world: World, sandbox: SandboxDriver
) -> None:
    creator = await creator_of(world)
    (payer, card), (other, foreign) = await payer_of(world, sandbox), await payer_of(world, sandbox)
    body = {"toUserId": creator.user_id, "amount": "5", "currency": "USD"}
    assert code(await payer.ask("POST", "/payments/tips", json=body, key="a")) == (422, "payment_method_invalid"), "none is chosen"
    assert code(await payer.ask("PUT", f"/payments/methods/{foreign}/default")) == (422, "payment_method_invalid")
    assert code(await payer.ask("POST", "/payments/tips", json=body | {"paymentMethodId": foreign}, key="b")) == (422, "payment_method_invalid")
    await payer.ok("PUT", f"/payments/methods/{card}/default")
    shown = await payer.ok("GET", "/payments/methods")
    assert [(item["paymentMethodId"], item["isDefault"]) for item in shown["paymentMethods"]] == [(card, True)]
    made = await payer.ok("POST", "/payments/tips", json=body, key="a")
    assert made == await payer.ok("POST", "/payments/tips", json=body, key="a")
    assert await paid(sandbox, payer) == [(500, 100)]
    await sandbox.command("card", payment_method=card, behaves_like="pm_card_chargeDeclinedExpiredCard")
    assert code(await payer.ask("POST", "/payments/tips", json=body, key="c")) == (422, "payment_method_invalid")
    assert code(await payer.ask("PUT", f"/payments/methods/{card}/default")) == (422, "payment_method_invalid")
    assert await paid(sandbox, payer) == [(500, 100)]
    assert await paid(sandbox, other) == []


async def test_an_account_that_was_begun_in_one_country_is_not_begun_in_another(world: World) -> None:
    """Also where the first request died before anybody knew the account."""
    creator = await assured(world, await world.register("sugar_baby"))
    provider = await world.dependencies.providers.present()
    await provider.onboard(
        derived_id(creator.user_id, f"account {provider.name}"), creator.user_id, "US", RETURN["returnUrl"], RETURN["refreshUrl"]
    )
    answer = await creator.ask("POST", "/payments/connect/onboarding", json=RETURN | {"country": "DE"})
    assert code(answer) == (409, "account_begun")
    assert (await creator.ok("GET", "/payments/connect/account"))["exists"] is False
    await creator.ok("POST", "/payments/connect/onboarding", json=RETURN)
    await creator.ok("POST", "/payments/connect/onboarding", json=RETURN | {"country": "DE"})


async def test_two_hundred_purchases_of_one_post_at_once_charge_once(world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(world)
    post_id = await post_for_sale(creator)
    payer, card = await payer_of(world, sandbox)
    await assured(world, payer)
    assert (await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "purchase"
    answers = await asyncio.gather(*(
        payer.ask("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key=f"buy-{number}")
        for number in range(200)
    ))
    outcomes = Counter(answer.status_code for answer in answers)
    assert outcomes == {201: 1, 409: 199}, [answer.text for answer in answers if answer.status_code not in (201, 409)]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"already_bought"}
    assert await paid(sandbox, payer) == [(500, 100)]
    seen = await payer.ok("GET", f"/content/posts/{post_id}")
    assert (seen["access"], seen["caption"]) == ("open", "what is sold")
    first = next(number for number, answer in enumerate(answers) if answer.status_code == 201)
    again = await payer.ok("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key=f"buy-{first}")
    assert again["status"] == "completed"
    other = await post_for_sale(creator)
    answer = await payer.ask("POST", f"/payments/posts/{other}/purchase", json={"paymentMethodId": card}, key=f"buy-{first}")
    assert code(answer) == (409, "idempotency_conflict")


async def test_a_post_that_lost_a_picture_is_not_sold_any_more(world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(world)
    payer, card = await payer_of(world, sandbox)
    await assured(world, payer)
    pictures = [
        MediaRecord(media_id=new_id(), owner_id=creator.user_id, kind="image", state="ready", review="approved") for _ in range(2)
    ]
    await apply_async(world.dependencies.redis, [put_media(picture, 1) for picture in pictures])
    post = (await creator.ok("POST", "/content/posts", json={
        "contentType": "image", "mediaIds": [picture.media_id for picture in pictures], "state": "published",
        "access": {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    }))["postId"]

    async def bought(key: str) -> httpx.Response:
        return await payer.ask("POST", f"/payments/posts/{post}/purchase", json={"paymentMethodId": card}, key=key)

    for version, change in enumerate(({"state": "removed"}, {"review": "rejected"}), 2):
        lost = msgspec.structs.replace(pictures[1], **change)
        await apply_async(world.dependencies.redis, [put_media(lost, version)])
        assert code(await bought(f"lost-{version}")) == (409, "not_for_sale")
    assert await paid(sandbox, payer) == []
    await apply_async(world.dependencies.redis, [put_media(pictures[1], 9)])
    assert (await bought("whole")).status_code == 201


async def test_a_declined_purchase_opens_nothing_and_another_card_may_follow(world: World, sandbox: SandboxDriver) -> None:
    creator = await creator_of(world)
    post_id = await post_for_sale(creator)
    payer, bad = await payer_of(world, sandbox, "pm_card_chargeCustomerFail")
    await assured(world, payer)
    path = f"/payments/posts/{post_id}/purchase"
    for _ in range(2):
        assert code(await payer.ask("POST", path, json={"paymentMethodId": bad}, key="a")) == (402, "payment_declined")
    assert (await payer.ok("GET", f"/content/posts/{post_id}"))["access"] == "purchase"
    assert code(await creator.ask("POST", path, json={"paymentMethodId": bad}, key="a")) == (422, "self_target")
    assert code(await payer.ask("POST", f"/payments/posts/{new_id()}/purchase", json={"paymentMethodId": bad}, key="b")) == (404, "not_found")
    free = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "free", "state": "published", "access": {"visibility": "public"},
    })
    answer = await payer.ask("POST", f"/payments/posts/{free['postId']}/purchase", json={"paymentMethodId": bad}, key="c")
    assert code(answer) == (409, "not_for_sale")
    assert await paid(sandbox, payer) == []


class TestAfterItsTime:
    """A payment that stayed pending, asked for again when price and payee hold no longer."""

    @pytest.fixture(autouse=True)
    def _over_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routes, "CHECKOUT_S", 0)

    async def test_what_waits_for_its_payers_bank_is_ended_and_not_charged_again(
        self, world: World, sandbox: SandboxDriver
    ) -> None:
        creator = await creator_of(world)
        payer, card = await payer_of(world, sandbox, "pm_card_authenticationRequired")
        body = {"toUserId": creator.user_id, "amount": "5", "currency": "USD", "paymentMethodId": card}
        made = await payer.ok("POST", "/payments/tips", json=body, key="a")
        assert made["status"] == "pending"
        await payer.ok("DELETE", f"/payments/methods/{card}")
        for _ in range(2):
            assert code(await payer.ask("POST", "/payments/tips", json=body, key="a")) == (409, "payment_refused")
        (intent,) = [item for item in await sandbox.objects("payment_intent") if item["metadata"]["requestId"] == made["id"]]
        assert intent["status"] == "canceled"
        assert (await payer.ok("GET", f"/payments/requests/{made['id']}"))["status"] == "failed"

    @pytest.mark.parametrize("reached", [False, True])
    async def test_what_nobody_heard_the_end_of_is_paid_as_it_was_and_else_never(
        self, world: World, sandbox: SandboxDriver, monkeypatch: pytest.MonkeyPatch, reached: bool
    ) -> None:
        """Whether or not the first call reached the processor."""
        creator = await creator_of(world)
        post_id = await post_for_sale(creator)
        payer, card = await payer_of(world, sandbox)
        await assured(world, payer)
        real = StripeProvider.pay

        async def unanswered(provider: StripeProvider, request: Pay) -> Started:
            if reached:
                await real(provider, request)
            raise ProviderUnavailable("nobody answers")

        path = f"/payments/posts/{post_id}/purchase"
        with monkeypatch.context() as broken:
            broken.setattr(StripeProvider, "pay", unanswered)
            assert (await payer.ask("POST", path, json={"paymentMethodId": card}, key="a")).status_code == 503
        await creator.ok("POST", f"/users/{payer.user_id}/block")
        answer = await payer.ask("POST", path, json={"paymentMethodId": card}, key="a")
        if reached:
            assert (answer.status_code, answer.json()["status"]) == (201, "completed")
        else:
            assert code(answer) == (409, "payment_refused")
        assert await paid(sandbox, payer) == ([(500, 100)] if reached else [])
