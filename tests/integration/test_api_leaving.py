"""Leaving for good: after an erasure no store knows the person any more."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest
from api_world import Person, forged
from local_http import local_client
from media_world import picture, uploaded
from safety_world import HERE, SafetyWorld, code, pair, send, until

from actors.payments.commands import Observe, RequestPayment
from cluster.connections.media.local import media_dir
from cluster.connections.postgres import connect
from cluster.connections.redis import apply, sync_client
from configs.contracts.accounts import Passkey, Security, Totp
from configs.contracts.events import AgeAssessed
from configs.contracts.ids import derived_id, new_id
from configs.contracts.payment_facts import PaymentSucceeded
from configs.contracts.read_model import NotificationEntry, commerce_key, put_notification
from configs.contracts.selling import purchase_field
from serve_apps.recording import recorded
from writers.connections import open_rows
from writers.exporting import SECTIONS, forget_due
from writers.projections.operations import shared_with
from writers.pruning import prune
from writers.reconcile import Report, reconcile
from writers.sinks.erasures import sweep

pytestmark = pytest.mark.servers
CANARY = "kanarienvogel"
PROCESSED_S = 120.0
"""A picture's processing imports its libraries first."""


def rows_with(safety: SafetyWorld, canaries: tuple[str, ...]) -> list[tuple[str, str]]:
    """(table, row) of every row of every table that holds one of the texts."""
    found = []
    with connect(safety.settings, "test") as conn:
        tables = [row[0] for row in conn.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()]
        for table in tables:
            found += [
                (table, row) for (row,) in conn.execute(
                    f"SELECT t::text FROM {table} AS t WHERE t::text ~* %s", ("|".join(canaries),)
                ).fetchall()
            ]
    return found


def keys_with(safety: SafetyWorld, canaries: tuple[str, ...]) -> list[str]:
    """Every key of Redis that holds, or is named by, one of the texts."""
    found = []
    with sync_client(safety.settings) as client:
        for key in client.scan_iter(count=1_000):
            kind = client.type(key).decode()
            value: Any = {
                "string": client.get, "hash": client.hgetall, "set": client.smembers,
                "zset": lambda name: client.zrange(name, 0, -1), "list": lambda name: client.lrange(name, 0, -1),
                "stream": client.xrange, "none": lambda name: None,  # its time was over meanwhile
            }[kind](key)
            text = f"{key.decode()} {value}".lower()
            if any(canary in text for canary in canaries):
                found.append(key.decode())
    return found


def texts_in(root: Any) -> Iterator[str]:
    """Every text that can be reached from an object."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, str):
            yield thing
        if id(thing) in seen or isinstance(thing, str | int | float | bytes | type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += list(thing)
        else:
            slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
            fields = (*slots, *getattr(thing, "__dict__", ()), *getattr(thing, "__struct_fields__", ()))
            waiting += [getattr(thing, name) for name in fields if hasattr(thing, name)]


def memories_with(safety: SafetyWorld, canaries: tuple[str, ...]) -> list[str]:
    """The services of shards whose memory holds one of the texts."""
    found = []
    for host in safety.shards.hosts.values():
        for name, service in host._services.items():
            memory = getattr(getattr(service, "group", None), "memory", None)
            if any(canary in text.lower() for text in texts_in(memory) for canary in canaries):
                found.append(name)
    return found


async def gives(safety: SafetyWorld, payer: Person, payee: Person, *, message: str | None = None, post_id: str | None = None) -> str:
    """A tip, or a purchase, that the payer's shard has recorded and the processor charged; its id."""
    payments, payment_id = safety.here.dependencies.payments, new_id()
    await payments.request(RequestPayment(
        payer_id=payer.user_id, payment_id=payment_id, body_digest="", payee_id=payee.user_id,
        purpose="tip" if post_id is None else "post", post_id=post_id, amount_minor=500, currency="EUR", fee_minor=100,
        account_id="acct_1", payment_method_id="pm_1", message=message, checkout_s=1_800,
    ))
    paid = PaymentSucceeded(
        provider="stripe", livemode=False, event_id="look", object_id=f"pi_{payment_id}", as_of=datetime.now(UTC),
        payment_id=f"pi_{payment_id}", payer_id=payer.user_id, payee_id=payee.user_id, request_id=payment_id, currency="EUR",
        amount_minor=500, fee_minor=100,
    )
    await payments.tell(Observe(payer_id=payer.user_id, payment_id=payment_id, facts=(paid,)))
    return payment_id


async def adult(safety: SafetyWorld, person: Person) -> None:
    payload = AgeAssessed(user_id=person.user_id, assessment_id=new_id(), status="verified", provider="test")
    await recorded(safety.here.dependencies, person.user_id, payload, scope="test", idempotency_key=None)


async def shows(safety: SafetyWorld, one: Person, gone: Person) -> tuple[str, str]:
    """Gives ``gone`` a photo that ``one`` sees, a post, a comment and a device: the photo's id, and the post's."""
    creator = await safety.here.register()
    for person in (gone, creator):
        await safety.in_rows(person)
        await adult(safety, person)
    media_id = await uploaded(gone, picture(97))

    async def processed() -> bool:
        answer = await gone.ask("GET", f"/media/{media_id}")
        return answer.status_code == 200 and answer.json()["state"] == "ready"

    await until(processed, PROCESSED_S)
    await gone.ok("PUT", "/users/me/photos", json={"mediaIds": [media_id]})
    assert (await safety.decide(await safety.moderator(), media_id, "dismiss", targetType="media")).status_code == 201

    async def avatar() -> Any:
        return (await one.ok("GET", f"/users/profile/{gone.user_id}"))["avatarUrl"]

    await until(avatar)

    body = {"contentType": "text", "access": {"visibility": "public"}, "state": "published"}
    mine, theirs = [
        (await by.ok("POST", "/content/posts", json=body | {"caption": caption}))["postId"]
        for by, caption in ((gone, f"{CANARY} post"), (creator, "somebody else's"))
    ]
    comments = f"/content/posts/{theirs}/comments"

    async def commented() -> bool:
        return (await gone.ask("POST", comments, json={"text": f"{CANARY} comment"}, key="once")).status_code == 201

    await until(commented)
    await gone.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": f"{CANARY}-token"})
    assert f"{CANARY} comment" in str(await one.ok("GET", comments))
    return media_id, mine


def files_of(safety: SafetyWorld, media_id: str) -> list[str]:
    """What the media store's directory holds of a media, its preview and unfinished uploads included."""
    root = media_dir(safety.settings.data_dir)
    names = (media_id, derived_id(media_id, "preview"))
    return [str(path) for path in root.rglob("*") if path.is_file() and any(name in str(path) for name in names)]


async def customers_of(safety: SafetyWorld, user_id: str) -> list[str]:
    """The names under which the payment processor knows a payer."""
    payments = safety.settings.payments
    async with local_client(timeout=60) as client:
        answer = await client.get(
            f"{payments.stripe_url}/sandbox/objects/customer",
            headers={"Authorization": f"Bearer {payments.stripe_key.get_secret_value()}"},
        )
    return [found["id"] for found in answer.json()["data"] if user_id in json.dumps(found)]


async def test_after_an_erasure_no_store_knows_the_person_any_more(safety: SafetyWorld) -> None:
    gone, one, conversation = await pair(safety)
    photo, post = await shows(safety, one, gone)
    await gone.ok("POST", "/payments/methods/setup")
    (customer,) = await customers_of(safety, gone.user_id)
    canaries = (CANARY, gone.email.lower(), customer.lower())
    await gone.ok("PUT", "/users/profile", json={"displayName": f"{CANARY} name", "bio": f"{CANARY} bio"})
    await gone.ok("PUT", "/users/me/preferences", json={"ageMin": 21})
    assert (await send(gone, conversation, f"{CANARY} message")).status_code == 200
    assert (await send(one, conversation, "an answer")).status_code == 200
    await one.ok("GET", f"/messaging/conversations/{conversation}/messages")
    await safety.here.client.post(
        "/api/v1/auth/login", json={"email": gone.email, "password": gone.password}, headers={"User-Agent": f"{CANARY} phone"}
    )
    await gives(safety, gone, one, message=f"{CANARY} tip")
    post_id = new_id()
    await gives(safety, gone, one, post_id=post_id)
    await until(
        lambda: {
            "users", "messages", "sessions", "credentials", "tips", "posts", "comments", "device_tokens",
        } <= {table for table, _ in rows_with(safety, canaries)}
    )
    await until(lambda: rows_with(safety, (customer.lower(),)))
    assert files_of(safety, photo)
    await until(lambda: len(rows_with(safety, (f"{gone.user_id}.*,charge,",))) == 2)
    await until(lambda: keys_with(safety, (purchase_field(post_id),)) == [commerce_key(gone.user_id)])
    assert keys_with(safety, canaries)
    assert "accounts" in memories_with(safety, canaries)

    old = safety.here.dependencies.tokens.issue(gone.user_id, new_id(), signed_in_at=1.0)
    late = await safety.here.client.delete("/api/v1/users/me", headers={"Authorization": f"Bearer {old}"})
    assert code(late) == (401, "sign_in_again")
    await gone.ok("DELETE", "/users/me")

    assert (await gone.ask("GET", "/users/me")).status_code == 401
    login = {"email": gone.email, "password": gone.password}
    assert (await safety.here.client.post("/api/v1/auth/login", json=login)).status_code == 401
    assert code(await one.ask("GET", f"/users/profile/{gone.user_id}")) == (404, "not_found")
    await until(lambda: not rows_with(safety, canaries))
    await until(lambda: not keys_with(safety, canaries))
    await until(lambda: memories_with(safety, canaries) == [])
    await until(lambda: not keys_with(safety, (purchase_field(post_id),)))
    await until(lambda: not files_of(safety, photo))
    with connect(safety.settings, "test") as conn:
        forgotten = "SELECT 1 FROM erasures WHERE user_id = %s AND payer_forgotten_at IS NOT NULL"
        await until(lambda: conn.execute(forgotten, (gone.user_id,)).fetchone())
    assert await customers_of(safety, gone.user_id) == []
    for path in (f"/media/{photo}", f"/content/posts/{post}"):
        assert code(await one.ask("GET", path)) == (404, "not_found")
    assert gone.user_id not in str(await one.ok("GET", "/matching/matches"))

    async def ended() -> bool:
        return bool((await send(one, conversation)).status_code == 404)

    await until(ended)
    assert code(await send(one, conversation)) == (404, "not_found")

    # What comes late changes nothing, and is swept.
    with open_rows(safety.settings, "test") as conn:
        with conn.transaction(), conn.cursor() as cur:
            sweep(cur)  # what other tests left
        conn.execute("UPDATE messages SET content = %s WHERE sender_id = %s", (CANARY, gone.user_id))
        conn.execute("UPDATE tips SET message = %s WHERE from_user_id = %s", (CANARY, gone.user_id))
        with conn.transaction(), conn.cursor() as cur:
            assert sweep(cur) == {gone.user_id: 2}
        kept = conn.execute(
            "SELECT amount_minor, status FROM tips WHERE from_user_id = %s UNION ALL "
            "SELECT amount_minor, status FROM post_purchases WHERE buyer_id = %s UNION ALL "
            "SELECT amount_minor, kind FROM transactions WHERE owner_id = %s", (gone.user_id,) * 3
        ).fetchall()
        conn.execute("UPDATE messages SET content = %s WHERE sender_id = %s", (CANARY, gone.user_id))
        conn.execute("UPDATE posts SET caption = %s WHERE creator_id = %s", (CANARY, gone.user_id))
        late = NotificationEntry(new_id(), "system", CANARY, None, {}, "2026-01-01T00:00:00Z")
        conn.execute(
            "INSERT INTO notifications (user_id, id, kind, title, data, created_at, version) VALUES (%s, %s, 'system', %s, '{}', now(), 1)",
            (gone.user_id, late.notification_id, CANARY),
        )
        with sync_client(safety.settings) as client:  # as the projections bring it there
            apply(client, [*shared_with(conn, [gone.user_id]), put_notification(gone.user_id, late, version=1, at_ms=1)])
        stands = new_id()
        await until(lambda: not conn.execute("SELECT 1 FROM sessions WHERE user_id = %s AND revoked_at IS NULL", (gone.user_id,)).fetchone())
        conn.execute(
            "INSERT INTO sessions (family_id, user_id, counter, expires_at, version, email_hash) "
            "VALUES (%s, %s, 0, now() + interval '1 day', 1, %s)", (stands, gone.user_id, new_id()),
        )
    assert {key.partition(":")[0] for key in keys_with(safety, (CANARY,))} == {"note", "post"}
    await asyncio.to_thread(prune, safety.settings)
    with connect(safety.settings, "test") as conn:
        addressed = conn.execute(
            "SELECT family_id::text FROM sessions WHERE user_id = %s AND email_hash IS NOT NULL", (gone.user_id,)
        ).fetchall()
    assert addressed == [(stands,)], "only one that was not ended yet asks whether its account stands"
    assert not rows_with(safety, canaries)
    assert not keys_with(safety, canaries)
    assert kept == [(500, "completed")] * 2 + [(500, "charge")] * 2, "the law has money kept"

    # The address is free again, for somebody new.
    again = await safety.here.client.post("/api/v1/auth/register", json=safety.here.body(email=gone.email))
    assert again.status_code == 201, again.text
    assert again.json()["userId"] != gone.user_id


async def test_after_an_erasure_nothing_of_what_a_creator_wrote_about_their_tiers_is_left(safety: SafetyWorld) -> None:
    gone, _, _ = await pair(safety)
    await adult(safety, gone)
    canaries = (f"{CANARY} gold", f"{CANARY} words", f"{CANARY} benefit", f"{CANARY}10")
    tier = await gone.ok("POST", "/subscriptions/tiers", json={
        "rank": 1, "name": f"{CANARY} gold", "description": f"{CANARY} words", "currency": "USD", "priceMonthly": "9.99",
        "benefits": [f"{CANARY} benefit"],
    })
    await gone.ok("POST", "/subscriptions/promo-codes", json={"code": f"{CANARY}10", "percent": 10})
    await until(lambda: {"subscription_tiers", "promo_codes"} <= {table for table, _ in rows_with(safety, canaries)})
    assert keys_with(safety, canaries)
    assert "tiers" in memories_with(safety, canaries)
    await gone.ok("DELETE", "/users/me")
    await until(lambda: not rows_with(safety, canaries))
    await until(lambda: not keys_with(safety, canaries))
    await until(lambda: memories_with(safety, canaries) == [])
    with open_rows(safety.settings, "test") as conn:
        kept = conn.execute("SELECT rank, price_monthly, archived FROM subscription_tiers WHERE id = %s", (tier["tierId"],)).fetchall()
    assert kept == [(1, 999, True)], "who pays for it pays what was agreed, and who has paid keeps the rank"


async def pictured(safety: SafetyWorld, person: Person) -> tuple[str, str]:
    """A picture of the person's, and their draft that shows it."""
    media_id = await uploaded(person, picture(98))
    draft = await person.ok("POST", "/content/posts", json={
        "contentType": "image", "mediaIds": [media_id], "depicted": [person.user_id], "access": {"visibility": "public"}, "state": "draft",
    })
    return media_id, draft["postId"]


async def test_an_export_holds_what_is_held_of_the_person_and_of_others_only_ids(safety: SafetyWorld) -> None:
    one, other, conversation = await pair(safety)
    await one.ok("PUT", "/users/profile", json={"bio": f"{CANARY} of mine"})
    stranger, former = await safety.here.register(), await safety.here.register("sugar_daddy", at=HERE)
    await one.swipe(former)
    assert (await former.swipe(one))["matched"]
    for person in (stranger, former):
        await person.ok("POST", f"/users/{one.user_id}/block")
    picture_id, post_id = await pictured(safety, one)
    await other.ok("PUT", "/users/profile", json={"bio": "somebody else's"})
    assert (await send(one, conversation, f"{CANARY} said")).status_code == 200
    assert (await send(other, conversation, "an answer of the other")).status_code == 200
    given = await gives(safety, one, other, message=f"{CANARY} given")
    received = await gives(safety, other, one, message="the other's words")
    bought = await gives(safety, one, other, post_id=new_id())
    await until(
        lambda: {"users", "messages", "tips"} <= {table for table, _ in rows_with(safety, (f"{CANARY} (of mine|said|given)",))}
    )
    await until(lambda: len(rows_with(safety, (f"{one.user_id}.*,charge,",))) == 3)
    await until(lambda: "matches" in {table for table, _ in rows_with(safety, (conversation,))})
    await until(lambda: len(rows_with(safety, (f"^.{one.user_id},.*,blocked,",))) == 2)
    await until(lambda: {"media", "posts"} <= {table for table, _ in rows_with(safety, (picture_id,))})
    decision = new_id()
    with connect(safety.settings, "test") as conn:
        for target, subject, words in ((post_id, one.user_id, "Off the post"), (new_id(), other.user_id, "somebody else's post")):
            conn.execute(
                "INSERT INTO decisions (target_id, id, target_type, subject_id, action, category, statement, decided_by, decided_at, "
                "number, version) VALUES (%s, %s, 'post', %s, 'warn', 'spam', %s, 'person:moderator', now(), 1, 1)",
                (target, decision, subject, words),
            )
            conn.execute(
                "INSERT INTO appeals (target_id, decision_id, id, appellant_id, body, appealed_at, due_at, version) "
                "VALUES (%s, %s, %s, %s, %s, now(), now(), 1)", (target, decision, new_id(), subject, f"{words}: not so"),
            )
        security = msgspec.json.encode(Security(
            totp=Totp("sealed-away", 1, ("hash-of-code",)),
            passkeys=(Passkey("credential-id", "public-key", 1, "my phone", datetime(2026, 1, 2, tzinfo=UTC)),),
        )).decode()
        conn.execute("UPDATE credentials SET security = %s WHERE user_id = %s", (security, one.user_id))
    old = safety.here.dependencies.tokens.issue(one.user_id, new_id(), signed_in_at=1.0)
    late = await safety.here.client.get("/api/v1/users/me/export", headers={"Authorization": f"Bearer {old}"})
    assert code(late) == (401, "sign_in_again")
    assert (await one.ask("GET", "/users/me/export")).status_code == 202

    async def ready() -> Any:
        answer = await one.ask("GET", "/users/me/export")
        return answer.json() if answer.status_code == 200 else None

    made = await until(ready)
    async with local_client(timeout=60) as browser:
        file = await browser.get(made["url"])
        changed = await browser.get(forged(made["url"]))
    assert (file.status_code, changed.status_code) == (200, 403)
    data = json.loads(gzip.decompress(file.content))
    assert (data["account"][0]["email"], data["account"][0]["codes_on"]) == (one.email, True)
    assert data["passkeys"] == [{"name": "my phone", "added_at": "2026-01-02T00:00:00Z"}]
    assert [(made["target_id"], made["action"], made["statement"]) for made in data["decisions"]] == [(post_id, "warn", "Off the post")]
    assert [(made["decision_id"], made["body"]) for made in data["appeals"]] == [(decision, "Off the post: not so")]
    assert data["profile"][0]["bio"] == f"{CANARY} of mine"
    assert [message["content"] for message in data["messagesSent"]] == [f"{CANARY} said"]
    assert {(match["other_id"], match["status"]) for match in data["matches"]} == {
        (other.user_id, "active"), (former.user_id, "ended")
    }, "nor that anybody blocked them"
    assert [(post["id"], post["media_ids"], post["depicted"]) for post in data["posts"]] == [(post_id, [picture_id], [one.user_id])]
    assert [media["id"] for media in data["media"]] == [picture_id], "by which the owner gets the files"
    (tip,) = data["tipsGiven"]
    assert (tip["id"], tip["message"], tip["amount_minor"], tip["to_user_id"]) == (given, f"{CANARY} given", 500, other.user_id)
    assert [(tip["id"], tip["from_user_id"]) for tip in data["tipsReceived"]] == [(received, other.user_id)]
    assert [item["id"] for item in data["postsBought"]] == [bought]
    assert sorted((item["owner_id"] == one.user_id, item["balance_change"]) for item in data["moneyMoved"]) == [
        (False, 400), (True, None), (True, None),
    ]
    assert set(data) == {"userId", "exportedAt", *SECTIONS}
    text = json.dumps(data)
    assert not any(word in text for word in ("password", "sealed-away", "hash-of-code", "credential-id", "public-key", "person:moderator"))
    assert not any(word in text for word in (other.email, "somebody else", "an answer of the other", "the other's words"))

    await one.ok("DELETE", "/users/me")
    with open_rows(safety.settings, "test") as conn:
        await until(lambda: conn.execute("SELECT 1 FROM erasures WHERE user_id = %s", (one.user_id,)).fetchone())
        assert forget_due(safety.settings, conn) == 1
    async with local_client(timeout=60) as browser:
        assert (await browser.get(made["url"])).status_code == 404


async def test_rows_and_read_model_agree_on_the_banned_the_erased_and_the_consenting(safety: SafetyWorld) -> None:
    moderator = await safety.moderator()
    banned, erased, back = [await safety.here.register(at=HERE) for _ in range(3)]
    for person in (banned, erased, back):
        await safety.in_rows(person)
    assert (await safety.decide(moderator, banned.user_id, "ban")).status_code == 201
    assert (await safety.decide(moderator, back.user_id, "suspend")).status_code == 201
    assert (await safety.decide(moderator, back.user_id, "reinstate", seen=1)).status_code == 201
    await erased.ok("DELETE", "/users/me")

    def settled() -> bool:
        with connect(safety.settings, "test") as conn:
            rows = conn.execute("SELECT id::text, status FROM users WHERE id = ANY(%s)", ([banned.user_id, erased.user_id],))
            return dict(rows.fetchall()) == {banned.user_id: "banned", erased.user_id: "deleted"}

    await until(settled)
    reports: list[Report] = []

    async def agree() -> bool:
        reports.append(await asyncio.to_thread(reconcile, safety.settings, pause_s=0.3))
        return not reports[-1].differences

    try:
        await until(agree)
    except TimeoutError:
        raise AssertionError(reports[-1].differences) from None
