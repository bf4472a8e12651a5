"""Stripe's error objects."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Becomes ``{"error": {...}}`` with its status; nothing was changed unless ``kept``."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error", code: str | None = None,
        param: str | None = None, kept: bool = False, **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kept = kept
        """What was done before the error stays done, and the answer is remembered under its idempotency key."""
        self.body: dict[str, Any] = {
            "error": {
                name: value
                for name, value in {"type": kind, "message": message, "code": code, "param": param, **more}.items()
                if value is not None
            }
        }


def missing(kind: str, object_id: str, param: str = "id") -> ApiError:
    """Stripe's answer to an id that it does not know."""
    return ApiError(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param=param)
