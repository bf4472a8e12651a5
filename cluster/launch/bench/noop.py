"""The bare application that every figure is compared with."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Swipe(BaseModel):
    targetUserId: str  # noqa: N815  the field as it goes over the wire
    action: str


app = FastAPI()


@app.post("/noop")
async def noop(body: Swipe) -> dict[str, bool]:
    return {"matched": body.action == "never"}
