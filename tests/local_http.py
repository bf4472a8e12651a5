"""Clients of servers on this machine."""

from __future__ import annotations

from typing import Any

import httpx


def local_client(**options: Any) -> httpx.AsyncClient:
    """Speaks plain HTTP: without the certificates of the world, which take 25 ms of processor time to load."""
    return httpx.AsyncClient(verify=False, **options)
