"""Tokens and webhooks that nobody signed: whatever the bytes, they are refused, and by the refusal that is documented."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cluster.connections.payments.hosted_form import HostedFormProvider
from cluster.connections.payments.stripe_reports import Reports
from cluster.launch.secrets import with_keys
from configs.contracts.access_tokens import AccessTokens
from configs.contracts.ids import new_id
from configs.contracts.payments import WebhookForged
from configs.settings import Auth, load_settings

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECRET = "whsec_of_tests"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> AccessTokens:
    return AccessTokens(with_keys(load_settings("test", data_dir=tmp_path_factory.mktemp("keys"))).auth)


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@given(st.text(max_size=300) | st.lists(st.binary(max_size=60), min_size=1, max_size=5).map(
    lambda parts: ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
))
def test_any_text_is_no_token(tokens: AccessTokens, text: str) -> None:
    assert tokens.verify(text) is None
    assert tokens.verify_service(text) is None


@given(st.data())
def test_a_changed_token_is_no_token(tokens: AccessTokens, data: st.DataObject) -> None:
    valid = tokens.issue(new_id(), new_id())
    place = data.draw(st.integers(0, len(valid) - 1))
    with_other = valid[:place] + data.draw(st.characters()) + valid[place + 1:]
    found = tokens.verify(with_other)
    # The last character of a part has bits that mean nothing: another may spell the same bytes.
    assert found is None or [_bytes(part) for part in with_other.split(".")] == [_bytes(part) for part in valid.split(".")]
    assert tokens.verify(valid[:place]) is None


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "zip"]), JSON | st.sampled_from(["none", "HS256", "EdDSA"]), max_size=5),
    st.dictionaries(st.sampled_from(["sub", "sid", "aud", "iss", "exp", "iat", "permissionRole"]), JSON, max_size=7), st.booleans(),
)
def test_a_header_that_names_our_key_signs_nothing(tokens: AccessTokens, header: dict[str, Any], claims: dict[str, Any], ours: bool) -> None:
    if ours:
        header = header | {"kid": tokens.key_id}
    (jwk,) = tokens.jwks()
    signing = f"{encoded(header)}.{encoded(claims)}"
    for signature in ("", encoded(claims), base64.urlsafe_b64encode(_bytes(jwk["x"]) * 2).decode().rstrip("=")):
        assert tokens.verify(f"{signing}.{signature}") is None
        assert tokens.verify_service(f"{signing}.{signature}") is None


@given(st.dictionaries(st.sampled_from(["sub", "sid", "aud", "iss", "exp", "iat", "from", "auth_time"]), JSON, max_size=8))
def test_a_stranger_who_names_our_key_is_refused(tokens: AccessTokens, claims: dict[str, Any]) -> None:
    now = int(time.time())
    whole = {"sub": new_id(), "sid": new_id(), "aud": Auth().audience, "iss": Auth().issuer, "iat": now, "exp": now + 600} | claims
    header = {"alg": "EdDSA", "typ": "JWT", "kid": tokens.key_id}
    signing = f"{encoded(header)}.{encoded(whole)}".encode()
    signature = Ed25519PrivateKey.generate().sign(signing)
    assert tokens.verify(f"{signing.decode()}.{jwt.utils.base64url_encode(signature).decode()}") is None


@given(
    st.binary(max_size=200) | JSON.map(lambda body: json.dumps(body).encode()),
    st.text(max_size=80) | st.builds(
        lambda at, scheme, signed: f"t={at},{scheme}={signed}", st.integers() | st.text(max_size=5), st.sampled_from(["v0", "v1", ""]),
        st.text(max_size=70) | st.binary(min_size=32, max_size=32).map(bytes.hex),
    ),
)
def test_a_webhook_that_stripe_did_not_sign_is_forged(body: bytes, header: str) -> None:
    reports = Reports(MagicMock(), MagicMock(), provider="stripe", secrets=[SECRET], tolerance_s=300)
    with pytest.raises(WebhookForged):
        reports.verified(body, {"stripe-signature": header}, NOW)


@given(
    st.binary(max_size=200) | st.dictionaries(
        st.sampled_from(["digest", "event", "timestamp", "eventId", "saleId", "test"]), st.text(max_size=70), max_size=6,
    ).map(lambda fields: urlencode(fields).encode())
)
def test_a_postback_that_the_form_did_not_sign_is_forged(body: bytes) -> None:
    form = HostedFormProvider(url="https://form.example.com", account="a", form_key="f" * 32, postback_keys=["p" * 32])
    with pytest.raises(WebhookForged):
        form.verify(body, {}, NOW)
