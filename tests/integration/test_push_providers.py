"""Each provider against a server that speaks its protocol: what is sent, and what each documented answer means."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import http_ece
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from push_server import PushServer, Reply, Request
from pydantic import SecretStr

from configs.contracts.errors import ConfigurationError
from configs.contracts.ids import new_id
from configs.settings import Push
from writers.push.apns import Apns
from writers.push.delivering import Delivery
from writers.push.delivering import Push as OnePush
from writers.push.fcm import Fcm
from writers.push.provider import LONGEST_WAIT_S, PAYLOAD_BYTES, Message, Outcome, Provider, Target
from writers.push.webpush import WebPush

NOW = datetime.now(UTC)
HEX = "ab" * 32


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65_537, 2_048)
BROWSER = ec.generate_private_key(ec.SECP256R1())
AUTH = b"0123456789abcdef"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[PushServer]:
    made = PushServer(tmp_path)
    await made.start()
    yield made
    await made.stop()


def push_settings(server: PushServer, **changes: Any) -> Push:
    account = {
        "type": "service_account", "project_id": "project", "client_email": "sugar@project.iam.gserviceaccount.com",
        "private_key_id": "kid", "private_key": pem(RSA_KEY), "token_uri": f"{server.url}/token",
    }
    return Push(**{
        "fcm_service_account": SecretStr(json.dumps(account)), "fcm_url": server.url, "apns_key_pem": SecretStr(pem(EC_KEY)),
        "apns_key_id": "KEYID", "apns_team_id": "TEAM", "apns_topic": "com.example.app", "apns_url": server.url,
        "vapid_key_pem": SecretStr(pem(EC_KEY)), "vapid_subject": "mailto:ops@example.com", "webpush_hosts": ("localhost",),
        "ca_file": str(server.ca_file), **changes,
    })


def target(server: PushServer, platform: str, token: str | None = None) -> Target:
    point = BROWSER.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    default = {"fcm": "fcm-token", "apns": HEX, "webpush": f"{server.url}/subscription/1"}[platform]
    keys = (b64(point), b64(AUTH)) if platform == "webpush" else (None, None)
    return Target(new_id(), new_id(), platform, token or default, *keys, new_id(), NOW)


def message(body: str | None = "Hello", **changes: Any) -> Message:
    values: dict[str, Any] = {
        "push_id": new_id(), "collapse": new_id(), "title": "Title", "body": body, "data": {"kind": "match"},
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
    }
    return Message(**values | changes)


PROVIDERS = {"fcm": Fcm, "apns": Apns, "webpush": WebPush}


def token_or(request: Request, reply: Reply) -> Reply:
    if request.path == "/token":
        return Reply(200, json.dumps({"access_token": "access", "expires_in": 3_600}).encode(), {"content-type": "application/json"})
    return reply


async def outcome(server: PushServer, platform: str, reply: Reply, one: Message | None = None) -> Outcome:
    server.answer = lambda request: token_or(request, reply)
    provider: Provider = PROVIDERS[platform](push_settings(server))
    try:
        return await provider.send(target(server, platform), one or message())
    finally:
        await provider.close()


def apns_error(status: int, reason: str, **more: Any) -> Reply:
    return Reply(status, json.dumps({"reason": reason, **more}).encode())


def fcm_error(status: int, code: str, headers: dict[str, str] | None = None, field: str | None = None, **error: Any) -> Reply:
    details: list[Any] = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]
    if field is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": field}]})
    return Reply(status, json.dumps({"error": {"code": status, "details": details, **error}}).encode(), headers or {})


APPLES = {
    "credentials": (
        (400, "BadTopic"), (400, "MissingTopic"), (403, "BadCertificate"), (403, "BadCertificateEnvironment"),
        (403, "BadEnvironmentKeyIdInToken"), (403, "Forbidden"), (403, "MissingProviderToken"), (403, "UnrelatedKeyIdInToken"),
    ),
    "rejected": (
        (400, "BadCollapseId"), (400, "BadMessageId"), (400, "BadPriority"), (400, "DuplicateHeaders"),
        (400, "InvalidPushType"), (400, "MissingDeviceToken"), (400, "PayloadEmpty"), (404, "BadPath"),
        (405, "MethodNotAllowed"),
    ),
    "wait": ((400, "IdleTimeout"), (429, "TooManyProviderTokenUpdates"), (503, "Shutdown")),
}
"""What Apple documents beside those that are written out below."""
ANSWERS: list[tuple[str, Reply, Outcome]] = [
    *(("apns", apns_error(status, reason), Outcome(what, reason)) for what, each in APPLES.items() for status, reason in each),
    ("apns", Reply(200), Outcome("sent")),
    ("apns", apns_error(410, "Unregistered", timestamp=1_700_000_000_000), Outcome("unregistered", "Unregistered", since=datetime.fromtimestamp(1_700_000_000, UTC))),
    ("apns", apns_error(410, "ExpiredToken"), Outcome("unregistered", "ExpiredToken")),
    ("apns", apns_error(400, "BadDeviceToken"), Outcome("unregistered", "BadDeviceToken")),
    ("apns", apns_error(400, "DeviceTokenNotForTopic"), Outcome("rejected", "DeviceTokenNotForTopic")),
    ("apns", apns_error(400, "BadExpirationDate"), Outcome("rejected", "BadExpirationDate")),
    ("apns", apns_error(403, "InvalidProviderToken"), Outcome("credentials", "InvalidProviderToken")),
    ("apns", apns_error(403, "ExpiredProviderToken"), Outcome("credentials", "ExpiredProviderToken")),
    ("apns", apns_error(400, "TopicDisallowed"), Outcome("credentials", "TopicDisallowed")),
    ("apns", apns_error(413, "PayloadTooLarge"), Outcome("too_large", "PayloadTooLarge")),
    ("apns", apns_error(429, "TooManyRequests"), Outcome("wait", "TooManyRequests")),
    ("apns", apns_error(500, "InternalServerError"), Outcome("wait", "InternalServerError")),
    ("apns", Reply(503, b'{"reason": "ServiceUnavailable"}', {"retry-after": "7"}), Outcome("wait", "ServiceUnavailable", 7.0)),
    ("apns", Reply(502, b"<html>"), Outcome("wait", "502")),
    ("fcm", Reply(200, b'{"name": "projects/project/messages/1"}'), Outcome("sent")),
    ("fcm", fcm_error(404, "UNREGISTERED"), Outcome("unregistered", "UNREGISTERED")),
    ("fcm", fcm_error(400, "INVALID_ARGUMENT", field="message.token"), Outcome("unregistered", "INVALID_ARGUMENT")),
    ("fcm", fcm_error(400, "INVALID_ARGUMENT", field="message.android.ttl"), Outcome("rejected", "INVALID_ARGUMENT")),
    ("fcm", fcm_error(400, "INVALID_ARGUMENT", message="Message is too big"), Outcome("too_large", "INVALID_ARGUMENT")),
    ("fcm", fcm_error(403, "SENDER_ID_MISMATCH"), Outcome("rejected", "SENDER_ID_MISMATCH")),
    ("fcm", fcm_error(401, "THIRD_PARTY_AUTH_ERROR"), Outcome("rejected", "THIRD_PARTY_AUTH_ERROR")),
    ("fcm", Reply(401, b'{"error": {"status": "UNAUTHENTICATED"}}'), Outcome("credentials", "UNAUTHENTICATED")),
    ("fcm", Reply(403, b'{"error": {"status": "PERMISSION_DENIED"}}'), Outcome("credentials", "PERMISSION_DENIED")),
    ("fcm", fcm_error(429, "QUOTA_EXCEEDED"), Outcome("wait", "QUOTA_EXCEEDED", 60.0)),
    ("fcm", fcm_error(429, "QUOTA_EXCEEDED", {"retry-after": "5"}), Outcome("wait", "QUOTA_EXCEEDED", 5.0)),
    ("fcm", fcm_error(500, "INTERNAL"), Outcome("wait", "INTERNAL")),
    ("fcm", fcm_error(500, "UNSPECIFIED_ERROR"), Outcome("wait", "UNSPECIFIED_ERROR")),
    ("fcm", fcm_error(503, "UNAVAILABLE", {"retry-after": "999999999999"}), Outcome("wait", "UNAVAILABLE", LONGEST_WAIT_S)),
    ("fcm", Reply(200, b"not json"), Outcome("sent")),
    ("fcm", Reply(400, b'{"error": ["odd"]}'), Outcome("rejected", "400")),
    ("webpush", Reply(201), Outcome("sent")),
    ("webpush", Reply(202), Outcome("sent")),
    ("webpush", Reply(500), Outcome("wait", "500")),
    ("webpush", Reply(404), Outcome("unregistered", "404")),
    ("webpush", Reply(410), Outcome("unregistered", "410")),
    ("webpush", Reply(400), Outcome("rejected", "400")),
    ("webpush", Reply(401), Outcome("rejected", "signature_refused")),
    ("webpush", Reply(403), Outcome("rejected", "signature_refused")),
    ("webpush", Reply(413), Outcome("too_large", "413")),
    ("webpush", Reply(429, b"", {"retry-after": "12"}), Outcome("wait", "429", 12.0)),
    ("webpush", Reply(429, b"", {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), Outcome("wait", "429", 0.0)),
    ("webpush", Reply(503, b"", {"retry-after": "soon"}), Outcome("wait", "503")),
    ("webpush", Reply(301, b"", {"location": "https://169.254.169.254/"}), Outcome("rejected", "301")),
]


@pytest.mark.parametrize(("platform", "reply", "expected"), ANSWERS, ids=lambda value: getattr(value, "reason", None) or None)
async def test_each_documented_answer_means_one_thing(
    server: PushServer, platform: str, reply: Reply, expected: Outcome
) -> None:
    assert await outcome(server, platform, reply) == expected


async def test_apns_gets_http2_a_signed_token_and_ids_that_a_repetition_repeats(server: PushServer) -> None:
    provider, device, one = Apns(push_settings(server)), target(server, "apns"), message()
    for _ in range(2):
        assert (await provider.send(device, one)).what == "sent"
    await provider.close()
    first, second = server.requests
    assert (first.version, first.method, first.path) == ("h2", "POST", f"/3/device/{HEX}")
    token = first.headers["authorization"].removeprefix("bearer ")
    claims = jwt.decode(token, EC_KEY.public_key(), algorithms=["ES256"])
    assert (claims["iss"], jwt.get_unverified_header(token)["kid"]) == ("TEAM", "KEYID")
    assert first.headers["apns-topic"] == "com.example.app"
    assert first.headers["apns-collapse-id"] == one.collapse
    assert int(first.headers["apns-expiration"]) == int(one.expires_at.timestamp())
    assert (first.headers, first.body) == (second.headers, second.body)
    assert json.loads(first.body)["aps"]["alert"] == {"title": "Title", "body": "Hello"}


async def test_apns_token_is_renewed_before_it_is_an_hour_old_and_not_within_twenty_minutes(server: PushServer) -> None:
    now = [1_000_000.0]
    provider = Apns(push_settings(server), clock=lambda: now[0])
    device = target(server, "apns")
    for seconds in (0, 1_000, 2_500, 2_600):
        now[0] = 1_000_000.0 + seconds
        await provider.send(device, message())
    tokens = [request.headers["authorization"] for request in server.requests]
    assert [tokens.index(token) for token in tokens] == [0, 0, 2, 2]
    server.answer = lambda request: apns_error(403, "ExpiredProviderToken")
    assert (await provider.send(device, message())).what == "credentials"
    now[0] += 1_300
    server.answer = lambda request: Reply() if request.headers["authorization"] not in tokens else apns_error(403, "ExpiredProviderToken")
    assert (await provider.send(device, message())).what == "sent"
    await provider.close()


async def test_fcm_signs_in_once_and_sends_its_message(server: PushServer) -> None:
    server.answer = lambda request: token_or(request, Reply())
    provider, one = Fcm(push_settings(server)), message()
    outcomes = await asyncio.gather(*(provider.send(target(server, "fcm"), one) for _ in range(5)))
    await provider.close()
    assert {outcome.what for outcome in outcomes} == {"sent"}
    assert [request.path for request in server.requests].count("/token") == 1
    form = server.requests[0].body.decode()
    assertion = dict(part.split("=") for part in form.split("&"))["assertion"]
    claims = jwt.decode(assertion, RSA_KEY.public_key(), algorithms=["RS256"], audience="https://oauth2.googleapis.com/token")
    assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
    sent = server.requests[-1]
    assert (sent.version, sent.path, sent.headers["authorization"]) == ("h2", "/v1/projects/project/messages:send", "Bearer access")
    body = json.loads(sent.body)["message"]
    assert body["token"] == "fcm-token"
    assert body["android"]["collapse_key"] == body["android"]["notification"]["tag"] == one.collapse
    assert body["data"]["pushId"] == one.push_id


@pytest.mark.parametrize(
    ("reply", "what"), [(Reply(400, b'{"error": "invalid_grant"}'), "credentials"), (Reply(503, b"{}"), "wait")]
)
async def test_fcm_account_that_google_refuses_is_not_an_outage(server: PushServer, reply: Reply, what: str) -> None:
    server.answer = lambda request: reply
    provider = Fcm(push_settings(server))
    assert (await provider.send(target(server, "fcm"), message())).what == what
    await provider.close()


async def test_a_browser_can_read_what_it_is_pushed_and_nobody_else_can(server: PushServer) -> None:
    one = message("secret text")
    assert await outcome(server, "webpush", Reply(201), one) == Outcome("sent")
    (request,) = server.requests
    assert b"secret" not in request.body
    plain = json.loads(http_ece.decrypt(request.body, private_key=BROWSER, auth_secret=AUTH, version="aes128gcm"))
    assert (plain["body"], plain["tag"], plain["data"]["pushId"]) == ("secret text", one.collapse, one.push_id)
    assert len(request.headers["topic"]) <= 32
    assert 3_500 < int(request.headers["ttl"]) <= 3_600
    token, key = (part.split("=", 1)[1] for part in request.headers["authorization"].removeprefix("vapid ").split(","))
    claims = jwt.decode(token, EC_KEY.public_key(), algorithms=["ES256"], audience=server.url)
    assert (claims["aud"], claims["sub"]) == (server.url, "mailto:ops@example.com")
    assert key == b64(EC_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


async def test_a_subscription_elsewhere_is_not_posted_to(server: PushServer) -> None:
    provider = WebPush(push_settings(server, webpush_hosts=("fcm.googleapis.com",)))
    assert (await provider.send(target(server, "webpush"), message())).reason == "unknown_host"
    await provider.close()
    assert server.requests == []


@pytest.mark.parametrize("platform", PROVIDERS)
async def test_an_unknown_authority_is_not_trusted(server: PushServer, platform: str) -> None:
    provider: Provider = PROVIDERS[platform](push_settings(server, ca_file=""))
    assert (await provider.send(target(server, platform), message())).what == "wait"
    await provider.close()
    assert server.requests == []


@pytest.mark.parametrize("platform", PROVIDERS)
async def test_a_server_that_is_away_is_waited_for(server: PushServer, platform: str) -> None:
    provider: Provider = PROVIDERS[platform](push_settings(server))
    await server.stop()
    assert (await provider.send(target(server, platform), message())).what == "wait"
    await server.start()
    server.answer = lambda request: token_or(request, Reply(201 if platform == "webpush" else 200))
    assert (await provider.send(target(server, platform), message())).what == "sent"
    await provider.close()


@pytest.mark.parametrize("platform", PROVIDERS)
@pytest.mark.parametrize("text", ["é" * 5_000, "💋" * 3_000, "a" * 100_000])
async def test_what_is_too_large_is_cut_before_it_is_sent(server: PushServer, platform: str, text: str) -> None:
    assert (await outcome(server, platform, Reply(201 if platform == "webpush" else 200), message(text))).what == "sent"
    request = server.requests[-1]
    if platform == "webpush":
        assert len(request.body) <= PAYLOAD_BYTES
        body = json.loads(http_ece.decrypt(request.body, private_key=BROWSER, auth_secret=AUTH, version="aes128gcm"))["body"]
    elif platform == "apns":
        assert len(request.body) <= PAYLOAD_BYTES
        body = json.loads(request.body)["aps"]["alert"]["body"]
    else:
        body = json.loads(request.body)["message"]["notification"]["body"]
        assert len(body.encode()) <= PAYLOAD_BYTES
    assert body.endswith("…")
    assert text.startswith(body[:-1])
    assert len(body.encode()) > PAYLOAD_BYTES / 4


async def test_what_a_provider_still_finds_too_large_is_cut_once_more(server: PushServer) -> None:
    server.answer = lambda request: apns_error(413, "PayloadTooLarge") if b"Hello" in request.body else Reply()
    provider = Apns(push_settings(server))
    delivery = Delivery(provider, lambda: False)
    assert await delivery.deliver([OnePush(target(server, "apns"), message())]) == []
    await provider.close()
    assert (delivery.counts["sent"], delivery.counts["cut"], len(server.requests)) == (1, 1, 2)


@pytest.mark.parametrize(
    ("change", "make"),
    [
        ({"fcm_service_account": SecretStr("{}")}, Fcm), ({"fcm_service_account": SecretStr("no json")}, Fcm),
        ({"apns_key_pem": SecretStr("no key")}, Apns), ({"apns_key_pem": SecretStr(pem(RSA_KEY))}, Apns),
        ({"vapid_key_pem": SecretStr("no key")}, WebPush),
    ],
)
async def test_a_key_that_is_none_is_a_configuration_error(server: PushServer, change: dict[str, Any], make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make(push_settings(server, **change))


async def test_keys_and_tokens_are_in_no_representation(server: PushServer) -> None:
    settings = push_settings(server)
    device = target(server, "webpush")
    text = f"{settings!r} {settings.model_dump_json()} {device!r}"
    assert "PRIVATE KEY" not in text
    assert device.token not in text
    assert str(device.auth_secret) not in text
