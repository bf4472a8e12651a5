"""A forgotten password on a whole platform: the mail is in `sugar mail`, its token sets another one, every session ends."""

from __future__ import annotations

import uuid

import pytest
from running import Platform, eventually, sugar

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]


def test_a_forgotten_password_is_replaced_by_the_token_that_was_mailed(platform: Platform) -> None:
    platform.wait_well()
    email = f"forgot-{uuid.uuid4().hex}@example.com"
    body = {
        "email": email, "password": "correct horse battery", "role": "sugar_baby", "displayName": "Ada", "birthDate": "1994-05-17"
    }
    with platform.client() as api:
        first = api.post("/auth/register", json=body).json()
        second = api.post("/auth/login", json={"email": email, "password": body["password"]}).json()
        signed_in = {"Authorization": f"Bearer {second['accessToken']}"}
        eventually(lambda: len(api.get("/auth/sessions", headers=signed_in).json()["sessions"]) == 2, 30.0)
        assert api.post("/auth/password/forgot", json={"email": email}).status_code == 202

        def token() -> str | None:
            shown = sugar("mail", "--to", email, "--data-dir", str(platform.data_dir)).stdout
            return next((word for word in shown.split() if len(word) == 86), None)

        mailed = eventually(token, 60.0)
        assert api.post("/auth/password/reset", json={"token": mailed, "password": "another long password"}).status_code == 200
        for tokens in (first, second):
            eventually(lambda: api.get(
                "/auth/me", headers={"Authorization": f"Bearer {tokens['accessToken']}"}  # noqa: B023  called at once
            ).status_code == 401, 30.0)
            assert api.post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]}).status_code == 401
        again = api.post("/auth/login", json={"email": email, "password": "another long password"})
        assert again.status_code == 200
        signed_in = {"Authorization": f"Bearer {again.json()['accessToken']}"}
        eventually(lambda: len(api.get("/auth/sessions", headers=signed_in).json()["sessions"]) == 1, 30.0)
