"""The route of payment providers' webhooks: whoever signed it is believed, and it is durable before they are thanked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from configs.contracts.payments import WebhookForged, WebhookUnreadable
from serve_apps.identity import Deps
from serve_apps.problems import Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/payments", tags=["payments"])

Provider = Annotated[
    Literal["stripe", "hosted_form"], Path(alias="provider", description="the processor that sends", examples=["stripe"])
]


class WebhookTaken(BaseModel):
    """The webhook is kept, or is about nothing that concerns this platform."""

    received: bool = Field(True, description="always true")


@router.post(
    "/webhooks/{provider}", operation_id="takeWebhook", response_model=WebhookTaken,
    responses=errors("webhook_refused", "not_found", "body_too_large", "invalid", "dependency_unavailable"),
)
async def take_webhook(provider: Provider, request: Request, dependencies: Deps) -> WebhookTaken:
    """Takes a payment provider's webhook. The signature over the raw body counts, nothing else about the caller.

    503: it was not kept; the provider sends it again.
    """
    if provider not in dependencies.providers.names:
        raise Refused("not_found")
    processor = await dependencies.providers.named(provider)
    now = datetime.now(UTC)
    try:
        report = processor.verify(await request.body(), request.headers, now)
    except (WebhookForged, WebhookUnreadable) as error:
        raise Refused("webhook_refused") from error
    if report is not None:
        await to_the_end(dependencies.webhooks.keep(report, now))
    return WebhookTaken()
