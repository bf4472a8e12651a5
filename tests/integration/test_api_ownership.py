"""Whose objects may be named: every id that a route of the published document takes, for one's own object and another's.

The table says what is answered. A route that takes an id and is not in it fails the first test.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world
from owned_objects import Side, side
from payments_world import SandboxDriver

from configs.contracts.ids import new_id
from configs.settings import Limits, load_settings
from serve_apps.application import document

pytestmark = pytest.mark.servers

OK = "ok"
NOT_FOUND = "404 not_found"
FORBIDDEN = "403 forbidden"
SERVICES = "401 unauthenticated"
CARD = "422 payment_method_invalid"
MEDIA = "422 media_unknown"
CONSENT = "403 consent_missing"
NO_OBJECTS = {"clientMessageId", "impressionId", "impressionIds"}
"""Ids that name no object: a client's own, and signed ones (test_api_impressions)."""


@dataclass(frozen=True)
class Rule:
    """``names``: field -> the thing whose id it takes. ``own``, ``others``: the answer where these are the caller's, or another's.

    ``body`` and ``query``: what else is sent; a value that begins with $ is the id of a thing of the caller.
    """

    operation: str
    names: Mapping[str, str]
    own: str
    others: str
    by: str = "creator"
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)


TEXT = {"contentType": "text", "caption": "words", "access": {"visibility": "public"}, "state": "published"}
IMAGE = {"contentType": "image", "access": {"visibility": "subscribers"}, "state": "published"}
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
MESSAGE = {"content": "hello", "clientMessageId": "$new"}
MONEY = {"amount": "5.00", "currency": "USD"}
SPAM = {"category": "spam"}
DECISION = {"targetType": "user", "action": "ban", "category": "spam", "statement": "No.", "seen": 0}
BUY = {"interval": "month", "paymentMethodId": "$method"}

# In the order in which they are called: what ends an object stands last.
RULES = (
    # What everybody may see and answer to.
    Rule("getProfile", {"userId": "creator"}, OK, OK),
    Rule("getCreator", {"id": "creator"}, OK, OK),
    Rule("listCreatorPosts", {"id": "creator"}, OK, OK),
    Rule("listTiers", {"creatorId": "creator"}, OK, OK),
    Rule("getPost", {"id": "post"}, OK, OK),
    Rule("listComments", {"id": "post"}, OK, OK),
    Rule("createComment", {"id": "post"}, OK, OK, body={"text": "nice"}),
    Rule("likePost", {"id": "post"}, OK, OK),
    Rule("unlikePost", {"id": "post"}, OK, OK),
    Rule("swipe", {"targetUserId": "fan"}, "422 self_target", OK, by="fan", body={"action": "pass"}),
    Rule("follow", {"id": "creator"}, "422 self_target", OK),
    Rule("unfollow", {"id": "creator"}, NOT_FOUND, OK),
    Rule("report", {"targetId": "creator"}, "422 self_target", OK, body=SPAM | {"targetType": "user"}),
    Rule("report", {"targetId": "comment", "postId": "post"}, OK, OK, body=SPAM | {"targetType": "comment"}),
    # Sessions, devices, notifications.
    Rule("removePasskey", {"id": "passkey"}, OK, NOT_FOUND),
    Rule("endSession", {"id": "session"}, OK, NOT_FOUND),
    Rule("removeDevice", {"deviceId": "device"}, OK, OK),
    Rule("readNotification", {"id": "notification"}, OK, NOT_FOUND),
    # Conversations.
    Rule("listMessages", {"id": "conversation"}, OK, NOT_FOUND),
    Rule("markConversationRead", {"id": "conversation"}, OK, NOT_FOUND, body={"seq": 1}),
    Rule("sendMessage", {"conversationId": "conversation"}, OK, NOT_FOUND, body=MESSAGE),
    Rule("sendMessage", {"postId": "direct"}, OK, NOT_FOUND, body=MESSAGE | {"conversationId": "$conversation"}),
    Rule("sendMessage", {"attachments": "media"}, OK, MEDIA, body=MESSAGE | {"conversationId": "$conversation"}),
    Rule("report", {"targetId": "message", "conversationId": "conversation"}, OK, NOT_FOUND, body=SPAM | {"targetType": "message"}),
    # Media and posts.
    Rule("getPost", {"id": "draft"}, OK, NOT_FOUND),
    Rule("getPost", {"id": "direct"}, OK, NOT_FOUND),
    Rule("completeUpload", {"mediaId": "upload"}, OK, NOT_FOUND),
    Rule("getMedia", {"mediaId": "media"}, OK, NOT_FOUND),
    Rule("getPlaylist", {"mediaId": "media"}, NOT_FOUND, NOT_FOUND, query={"expires": "4000000000", "signature": "0" * 64}),
    Rule("getMarkedPicture", {"mediaId": "media"}, NOT_FOUND, NOT_FOUND, query={"expires": "4000000000", "signature": "0" * 64}),
    Rule("arrangePhotos", {"mediaIds": "upload"}, OK, MEDIA, body={}),
    Rule("createPost", {"mediaIds": "media"}, OK, MEDIA, body=IMAGE),
    Rule("createPost", {"recipientId": "creator"}, "422 self_target", OK, body=TEXT | {"access": PPV}),
    Rule("createPost", {"depicted": "fan"}, CONSENT, CONSENT, body=TEXT),
    Rule("updatePost", {"id": "draft"}, OK, NOT_FOUND, body={"caption": "changed"}),
    Rule("updatePost", {"mediaIds": "media"}, OK, MEDIA, body={"id": "$draft", "contentType": "image"}),
    Rule("updatePost", {"depicted": "fan"}, CONSENT, CONSENT, body={"id": "$draft", "state": "published"}),
    Rule("deleteComment", {"id": "post", "commentId": "comment"}, OK, FORBIDDEN, by="fan"),
    Rule("deletePost", {"id": "draft"}, OK, NOT_FOUND),
    Rule("removeMedia", {"mediaId": "upload"}, OK, NOT_FOUND),
    Rule("giveConsent", {"userId": "creator"}, "422 self_target", OK),
    Rule("withdrawConsent", {"userId": "creator"}, NOT_FOUND, OK),
    # Money.
    Rule("chooseDefaultPaymentMethod", {"id": "method"}, OK, CARD, by="fan"),
    Rule("tip", {"paymentMethodId": "method"}, OK, CARD, by="fan", body=MONEY | {"toUserId": "$creator"}),
    Rule("tip", {"toUserId": "creator"}, OK, OK, by="fan", body=MONEY | {"paymentMethodId": "$method"}),
    Rule("purchasePost", {"paymentMethodId": "method"}, OK, CARD, by="fan", body={"postId": "$ppv"}),
    Rule("purchasePost", {"postId": "ppv too"}, OK, OK, by="fan", body={"paymentMethodId": "$method"}),
    Rule("getPayment", {"id": "payment"}, OK, NOT_FOUND, by="fan"),
    Rule("getPayout", {"id": "payout"}, OK, NOT_FOUND),
    Rule("recordPayout", {"id": "payout", "creatorId": "creator"}, FORBIDDEN, FORBIDDEN, body={"outcome": "paid", "reference": "mine"}),
    Rule("refundPayment", {"payerId": "fan", "paymentId": "payment"}, FORBIDDEN, FORBIDDEN, by="fan", body={"reason": "mine"}),
    Rule("refundBill", {"subscriberId": "fan", "subscriptionId": "subscription", "billId": "subscription"}, FORBIDDEN, FORBIDDEN, by="fan", body={"reason": "mine"}),
    Rule("getSubscription", {"id": "subscription"}, OK, NOT_FOUND, by="fan"),
    Rule("changeSubscriptionPaymentMethod", {"id": "subscription"}, OK, NOT_FOUND, by="fan", body={"paymentMethodId": "$method"}),
    Rule("changeSubscriptionPaymentMethod", {"paymentMethodId": "method"}, OK, CARD, by="fan", body={"id": "$subscription"}),
    Rule("changeSubscription", {"tierId": "tier above"}, OK, NOT_FOUND, by="fan", body={"id": "$subscription"}),
    Rule("changeSubscription", {"id": "subscription"}, "409 same_tier", NOT_FOUND, by="fan", body={"tierId": "$tier above"}),
    Rule("cancelSubscription", {"id": "subscription"}, OK, NOT_FOUND, by="fan"),
    Rule("resumeSubscription", {"id": "subscription"}, OK, NOT_FOUND, by="fan"),
    Rule("subscribe", {"paymentMethodId": "method"}, "409 already_subscribed", CARD, by="fan", body={"tierId": "$tier", "interval": "month"}),
    Rule("subscribe", {"tierId": "tier"}, "409 already_subscribed", OK, by="fan", body=BUY),
    Rule("createPromoCode", {"tierIds": "tier"}, OK, NOT_FOUND, body={"code": "AUTUMN", "percent": 10}),
    Rule("updatePromoCode", {"id": "promo"}, OK, NOT_FOUND, body={"isActive": False}),
    Rule("updateTier", {"id": "tier"}, OK, NOT_FOUND, body={"description": "changed"}),
    Rule("archiveTier", {"id": "tier"}, OK, NOT_FOUND),
    Rule("removePaymentMethod", {"id": "method"}, OK, NOT_FOUND, by="fan"),
    # Staff and services, and what needs no account.
    Rule("getModerationCase", {"targetId": "creator"}, FORBIDDEN, FORBIDDEN),
    Rule("getCaseMedia", {"mediaId": "media"}, FORBIDDEN, FORBIDDEN),
    Rule("decideCase", {"targetId": "creator"}, FORBIDDEN, FORBIDDEN, body=DECISION),
    Rule("decideAppeal", {"targetId": "creator", "decisionId": "post"}, FORBIDDEN, FORBIDDEN, body={"outcome": "reversed", "statement": "Mine."}),
    Rule("listAudit", {"targetId": "creator"}, FORBIDDEN, FORBIDDEN),
    Rule("explainCard", {"viewerId": "creator", "candidateId": "fan"}, SERVICES, SERVICES),
    Rule("sendNotification", {"userId": "creator"}, SERVICES, SERVICES, body={"type": "system", "title": "x"}),
    Rule("requestRemoval", {"targetId": "media"}, OK, OK, body={
        "targetType": "media", "contact": "me@example.com", "description": "It is me.", "signature": "Me",
    }),
    # Ends of relations.
    Rule("unmatch", {"matchId": "match"}, OK, NOT_FOUND),
    Rule("block", {"userId": "creator"}, "422 self_target", OK),
    Rule("unblock", {"userId": "creator"}, NOT_FOUND, OK),
)


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    ids: frozenset[str]
    in_query: frozenset[str]
    schemes: frozenset[str]
    """Who is let in: person, service; both: staff; empty: everybody."""


def routes(api: Mapping[str, Any]) -> Iterator[tuple[str, Route]]:
    """(operation, route) of every operation that takes an id of an object in its path, query or body."""
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            named = {(given["name"], given["in"]) for given in operation.get("parameters", ()) if given["in"] in ("path", "query")}
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            body = api["components"]["schemas"][content["$ref"].rpartition("/")[2]]["properties"] if "$ref" in content else {}
            ids = {name for name, _ in named if _is_id(name, {})} | {name for name, schema in body.items() if _is_id(name, schema)}
            if ids := ids - NO_OBJECTS:
                in_query = frozenset(name for name, place in named if place == "query")
                schemes = frozenset(name for wanted in operation.get("security", ()) for name in wanted)
                yield operation["operationId"], Route(method.upper(), path, frozenset(ids), in_query, schemes)


def _is_id(name: str, schema: Mapping[str, Any]) -> bool:
    return re.search(r"^id$|Ids?$", name) is not None or "[0-9a-f]{12}$" in str(schema)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory, sandbox: SandboxDriver) -> AsyncIterator[ContentWorld]:
    most = {name: 100_000 for name in Limits.model_fields if name.startswith(("checkouts", "requests", "registrations"))}
    settings = load_settings("test")
    payments, limits = sandbox.settings(settings).payments, settings.limits.model_copy(update=most)
    async with content_world(tmp_path_factory.mktemp("ownership"), payments=payments, limits=limits) as made:
        yield made


def test_every_id_that_a_route_takes_is_in_the_table(world: ContentWorld) -> None:
    taken = {(operation, name) for operation, route in routes(document(world.app)) for name in route.ids}
    told = {(rule.operation, name) for rule in RULES for name in rule.names}
    assert sorted(taken - told) == [], "say whose objects these may name"
    assert sorted(told - taken) == [], "no route takes these"


async def test_ones_own_objects_answer_and_those_of_others_as_the_table_says(world: ContentWorld, sandbox: SandboxDriver) -> None:
    known = dict(routes(document(world.app)))
    mine, other = await side(world, sandbox, 1), await side(world, sandbox, 2)
    wrong = []
    for rule in RULES:
        route = known[rule.operation]
        # Own objects last: they answer because nobody else could change or end them.
        asked = {"others": await _ask(rule, route, other, mine.ids)}
        if not asked["others"].startswith(OK) and rule.others not in (FORBIDDEN, SERVICES):
            asked["unknown"] = await _ask(rule, route, other, {thing: _nobody(mine.ids[thing]) for thing in rule.names.values()})
        asked["own"] = await _ask(rule, route, mine, mine.ids)
        for whose, answer in asked.items():
            expected = rule.own if whose == "own" else rule.others
            if not answer.startswith(expected):
                wrong.append(f"{rule.operation} {dict(rule.names)} {whose}: {answer}, not {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("role", ["moderator", "admin"])
async def test_staff_may_no_more_with_objects_of_others_than_anybody_else_but_on_their_own_routes(
    world: ContentWorld, sandbox: SandboxDriver, role: str
) -> None:
    known = dict(routes(document(world.app)))
    mine, staff = await side(world, sandbox, 1), await side(world, sandbox, 2)
    for person in (staff.creator, staff.fan):
        await _promote(world, person, role)
    wrong = []
    for rule in RULES:
        if "service" not in known[rule.operation].schemes:
            answer = await _ask(rule, known[rule.operation], staff, mine.ids)
            if not answer.startswith(rule.others):
                wrong.append(f"{rule.operation} {dict(rule.names)} by {role}: {answer}, not {rule.others}")
    assert not wrong, "\n".join(wrong)


async def test_a_service_is_nobody_where_people_are_asked_for(world: ContentWorld, sandbox: SandboxDriver) -> None:
    known = dict(routes(document(world.app)))
    mine = await side(world, sandbox, 1)
    token = world.dependencies.tokens.issue_service("test", 600)
    service = replace(mine, creator=replace(mine.creator, access_token=token), fan=replace(mine.fan, access_token=token))
    wrong = []
    for rule in RULES:
        if "service" not in (schemes := known[rule.operation].schemes):
            answer = await _ask(rule, known[rule.operation], service, mine.ids)
            expected = SERVICES if "person" in schemes else rule.others
            if not answer.startswith(expected):
                wrong.append(f"{rule.operation} {dict(rule.names)}: {answer}, not {expected}")
    assert not wrong, "\n".join(wrong)


async def _promote(world: ContentWorld, person: Person, role: str) -> None:
    """Gives a role, and takes a token that tells it."""
    granted = await world.client.put(
        "/api/v1/moderation/roles", json={"email": person.email, "role": role},
        headers={"Authorization": f"Bearer {world.dependencies.tokens.issue_service('test', 600)}", "Idempotency-Key": new_id()},
    )
    assert granted.is_success, granted.text
    again = await world.client.post("/api/v1/auth/login", json={"email": person.email, "password": person.password})
    assert again.is_success, again.text
    person.access_token, person.refresh_token = again.json()["accessToken"], again.json()["refreshToken"]
    assert (await person.ok("GET", "/auth/me"))["permissionRole"] == role


async def _ask(rule: Rule, route: Route, caller: Side, ids: Mapping[str, str]) -> str:
    """The call by one side with the ids of a side, or of nobody: "ok …", or status and code."""
    given: dict[str, Any] = {name: _own(value, caller) for name, value in (rule.body or {}).items()}
    for name, thing in rule.names.items():
        given[name] = [ids[thing]] if name.endswith("Ids") or name in ("attachments", "depicted") else ids[thing]
    path = re.sub(r"\{(\w+)\}", lambda hit: str(given.pop(hit.group(1))), route.path)
    query = {name: given.pop(name) for name in route.in_query & given.keys()} | dict(rule.query)
    person: Person = caller.fan if rule.by == "fan" else caller.creator
    answer = await person.ask(
        route.method, path.removeprefix("/api/v1"), params=query, key=new_id(), **({} if rule.body is None else {"json": given}),
    )
    return f"{OK} {answer.status_code}" if answer.is_success else f"{answer.status_code} {answer.json()['code']} {answer.text[:200]}"


def _own(value: Any, caller: Side) -> Any:
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    return new_id() if value == "$new" else caller.ids[value[1:]]


def _nobody(like: str) -> str:
    """An id of the same form that names nothing."""
    if re.fullmatch("[0-9a-f-]{36}", like):
        return new_id()
    if like.startswith("pm_"):
        return f"pm_{secrets.token_hex((len(like) - 3) // 2)}"
    return base64.urlsafe_b64encode(secrets.token_bytes(len(like) * 3 // 4)).decode().rstrip("=")
