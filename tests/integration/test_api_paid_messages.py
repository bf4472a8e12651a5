"""Pay-per-view messages: a creator sells something to one person in their conversation, and nobody else finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person, World
from payments_world import SandboxDriver, assured, code, creator_of, payer_of, paying

from actors.payments.commands import AnswerRefund, RequestRefund
from configs.contracts.ids import new_id
from configs.contracts.payments import Refund
from configs.contracts.purchases import SingleFact
from configs.contracts.selling import bought
from configs.settings import Settings

pytestmark = pytest.mark.servers

PPV = {"visibility": "ppv", "price": {"amount": "7.50", "currency": "USD"}}


@pytest_asyncio.fixture
async def world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    yield await make_world(payments=paying(servers, sandbox))


async def couple(world: World, sandbox: SandboxDriver) -> tuple[Person, Person, str, str]:
    """A creator, somebody who has matched with them, a card of theirs, and the conversation."""
    creator = await creator_of(world)
    payer, card = await payer_of(world, sandbox)
    await assured(world, payer)
    await creator.swipe(payer)
    return creator, payer, card, (await payer.swipe(creator))["matchId"]


async def for_sale(creator: Person, recipient: Person, **fields: Any) -> str:
    made = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "what is sold", "state": "published", "access": PPV, "recipientId": recipient.user_id,
    } | fields)
    return str(made["postId"])


def message(conversation: str, post_id: str, ident: str = "sale", content: str = "only for you") -> dict[str, Any]:
    return {"conversationId": conversation, "content": content, "clientMessageId": ident, "postId": post_id}


async def test_what_a_message_sells_is_locked_until_its_recipient_has_paid_and_again_after_a_refund(
    world: World, sandbox: SandboxDriver
) -> None:
    creator, payer, card, conversation = await couple(world, sandbox)
    before = await payer.ok("GET", "/messaging/sync")
    post_id = await for_sale(creator, payer)
    sent = await creator.ok("POST", "/messaging/send", json=message(conversation, post_id))
    assert sent == await creator.ok("POST", "/messaging/send", json=message(conversation, post_id)), "sent once"
    history = await payer.ok("GET", f"/messaging/conversations/{conversation}/messages")
    missed = await payer.ok("GET", "/messaging/sync", params={"since": before["position"]})
    lists = await payer.ok("GET", "/messaging/conversations")
    for [found] in (history["messages"], missed["messages"], [lists["conversations"][0]["lastMessage"]]):
        assert (found["content"], found["postId"]) == ("only for you", post_id)
    assert "what is sold" not in f"{history}{missed}{lists}"
    stub = await payer.ok("GET", f"/content/posts/{post_id}")
    assert (stub["access"], stub["caption"], stub["price"]) == ("purchase", None, {"amount": "7.50", "currency": "USD"})
    path = f"/payments/posts/{post_id}/purchase"
    made = await payer.ok("POST", path, json={"paymentMethodId": card}, key="buy")
    assert (made["status"], made["amount"]) == ("completed", "7.50")
    assert made == await payer.ok("POST", path, json={"paymentMethodId": card}, key="buy"), "charged once"
    assert code(await payer.ask("POST", path, json={"paymentMethodId": card}, key="more")) == (409, "already_bought")
    opened = await payer.ok("GET", f"/content/posts/{post_id}")
    assert (opened["access"], opened["caption"], opened["direct"]) == ("open", "what is sold", True)
    await refund(world, payer, made["id"], post_id)
    closed = await payer.ok("GET", f"/content/posts/{post_id}")
    assert (closed["access"], closed["caption"]) == ("purchase", None)


async def refund(world: World, payer: Person, payment_id: str, post_id: str) -> None:
    """As a moderator's route and the processor do it."""
    refund_id, payments = new_id(), world.dependencies.payments
    asked = await payments.refund(RequestRefund(
        payer_id=payer.user_id, payment_id=payment_id, refund_id=refund_id, body_digest="", amount_minor=None, reason="asked",
        requested_by=new_id(),
    ))
    provider = await world.dependencies.providers.present()
    started = await provider.refund(Refund(
        request_id=refund_id, payment_id=asked.payment.succeeded.object_id,  # type: ignore[union-attr]
    ))
    facts = tuple(fact for fact in started.facts if isinstance(fact, SingleFact))
    answer = await payments.tell(AnswerRefund(
        payer_id=payer.user_id, payment_id=payment_id, refund_id=refund_id, made=True, post_id=post_id, facts=facts,
    ))
    await world.dependencies.write_through.apply(bought(answer.held))  # type: ignore[union-attr]


async def test_nobody_but_its_recipient_finds_or_buys_what_a_message_sells(world: World, sandbox: SandboxDriver) -> None:
    creator, payer, _, _ = await couple(world, sandbox)
    other, card = await payer_of(world, sandbox)
    await assured(world, other)
    await other.ok("POST", f"/content/creators/{creator.user_id}/follow")
    post_id = await for_sale(creator, payer)
    assert code(await other.ask("GET", f"/content/posts/{post_id}")) == (404, "not_found")
    answer = await other.ask("POST", f"/payments/posts/{post_id}/purchase", json={"paymentMethodId": card}, key="buy")
    assert code(answer) == (404, "not_found")
    for path, field in (("/content/feed", "posts"), (f"/content/creators/{creator.user_id}/posts", "posts")):
        for reader in (other, payer, creator):
            assert (await reader.ok("GET", path))[field] == []
    [own] = (await creator.ok("GET", "/content/drafts"))["posts"]
    assert (own["postId"], own["direct"], own["state"]) == (post_id, True, "published")


async def test_only_what_is_for_the_other_one_and_published_goes_with_a_message(world: World, sandbox: SandboxDriver) -> None:
    creator, payer, _, conversation = await couple(world, sandbox)
    other, _ = await payer_of(world, sandbox)
    public = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "everybody's", "state": "published", "access": PPV,
    })
    draft = await for_sale(creator, payer, state="draft")
    wrong = [
        (creator, message(conversation, new_id()), (404, "not_found")),
        (creator, message(conversation, await for_sale(creator, other)), (404, "not_found")),
        (creator, message(conversation, public["postId"]), (404, "not_found")),
        (creator, message(conversation, draft), (409, "post_state")),
        (payer, message(conversation, await for_sale(creator, payer)), (404, "not_found")),
        (other, message(conversation, await for_sale(creator, payer)), (404, "not_found")),
        (creator, message(conversation, "no id"), (422, "invalid")),
    ]
    for sender, body, expected in wrong:
        assert code(await sender.ask("POST", "/messaging/send", json=body)) == expected, body
    assert (await payer.ok("GET", f"/messaging/conversations/{conversation}/messages"))["messages"] == []
    first, second = await for_sale(creator, payer), await for_sale(creator, payer)
    await creator.ok("POST", "/messaging/send", json=message(conversation, first))
    for body in (message(conversation, second), message(conversation, first) | {"postId": None}):
        assert code(await creator.ask("POST", "/messaging/send", json=body)) == (409, "content_conflict"), "not what was sent"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"access": {"visibility": "public"}}, (422, "invalid")),
        ({"access": {"visibility": "subscribers"}}, (422, "invalid")),
        ({"recipientId": "nobody"}, (422, "invalid")),
        ({"recipientId": new_id()}, (404, "not_found")),
        ({"access": {"visibility": "ppv", "price": {"amount": "-1", "currency": "USD"}}}, (422, "invalid")),
        ({"access": {"visibility": "ppv", "price": {"amount": "0.001", "currency": "USD"}}}, (422, "invalid")),
    ],
)
async def test_what_one_person_is_to_find_has_a_price_and_somebody_who_is_there(
    world: World, sandbox: SandboxDriver, changed: dict[str, Any], expected: tuple[int, str]
) -> None:
    creator, payer, _, _ = await couple(world, sandbox)
    body = {"contentType": "text", "caption": "words", "state": "published", "access": PPV, "recipientId": payer.user_id} | changed
    assert code(await creator.ask("POST", "/content/posts", json=body)) == expected
    assert code(await creator.ask("POST", "/content/posts", json=body | {"access": PPV, "recipientId": creator.user_id})) == (
        422, "self_target"
    )
    assert (await creator.ok("GET", "/content/drafts"))["posts"] == []


async def test_what_was_made_for_one_person_is_never_made_everybodys(world: World, sandbox: SandboxDriver) -> None:
    creator, payer, _, _ = await couple(world, sandbox)
    post_id = await for_sale(creator, payer)
    answer = await creator.ask("PUT", f"/content/posts/{post_id}", json={"access": {"visibility": "public"}})
    assert code(answer) == (409, "post_sold")
    draft = await for_sale(creator, payer, state="draft")
    await creator.ok("PUT", f"/content/posts/{draft}", json={"access": {"visibility": "public"}})
    assert code(await creator.ask("PUT", f"/content/posts/{draft}", json={"state": "published"})) == (422, "post_incomplete")
    await creator.ok("PUT", f"/content/posts/{draft}", json={"access": PPV, "state": "published"})
    other = await world.register("sugar_daddy")
    assert code(await other.ask("GET", f"/content/posts/{draft}")) == (404, "not_found")
    # One who blocks, or is blocked, does not find it either.
    await creator.ok("POST", f"/users/{payer.user_id}/block")
    assert code(await payer.ask("GET", f"/content/posts/{post_id}")) == (404, "not_found")
