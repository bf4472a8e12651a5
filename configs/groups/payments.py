"""Processors of payments."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from configs.groups.base import Group


class HostedForm(Group):
    """A processor of the hosted-form kind; off while it has no address."""

    url: str = Field("", description="where payers pay; empty: off")
    account: str = Field("", description="our account there")
    form_key: SecretStr = Field(SecretStr(""), description="signs what the form is told")
    postback_keys: tuple[SecretStr, ...] = Field((), max_length=2, description="keys whose postbacks are believed, the present one first (JSON list)")
    return_url: str = Field("", description="where its page sends payers back to")
    payer_pages_url: str = Field("", description="its pages where payers end what they subscribed to; shown to who wants to cancel here")


class Payments(Group):
    """Payment processors. Without a Stripe key the sandbox runs (never in production)."""

    processor: Literal["stripe", "hosted_form"] = Field("stripe", description="who takes new payments; both are listened to")
    stripe_key: SecretStr = Field(SecretStr(""), description="Stripe's secret or restricted key; empty: the local sandbox, in test mode")
    stripe_webhook_secrets: tuple[SecretStr, ...] = Field((), max_length=2, description="secrets whose signatures are believed, the present one first (JSON list)")
    stripe_url: str = Field("", description="another address than Stripe's own; set by launch for the sandbox")
    sandbox: bool = Field(False, description="the key is that of the local sandbox; set by launch")
    timeout_s: float = Field(10.0, gt=0, le=80, description="seconds a call to a processor may take")
    retries: int = Field(1, ge=0, le=5, description="repetitions of a call that failed, with the same idempotency key")
    webhook_tolerance_s: int = Field(300, ge=30, description="age of a signature, in seconds, past which a webhook is a replay")
    webhook_bytes: int = Field(524_288, ge=65_536, description="size of a webhook's body")
    poll_s: float = Field(30.0, gt=0, description="seconds between two looks at the processor's own list, for webhooks that did not come")
    reconcile_days: int = Field(3, ge=1, le=29, description="days that the nightly look goes back, creators' accounts included")
    hosted_form: HostedForm = HostedForm()

    @property
    def in_test_mode(self) -> bool:
        """Whether no real money moves."""
        return self.sandbox or bool(self.stripe_url) or self.stripe_key.get_secret_value().startswith(("sk_test_", "rk_test_"))

    @property
    def production_lacks(self) -> list[str]:
        """What a platform with real money needs and does not have."""
        missing = []
        if self.processor == "hosted_form":
            form = self.hosted_form
            if not (
                form.url and form.account and form.form_key.get_secret_value() and form.postback_keys and form.return_url
                and form.payer_pages_url
            ):
                missing.append("SUGAR_PAYMENTS__HOSTED_FORM")
        elif not self.stripe_key.get_secret_value():
            missing.append("SUGAR_PAYMENTS__STRIPE_KEY")
        if self.stripe_key.get_secret_value() and not self.stripe_webhook_secrets:
            missing.append("SUGAR_PAYMENTS__STRIPE_WEBHOOK_SECRETS")
        return missing
