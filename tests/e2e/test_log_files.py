"""Real traffic with known secrets on a whole platform: none of them is in any log file, and log stores can take the lines."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Platform, eventually

from cluster.launch.state import settings_path

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

TEMPLATE = Path(__file__).parents[2] / "cluster" / "logging" / "index-template.json"
LOGS = (".log", ".out", ".err", ".previous")
FITS = {
    "date": (str,), "keyword": (str, list), "text": (str,), "double": (int, float), "flattened": (dict,),
}


def log_files(platform: Platform) -> Iterator[Path]:
    """Every file in which a process of the platform writes what it does."""
    run = platform.data_dir / "run"
    for root, _, names in os.walk(run, followlinks=True):
        for name in names:
            path = Path(root, name)
            if path.suffix in LOGS and path.is_file():
                yield path


class Secrets:
    """Values that must stay out of logs, by what they are."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def make(self, what: str, value: str = "") -> str:
        self.known[what] = value or f"{what}-{secrets.token_hex(8)}"
        return self.known[what]

    def found_in(self, path: Path) -> list[str]:
        content = path.read_bytes()
        return [what for what, value in self.known.items() if value.encode() in content]


class Somebody:
    """A person whose requests are all traced."""

    def __init__(self, api: httpx.Client, kept: Secrets, role: str) -> None:
        self.email = kept.make(f"{role} address", f"{secrets.token_hex(8)}@{role.replace('_', '-')}.example.com")
        self.password = kept.make(f"{role} password", secrets.token_hex(16))
        self.trace = secrets.token_hex(16)
        self._api = api
        made = self._asked("POST", "/auth/register", json={
            "email": self.email, "password": self.password, "role": role, "displayName": kept.make(f"{role} name", secrets.token_hex(8)),
            "birthDate": "1994-05-17",
        }).json()
        self.user_id = made["userId"]
        self.token = kept.make(f"{role} access token", made["accessToken"])
        kept.make(f"{role} refresh token", made["refreshToken"])

    def _asked(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"traceparent": f"00-{self.trace}-{secrets.token_hex(8)}-01", **options.pop("headers", {})}
        return self._api.request(method, path, headers=headers, **options)

    def asks(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": secrets.token_hex(8)}
        return self._asked(method, path, headers=headers, **options)

    def ok(self, method: str, path: str, **options: Any) -> Any:
        answer = self.asks(method, path, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


def adult(person: Somebody) -> None:
    url = person.ok("POST", "/users/me/verification")["url"]
    assert httpx.post(url, data={"outcome": "verified"}, timeout=30.0).status_code < 400
    eventually(lambda: person.ok("GET", "/users/me/verification")["status"] == "verified", 30.0)


def tip(platform: Platform, ada: Somebody, ben: Somebody, message: str) -> None:
    """Ben saves a card and tips Ada, who takes payments."""
    adult(ada)
    adult(ben)
    back = f"http://localhost:{platform.port}/"
    link = ada.ok("POST", "/payments/connect/onboarding", json={"country": "US", "returnUrl": back, "refreshUrl": back})
    assert httpx.post(link["url"], timeout=30.0).status_code == 303
    assert ada.ok("GET", "/payments/connect/account")["chargesEnabled"] is True
    ada.ok("POST", "/subscriptions/tiers", json={"rank": 1, "name": "Gold", "currency": "USD", "priceMonthly": "9.99"})
    setup = ben.ok("POST", "/payments/methods/setup")
    saved = httpx.post(
        f"{platform.settings.payments.stripe_url}/v1/setup_intents/{setup['id']}/confirm",
        headers={"Authorization": "Bearer pk_test_sandbox"},
        data={"client_secret": setup["clientSecret"], "payment_method": "pm_card_visa"}, timeout=30.0,
    ).json()
    paid = ben.ok("POST", "/payments/tips", json={
        "toUserId": ada.user_id, "amount": "5.00", "currency": "USD", "paymentMethodId": saved["payment_method"], "message": message,
    })
    assert paid["status"] == "completed"


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The structured lines of a file, but for one that is being written; Ray and the servers write others."""
    for text in path.read_text(errors="replace").split("\n")[:-1]:
        if text.startswith("{") and '"event"' in text:
            yield json.loads(text)


def live(platform: Platform, kept: Secrets) -> list[str]:
    """Two people do what people do; the traces of their requests."""
    with platform.client() as api:
        ada, ben = Somebody(api, kept, "sugar_baby"), Somebody(api, kept, "sugar_daddy")
        latitude, longitude = (f"{whole}.{secrets.randbelow(10**7):07d}" for whole in ("-46", "168"))
        place = {"latitude": float(kept.make("latitude", latitude)), "longitude": float(kept.make("longitude", longitude))}
        for person in (ada, ben):
            person.ok("PUT", "/users/me/location", json=place)
            person.ok("PUT", "/users/profile", json={"bio": kept.make("bio")})
        ada.ok("POST", "/matching/swipe", json={"targetUserId": ben.user_id, "action": "like"})
        likes = {"targetUserId": ada.user_id, "action": "like"}
        match_id = eventually(lambda: ben.ok("POST", "/matching/swipe", json=likes).get("matchId"), 30.0)
        said = {"conversationId": match_id, "content": kept.make("message"), "clientMessageId": secrets.token_hex(8)}
        eventually(lambda: ada.asks("POST", "/messaging/send", json=said).status_code == 200, 30.0)
        ada.ok("POST", "/reports", json={"targetType": "user", "targetId": ben.user_id, "category": "spam", "text": kept.make("report")})
        ada.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": kept.make("device", secrets.token_hex(40))})
        tip(platform, ada, ben, kept.make("tip message"))
        # What is refused is not repeated either.
        assert ada.asks("POST", "/auth/login", json={"email": ada.email, "password": kept.make("wrong password")}).status_code == 401
        assert ada.asks("PUT", "/users/profile", json={"bio": [kept.make("bad bio")]}).status_code == 422
        assert ada.asks("PUT", "/users/me/location", json={"latitude": kept.make("bad latitude"), "longitude": 1}).status_code == 422
        assert api.get("/users/me", headers={"Authorization": f"Bearer {kept.make('forged token')}"}).status_code == 401
        return [ada.trace, ben.trace]


def test_no_log_file_holds_what_people_wrote_or_where_they_are(platform: Platform) -> None:
    platform.wait_well()
    kept = Secrets()
    traces = live(platform, kept)
    settings = platform.settings.model_dump()
    for name in ("account_key", "refresh_key", "impression_key", "signing_key_pem"):
        kept.make(name, settings["auth"][name].get_secret_value())

    def written() -> bool:
        ids = {trace for path in log_files(platform) for line in lines_of(path) for trace in line.get("trace_id", ())}
        return set(traces) <= ids

    assert "account_key" in kept.found_in(settings_path(platform.data_dir)), "the search finds what is there"
    # The commits of what they did are logged with their traces: by then everything else was logged too.
    eventually(written, 60.0, every_s=1.0)
    files = list(log_files(platform))
    assert {"runtime.log", "postgres.log", "valkey.log", "broker.log"} <= {path.name for path in files}
    assert any(path.name.startswith("worker-") for path in files), "actors"
    assert any(path.name.startswith("replica_") for path in files), "replicas"
    assert {str(path): found for path in files if (found := kept.found_in(path))} == {}


def test_lines_fit_the_index_template(platform: Platform) -> None:
    """One field has one kind of value in all lines, which the template maps: a log store refuses a line that differs."""
    properties = json.loads(TEMPLATE.read_text())["template"]["mappings"]["properties"]
    lines = [line for path in log_files(platform) if "serve" not in path.parts for line in lines_of(path)]
    assert {"restored", "runtime_step"} <= {line["event"] for line in lines}
    kinds: dict[str, set[str]] = {}
    for line in lines:
        assert {"event", "level", "timestamp"} <= set(line)
        for name, value in line.items():
            if value is None or value == []:
                continue
            if name in properties:
                assert isinstance(value, FITS[properties[name]["type"]]), (name, value)
            flat = value if isinstance(value, list) else [value]
            kinds.setdefault(name, set()).update("number" if type(one) in (int, float) else type(one).__name__ for one in flat)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
