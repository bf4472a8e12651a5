"""Ray's hook into ``ray start``, named in RAY_START_HOOK."""

from __future__ import annotations

from typing import Any


def without_client_server(ray_params: Any, head: bool) -> None:
    """Starts no Ray Client server: nobody uses it, and no option of ``ray start`` turns it off."""
    if head:
        ray_params.ray_client_server_port = None
