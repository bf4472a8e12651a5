"""Cases through the API on real servers: who sees and decides them, their evidence and deadlines."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from api_world import Person
from local_http import local_client
from log_reading import records_of
from media_world import picture, upload_body, uploaded
from safety_world import SafetyWorld, appeal_token, code, hours_from_now, pair, send, until

from cluster.connections.postgres import connect
from configs.contracts.albums import MediaRow
from configs.contracts.ids import new_id
from configs.contracts.media import MediaRecord
from writers.moderation_figures import moderation_figures

pytestmark = pytest.mark.servers


async def test_child_abuse_reports_are_for_administrators_only(safety: SafetyWorld) -> None:
    one, other = await safety.here.register(), await safety.here.register()
    await one.ok("POST", "/reports", json={"targetType": "user", "targetId": other.user_id, "category": "child_abuse"})
    moderator, admin = await safety.moderator(), await safety.moderator("admin")

    async def queued() -> Any:
        entries = (await admin.ok("GET", "/moderation/queue?limit=100&restricted=true"))["entries"]
        return next((entry for entry in entries if entry["targetId"] == other.user_id), None)

    assert hours_from_now((await until(queued))["dueAt"]) <= 24
    ordinary = (await moderator.ok("GET", "/moderation/queue?limit=100"))["entries"]
    assert other.user_id not in {entry["targetId"] for entry in ordinary}
    assert code(await moderator.ask("GET", f"/moderation/cases/{other.user_id}")) == (403, "forbidden")
    assert code(await safety.decide(moderator, other.user_id, "ban", category="child_abuse")) == (403, "forbidden")


async def test_what_was_reported_for_child_abuse_is_decided_by_administrators_only(safety: SafetyWorld) -> None:
    """Whatever the decision calls it, and however many other reports came since."""
    one, other = await safety.here.register(), await safety.here.register()
    media = new_id()
    record = MediaRecord(media_id=media, owner_id=other.user_id, kind="image", state="ready", review="pending")
    row = MediaRow(record=record, requested_at=datetime.now(UTC), version=1)
    with connect(safety.settings, "test") as conn:
        conn.execute(
            "INSERT INTO media (owner_id, id, kind, state, review, facts, created_at, version) "
            "VALUES (%s, %s, 'image', 'ready', 'pending', %s, now() - interval '9 days', 1)",
            (other.user_id, media, msgspec.json.encode(row).decode()),
        )
        for target, kind in ((other.user_id, "user"), (media, "media")):
            conn.execute(
                "INSERT INTO reports (target_id, id, target_type, reporter_id, category, created_at, version, due_at) "
                "SELECT %s, gen_random_uuid(), %s, %s, CASE nth WHEN 0 THEN 'child_abuse' ELSE 'spam' END, "
                "now() - interval '9 days' + nth * interval '1 s', 1, now() - interval '8 days' FROM generate_series(0, 100) AS nth",
                (target, kind, one.user_id),
            )
    await safety.in_rows(other)
    moderator, first, second = await safety.moderator(), await safety.moderator("admin"), await safety.moderator("admin")

    async def queued(by: Person, restricted: bool) -> set[tuple[str, str]]:
        entries = (await by.ok("GET", f"/moderation/queue?limit=100&restricted={str(restricted).lower()}"))["entries"]
        return {(entry["kind"], entry["targetId"]) for entry in entries} & set(waiting)

    waiting = [("report", other.user_id), ("report", media), ("review", media)]
    assert await queued(moderator, False) == await queued(first, False) == set()
    assert await queued(first, True) == set(waiting)
    assert code(await moderator.ask("GET", f"/moderation/cases/{media}")) == (403, "forbidden")
    for target, kind in ((other.user_id, "user"), (media, "media")):
        assert code(await safety.decide(moderator, target, "dismiss", targetType=kind)) == (403, "forbidden")
    assert (await safety.decide(first, media, "dismiss", targetType="media")).status_code == 201
    decided = await safety.decide(first, other.user_id, "warn")
    assert decided.status_code == 201, decided.text

    token = await appeal_token(safety, other, decided.json()["decisionId"])
    taken = await safety.here.client.post("/api/v1/moderation/appeals", json={"token": token, "text": "It was a joke."})
    assert taken.status_code == 201, taken.text
    waiting = [("appeal", other.user_id)]
    await until(lambda: queued(second, True))
    assert await queued(moderator, False) == set()
    path = f"/moderation/cases/{other.user_id}/appeals/{decided.json()['decisionId']}"
    outcome = {"outcome": "upheld", "statement": "It was not."}
    assert code(await moderator.ask("POST", path, json=outcome)) == (403, "forbidden")
    assert (await second.ask("POST", path, json=outcome)).status_code == 201
    waiting = [("report", media), ("review", media), ("appeal", other.user_id)]

    async def settled() -> bool:
        return not await queued(second, True)

    await until(settled)


async def test_a_decision_for_child_abuse_leaves_its_case_to_administrators(safety: SafetyWorld) -> None:
    bad, moderator, admin = await safety.here.register(), await safety.moderator(), await safety.moderator("admin")
    await safety.in_rows(bad)
    assert (await safety.decide(admin, bad.user_id, "ban", category="child_abuse")).status_code == 201
    path = f"/moderation/cases/{bad.user_id}"

    async def refused() -> bool:
        return (await moderator.ask("GET", path)).status_code == 403

    await until(refused)
    assert code(await safety.decide(moderator, bad.user_id, "reinstate", seen=1)) == (403, "forbidden")
    assert (await admin.ask("GET", path)).status_code == 200


async def test_a_message_is_reported_with_its_conversation_also_after_the_match_has_ended(safety: SafetyWorld) -> None:
    one, bad, conversation = await pair(safety)
    message = (await send(bad, conversation, "something vile")).json()["messageId"]
    await one.ok("DELETE", f"/matching/matches/{conversation}")
    body = {"targetType": "message", "targetId": message, "category": "harassment"}
    stranger = await safety.here.register()
    assert code(await one.ask("POST", "/reports", json=body)) == (422, "invalid")
    await stranger.ok("GET", "/users/me")
    foreign = await stranger.ask("POST", "/reports", json=body | {"conversationId": conversation})
    assert code(foreign) == (404, "not_found")
    await one.ok("POST", "/reports", json=body | {"conversationId": conversation})
    moderator = await safety.moderator()

    async def seen() -> Any:
        case = await moderator.ok("GET", f"/moderation/cases/{message}")
        return case if case["evidence"] else None

    case = await until(seen)
    assert (case["evidence"], case["subjectId"]) == ("something vile", bad.user_id)


async def test_bad_decisions_are_refused_and_change_nothing(safety: SafetyWorld) -> None:
    moderator, target = await safety.moderator(), await safety.here.register()
    await safety.in_rows(target)
    for fields in ({"action": "remove"}, {"action": "pardon"}, {"seen": -1}, {"statement": ""}, {"category": "dislike"}):
        answer = await safety.decide(moderator, target.user_id, **({"action": "ban"} | fields))  # type: ignore[arg-type]
        assert code(answer) == (422, "invalid"), fields
    for kind, action in (("message", "remove"), ("message", "ban"), ("post", "suspend"), ("media", "ban")):
        answer = await safety.decide(moderator, new_id(), action, targetType=kind)
        assert code(answer) == (422, "invalid"), "nothing would happen, so nobody is told that it did"
    assert code(await safety.decide(moderator, new_id(), "ban")) == (404, "not_found")
    assert code(await safety.decide(moderator, moderator.user_id, "ban")) == (403, "forbidden"), "nobody judges themselves"
    assert code(await safety.decide(moderator, target.user_id, "ban", seen=3)) == (409, "case_moved")
    assert (await target.ask("GET", "/users/me")).status_code == 200


async def test_what_does_not_exist_is_not_decided_about(safety: SafetyWorld) -> None:
    moderator, owner = await safety.moderator(), await safety.here.register()
    media = (await owner.ok("POST", "/media/uploads", json=upload_body(picture(31))))["mediaId"]
    asked = [(kind, new_id()) for kind in ("user", "post", "media", "message", "comment", "unlocated")]
    asked += [(kind, media) for kind in ("post", "message", "comment", "unlocated")]
    for kind, target in asked:
        assert code(await safety.decide(moderator, target, "dismiss", targetType=kind)) == (404, "not_found"), kind
    for target in {target for _, target in asked}:
        assert await asyncio.to_thread(records_of, safety.settings, "moderation.decided", target) == []


async def test_what_was_just_made_is_decided_about_before_rows_have_it(safety: SafetyWorld) -> None:
    moderator, owner = await safety.moderator(), await safety.here.register()
    await safety.in_rows(owner)
    with connect(safety.settings, "test") as conn, conn.transaction():
        conn.execute("LOCK TABLE media IN EXCLUSIVE MODE")  # readers see no row of what is uploaded now
        media = (await owner.ok("POST", "/media/uploads", json=upload_body(picture(32))))["mediaId"]
        assert (await moderator.ok("GET", f"/moderation/cases/{media}"))["subjectId"] is None
        decided = await safety.decide(moderator, media, "remove", targetType="media")
    assert decided.status_code == 201, decided.text

    async def removed() -> bool:
        return (await owner.ask("GET", f"/media/{media}")).status_code == 404

    await until(removed)


async def test_what_is_past_its_deadline_raises_an_alarm(safety: SafetyWorld) -> None:
    one, other = await safety.here.register(), await safety.here.register()
    await one.ok("POST", "/reports", json={"targetType": "user", "targetId": other.user_id, "category": "scam"})
    before = (await asyncio.to_thread(moderation_figures, safety.settings))["overdue"]

    def late() -> bool:
        with connect(safety.settings, "test") as conn:
            changed = conn.execute("UPDATE reports SET due_at = now() - interval '1 s' WHERE target_id = %s", (other.user_id,))
            return changed.rowcount == 1

    await until(late)
    assert (await asyncio.to_thread(moderation_figures, safety.settings))["overdue"] == before + 1
    first = (await (await safety.moderator()).ok("GET", "/moderation/queue?limit=1"))["entries"][0]
    assert (first["targetId"], first["overdue"]) == (other.user_id, True), "the most urgent first"


async def test_a_moderator_sees_what_is_decided_about_also_after_it_was_removed(safety: SafetyWorld) -> None:
    owner, moderator, admin = await safety.here.register(), await safety.moderator(), await safety.moderator("admin")
    await safety.in_rows(owner)
    media = await uploaded(owner, picture(7))

    async def state(wanted: str) -> Any:
        found = (await moderator.ask("GET", f"/moderation/media/{media}")).json()
        return found if found.get("state") == wanted else None  # rows come a moment later

    found = await until(lambda: state("ready"))
    assert (found["ownerId"], found["review"]) == (owner.user_id, "pending")
    async with local_client() as store:
        shown = await store.get(found["fileUrl"])
        assert (await store.get(found["view"]["url"])).content == shown.content
        assert shown.content[8:12] == b"WEBP"
        assert (await moderator.ok("GET", f"/moderation/cases/{media}"))["mediaIds"] == [media]
        decided = await safety.decide(moderator, media, "remove", targetType="media")
        assert decided.status_code == 201, decided.text
        removed = await until(lambda: state("removed"))
        assert removed["view"] is None

        async def kept() -> Any:
            return (await moderator.ok("GET", f"/moderation/media/{media}"))["fileUrl"]

        assert (await store.get(await until(kept))).content == shown.content
    with connect(safety.settings, "test") as conn:
        conn.execute("UPDATE media SET matched = 'csam' WHERE id = %s", (media,))
        actors = {row[0] for row in conn.execute("SELECT actor FROM audit_log WHERE target_id = %s AND action = 'see'", (media,))}
    assert actors == {f"person:{moderator.user_id}"}
    assert code(await moderator.ask("GET", f"/moderation/media/{media}")) == (403, "forbidden"), "what the list knows is for administrators"
    assert (await admin.ok("GET", f"/moderation/media/{media}"))["fileUrl"]

    async def audited_admin() -> bool:
        entries = (await admin.ok("GET", f"/moderation/audit?targetId={media}"))["entries"]
        return f"person:{admin.user_id}" in {entry["actor"] for entry in entries if entry["action"] == "see"}

    await until(audited_admin)


async def test_no_moderator_gets_their_own_media_as_a_case(safety: SafetyWorld) -> None:
    moderator = await safety.moderator()
    media = await uploaded(moderator, picture(8))

    async def known() -> Any:
        answer = await moderator.ask("GET", f"/moderation/media/{media}")
        return None if answer.status_code == 404 else answer

    assert code(await until(known)) == (403, "forbidden")
    other = await safety.moderator()
    assert (await other.ok("GET", f"/moderation/media/{media}"))["mediaId"] == media
    assert code(await other.ask("GET", f"/moderation/media/{new_id()}")) == (404, "not_found")


@pytest.mark.parametrize("wrong", [True, False])
async def test_who_deletes_what_was_reported_destroys_no_evidence_and_escapes_no_block(safety: SafetyWorld, wrong: bool) -> None:
    owner, moderator = await safety.here.register(), await safety.moderator()
    await safety.in_rows(owner)
    media = await uploaded(owner, picture(11 + wrong))

    async def state(wanted: str) -> Any:
        found = (await moderator.ask("GET", f"/moderation/media/{media}")).json()
        return found if found.get("state") == wanted else None

    await until(lambda: state("ready"))
    asked = await safety.here.client.post("/api/v1/moderation/removal-requests", json={
        "targetType": "media", "targetId": media, "contact": "jo@example.com", "signature": "Jo Doe", "description": "It is me.",
    })
    assert asked.status_code == 201, asked.text
    with connect(safety.settings, "test") as conn:
        await until(lambda: conn.execute("SELECT 1 FROM reports WHERE target_id = %s", (media,)).fetchone())
        await owner.ok("DELETE", f"/media/{media}")

        async def kept() -> Any:
            found = await state("removed")
            return found and found["fileUrl"]

        async with local_client() as store:
            assert (await store.get(await until(kept))).content[8:12] == b"WEBP"
        action = "remove" if wrong else "dismiss"
        decided = await safety.decide(moderator, media, action, targetType="media", category="intimate_image")
        assert decided.status_code == 201, decided.text
        if wrong:
            await until(lambda: conn.execute("SELECT 1 FROM media_hashes WHERE source = %s", (media,)).fetchone())
            await until(lambda: conn.execute("SELECT 1 FROM media WHERE id = %s AND preserved", (media,)).fetchone())
            assert await kept()
        else:
            async def gone() -> bool:
                return not await kept()

            await until(gone)
            assert not conn.execute("SELECT 1 FROM media_hashes WHERE source = %s", (media,)).fetchone()
