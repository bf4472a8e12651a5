"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Frozen; a field that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
