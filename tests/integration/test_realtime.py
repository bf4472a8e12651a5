"""Two gateways with real sockets: who hears what, who may do what, and how sockets end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_world import World
from realtime_world import Device, send

from actors.realtime import watching
from actors.realtime.gateway import TICK_S
from cluster.connections.redis import apply_async
from configs.contracts import realtime
from configs.contracts.acknowledged import acknowledged_key
from configs.contracts.albums import put_media
from configs.contracts.ids import new_id
from configs.contracts.media import MediaRecord

pytestmark = pytest.mark.servers


async def test_a_message_reaches_every_device_of_both_once_and_in_order(pair: Any) -> None:
    hers, his, conversation, one, _ = pair
    second = await Device.open(his.person, one.url)
    acks = [await send(hers if number % 3 else his, conversation, f"text {number}") for number in range(12)]
    assert [ack["seq"] for ack in acks] == list(range(1, 13))
    for device in (hers, his, second):
        await device.got("message", seq=12)
        assert [frame["content"] for frame in device.of("message")] == [f"text {number}" for number in range(12)]
    [first] = [frame for frame in his.of("message") if frame["seq"] == 1]
    assert (first["messageId"], first["sentAt"]) == (acks[0]["messageId"], acks[0]["sentAt"])
    await second.close()


async def test_a_resend_gets_the_first_answer_and_another_text_under_its_id_a_conflict(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    first = await send(hers, conversation, "once", "same")
    await hers.send("send", conversationId=conversation, clientMessageId="same", content="once")
    await hers.until(lambda: len(hers.of("ack")) == 2)
    assert hers.of("ack") == [first, first]
    await hers.send("send", conversationId=conversation, clientMessageId="same", content="twice", ref="r1")
    assert (await hers.got("error", clientMessageId="same", ref="r1"))["code"] == "conflict"
    await send(hers, conversation, "after")
    await his.got("message", content="after")
    assert {frame["seq"] for frame in his.of("message")} == {1, 2}


async def test_attachments_are_told_as_ids_and_those_of_others_refused(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    media = new_id()
    await apply_async(world.dependencies.redis, [put_media(MediaRecord(media, hers.person.user_id, "image", state="uploaded"), 1)])
    frame: dict[str, Any] = {"conversationId": conversation, "content": "", "attachments": [media]}
    await his.send("send", **frame, clientMessageId="not-his")
    assert (await his.got("error", clientMessageId="not-his"))["code"] == "media_unknown"
    await hers.send("send", **frame, clientMessageId="hers")
    told = await his.got("message", seq=1)
    assert (told["attachments"], told["content"]) == ([media], "")
    await hers.send("send", **frame | {"attachments": []}, clientMessageId="empty")
    assert (await hers.got("error", clientMessageId="empty"))["code"] == "invalid"


async def test_what_is_sent_by_http_reaches_sockets(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    await hers.person.ok("POST", "/messaging/send", json={
        "conversationId": conversation, "content": "by HTTP", "clientMessageId": "h1"
    })
    for device in (hers, his):
        assert (await device.got("message", content="by HTTP"))["senderId"] == hers.person.user_id


async def test_read_and_delivered_marks_are_told_and_only_move_forward(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    for number in range(3):
        await send(hers, conversation, str(number))
    await his.send("delivered", conversationId=conversation, seq=3)
    await hers.got("delivered", seq=3, userId=his.person.user_id)
    await his.send("delivered", conversationId=conversation, seq=2)
    await his.send("read", conversationId=conversation, seq=2)
    await hers.got("read", seq=2, userId=his.person.user_id)
    await his.send("read", conversationId=conversation, seq=1)
    await his.send("read", conversationId=conversation, seq=3)
    await hers.got("read", seq=3, userId=his.person.user_id)
    await hers.settled()
    assert [frame["seq"] for frame in hers.of("delivered")] == [3]
    assert [frame["seq"] for frame in hers.of("read")] == [2, 3]
    await his.send("delivered", conversationId=conversation, seq=4, ref="future")
    await his.send("read", conversationId=conversation, seq=4, ref="unwritten")
    for ref in ("future", "unwritten"):
        assert (await his.got("error", ref=ref))["code"] == "invalid", "a mark on what nobody wrote"


async def test_metrics_hold_the_figures_of_every_gateway(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    await send(hers, conversation, "counted")
    await his.got("message", content="counted")

    async def figures() -> dict[str, float]:
        text = (await world.client.get("/metrics")).text
        return {
            line.partition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines() if line.startswith("sugar_gateway{")
        }

    async with asyncio.timeout(30):
        while True:
            found = await figures()
            said = {of: found.get(f'sugar_gateway{{gateway="gateway-0",of="{of}"}}', -1) for of in ("sockets", "told", "frames")}
            if min(said.values()) >= 1 and found.get('sugar_gateway{gateway="gateway-1",of="overflowed"}', -1) >= 0:
                break
            await asyncio.sleep(0.1)


async def test_typing_is_told_to_the_other_member_only(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    await hers.send("typing", conversationId=conversation)
    assert await his.got("typing") == {"type": "typing", "conversationId": conversation, "userId": hers.person.user_id}
    await hers.settled()
    assert not hers.of("typing")


async def test_a_notification_that_a_device_shows_is_noted_for_push(pair: Any, world: World) -> None:
    hers, _, _, _, _ = pair
    shown = new_id()
    await hers.send("notification", notificationId=shown)
    await hers.settled()
    assert await world.dependencies.redis.zrange(acknowledged_key(hers.person.user_id), 0, -1) == [shown.encode()]


async def test_presence_follows_the_other_members_devices_on_any_gateway(pair: Any) -> None:
    hers, his, conversation, one, other = pair
    await hers.send("presence", conversationIds=[conversation])
    told = await hers.got("presence", online=True)
    assert (told["lastActiveBucket"], told.get("lastSeq", 0)) == ("now", 0)
    second = await Device.open(his.person, one.url)
    await his.close()
    await asyncio.sleep(1.5)
    assert not [frame for frame in hers.of("presence") if not frame["online"]], "a device is still there"
    await second.close()
    assert (await hers.got("presence", online=False))["lastActiveBucket"] == "now"
    back = await Device.open(his.person, other.url)
    await hers.until(lambda: len(hers.of("presence")) == 3)
    assert hers.of("presence")[-1]["online"]
    await back.close()


async def test_who_watches_a_conversation_learns_how_far_it_is_whatever_lists_say(pair: Any) -> None:
    """What was told before a socket was ready, and is in no list yet, is not missed."""
    hers, his, conversation, _, other = pair
    for text in ("one", "two"):
        await send(hers, conversation, text)
    back = await Device.open(his.person, other.url)
    assert (await back.got("ready"))["syncAgainMs"] > 0
    await back.send("presence", conversationIds=[conversation])
    assert (await back.got("presence"))["lastSeq"] == 2
    await back.close()


async def test_whoever_was_on_a_killed_gateway_is_away_within_15_seconds(
    pair: Any, make_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert realtime.GATEWAY_LIFE_MS / 1_000 + TICK_S + watching.LOOK_SOON_S + 1 <= 15
    monkeypatch.setattr(realtime, "GATEWAY_LIFE_MS", 3_000)
    monkeypatch.setattr(watching, "LOOK_SOON_S", 2.0)
    hers, his, conversation, one, _ = pair
    lost = await make_gateway()
    device = await Device.open(his.person, lost.url)
    await his.close()
    await hers.send("presence", conversationIds=[conversation])
    await hers.until(lambda: [frame["online"] for frame in hers.of("presence")[-1:]] == [True])
    for task in lost.gateway._tasks:
        task.cancel()  # as a killed one, it says nothing any more, and nobody says of its devices that they are gone
    await hers.until(lambda: not hers.of("presence")[-1]["online"])
    back = await Device.open(his.person, one.url)
    await hers.until(lambda: hers.of("presence")[-1]["online"])
    await back.close()
    await device.close()


async def test_an_outsider_can_do_nothing_and_learns_nothing(pair: Any, world: World) -> None:
    hers, his, conversation, one, _ = pair
    await send(hers, conversation, "private")
    eve = await Device.open(await world.register(), one.url)
    await eve.send("send", conversationId=conversation, clientMessageId="e", content="hi", ref="send")
    await eve.send("read", conversationId=conversation, seq=1, ref="read")
    await eve.send("delivered", conversationId=conversation, seq=1, ref="delivered")
    await eve.send("typing", conversationId=conversation, ref="typing")
    for ref in ("send", "read", "delivered", "typing"):
        assert (await eve.got("error", ref=ref))["code"] == "not_found"
    await eve.send("typing", conversationId=new_id(), ref="unknown")
    known, unknown = await eve.got("error", ref="typing"), await eve.got("error", ref="unknown")
    assert {**known, "ref": ""} == {**unknown, "ref": ""}, "an outsider can tell what exists"
    await eve.send("presence", conversationIds=[conversation])
    await eve.settled()
    assert {frame["type"] for frame in eve.frames} == {"ready", "error", "pong"}
    await hers.settled()
    assert {frame["type"] for frame in his.frames} <= {"ready", "message"}
    await eve.close()


async def test_after_a_block_neither_side_tells_the_other_anything(pair: Any) -> None:
    hers, his, conversation, one, _ = pair
    await his.send("presence", conversationIds=[conversation])
    await his.got("presence", online=True)
    before = len(his.frames)
    await hers.person.ok("POST", f"/users/{his.person.user_id}/block")
    await his.send("send", conversationId=conversation, clientMessageId="late", content="please", ref="send")
    await his.send("typing", conversationId=conversation, ref="typing")
    assert (await his.got("error", ref="send"))["code"] == "not_found"
    assert (await his.got("error", ref="typing"))["code"] == "not_found"
    second = await Device.open(hers.person, one.url)
    await hers.close()
    await second.close()
    await his.got("match", status="ended")
    await asyncio.sleep(1.5)
    await his.settled()
    told = his.frames[before:]
    assert {frame["type"] for frame in told} == {"error", "pong", "match"}, "presence was told after the block"
    assert {frame["status"] for frame in told if frame["type"] == "match"} == {"ended"}
