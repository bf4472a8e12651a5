"""A local OpenID Connect provider: signs id tokens, rotates its keys, and gives the public ones over HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from configs.settings import Provider

AUDIENCE = "app.sugar.test"


class Issuer:
    """``tokens`` are signed with the newest key; ``answers`` False: the provider is away."""

    def __init__(self) -> None:
        self.answers = True
        self.fetches = 0
        self.keys: dict[str, Any] = {}
        self.rotate()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps({"keys": [issuer.public(kid) for kid in issuer.keys]}).encode()
                self.send_response(200 if issuer.answers else 500)
                self.send_header("cache-control", "public, max-age=3600")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def provider(self) -> Provider:
        return Provider(issuers=(self.url,), jwks_url=f"{self.url}/keys", audiences=(AUDIENCE, "other.sugar.test"))

    def rotate(self, *, elliptic: bool = False) -> str:
        """A new signing key; the older ones stay known."""
        self.kid = f"key-{len(self.keys)}"
        self.keys[self.kid] = (
            ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa.generate_private_key(65_537, 2_048)
        )
        return self.kid

    def public(self, kid: str) -> dict[str, Any]:
        key = self.keys[kid].public_key()
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPublicKey) else ECAlgorithm
        name = "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"
        return json.loads(algorithm.to_jwk(key)) | {"kid": kid, "use": "sig", "alg": name}

    def token(self, subject: str, email: str | None, nonce: str | None, **changed: Any) -> str:
        """A valid token; ``changed`` claims replace or (None) remove those of a valid one."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3_600, "nonce": nonce,
            "email": email, "email_verified": True,
        }
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        key = self.keys[self.kid]
        return jwt.encode(
            claims, key, algorithm="RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256", headers={"kid": self.kid}
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
