"""Who may call what: every route of the published document, as nobody, as strangers to it, as each role and as a service.

What a caller gets past authorisation is the business of other tests; nobody knows these people, so it is often 404 or 503.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from time import time
from typing import Any

import pytest
from api_world import World, forged
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from configs.contracts.access_tokens import AccessTokens
from configs.contracts.ids import new_id
from serve_apps.application import document

pytestmark = pytest.mark.servers

ADMINISTRATORS = {"listAudit", "grantRole", "recordPayout"}
"""Of the routes for staff, those that a moderator may not call."""
OUTSIDE = re.compile("^/(health|ready|metrics)$")


@dataclasses.dataclass(frozen=True)
class Call:
    operation: str
    method: str
    path: str
    schemes: frozenset[str]
    mutates: bool

    def admits(self, caller: str) -> bool:
        """Whether the document lets that caller in."""
        if not self.schemes:
            return True
        staff = self.schemes == {"person", "service"}
        if caller == "service":
            return "service" in self.schemes
        if caller in ("person", "moderator", "admin"):
            if not staff:
                return "person" in self.schemes
            return caller == "admin" or (caller == "moderator" and self.operation not in ADMINISTRATORS)
        return False


def calls(world: World) -> Iterator[Call]:
    for path, methods in document(world.app)["paths"].items():
        if OUTSIDE.match(path):
            continue
        for method, operation in methods.items():
            schemes = frozenset(name for wanted in operation.get("security", ()) for name in wanted)
            filled = re.sub(r"\{(\w+)\}", lambda hit: "stripe" if hit.group(1) == "provider" else new_id(), path)
            yield Call(operation["operationId"], method.upper(), filled, schemes, method != "get")


def tokens(world: World) -> dict[str, str]:
    """Caller -> token, of people whom nobody has heard of: nothing that is called here does anything to anybody else."""
    issue, now = world.dependencies.tokens.issue, time()
    other_key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    stranger = AccessTokens(world.settings.auth.model_copy(update={"signing_key_pem": SecretStr(other_key)}))
    late = AccessTokens(world.settings.auth, clock=lambda: now - 2 * world.settings.auth.access_ttl_s)

    def person(role: str, issuer: Any = issue) -> str:
        return str(issuer(new_id(), new_id(), permission_role=role, email_hash="0" * 32, signed_in_at=now))

    valid = person("user")
    header, claims, signature = valid.split(".")
    return {
        "nobody": "", "garbage": "garbage", "another signer": person("admin", stranger.issue), "expired": person("admin", late.issue),
        "unsigned": f"{header}.{claims}.", "changed": f"{header}.{forged(claims)}.{signature}",
        "an expired service": late.issue_service("test", 60), "another signer's service": stranger.issue_service("test", 600),
        "person": valid, "moderator": person("moderator"), "admin": person("admin"),
        "service": world.dependencies.tokens.issue_service("test", 600),
    }


async def test_each_route_admits_exactly_the_callers_of_the_document(world: World) -> None:
    wrong = []
    every = list(calls(world))
    assert {frozenset(), frozenset({"person"}), frozenset({"service"}), frozenset({"person", "service"})} == {call.schemes for call in every}
    assert {call.operation for call in every} >= ADMINISTRATORS
    for caller, token in tokens(world).items():
        known = caller in ("person", "moderator", "admin")
        for call in every:
            if known:
                # Signing out ends the token, erasing the person.
                token = tokens(world)[caller]
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if call.mutates:
                headers |= {"Idempotency-Key": new_id(), "Content-Type": "application/json"}
            answer = await world.client.request(call.method, call.path, headers=headers, content=b"{}" if call.mutates else None)
            code = answer.json().get("code", "") if "problem" in answer.headers.get("content-type", "") else ""
            refused = code in ("unauthenticated", "forbidden")
            where = f"{caller}: {call.method} {call.path} ({call.operation}) {answer.status_code} {code}"
            if answer.status_code >= 500 and answer.status_code != 503:
                wrong.append(where)
            if not call.schemes:
                if code in ("unauthenticated", "forbidden"):
                    wrong.append(f"public, and refused: {where}")
            elif refused == call.admits(caller):
                wrong.append(where)
            elif refused and answer.status_code == 403 and not known:
                wrong.append(f"told that it is a matter of the role: {where}")
            elif refused and not known and code != "unauthenticated":
                wrong.append(where)
    assert not wrong, "\n".join(wrong)
