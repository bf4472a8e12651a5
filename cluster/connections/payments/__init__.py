"""The payment processors of one process, made from the settings when they are first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from configs.contracts.errors import ConfigurationError
from configs.contracts.payments import PaymentProvider
from configs.settings import Settings


def providers_of(settings: Settings) -> dict[str, Callable[[], PaymentProvider]]:
    """Name -> what makes it, of every processor that has keys. Making one imports its client: off the event loop, please."""
    payments = settings.payments
    if payments.sandbox and not payments.stripe_url:
        # Its key would go to Stripe itself.
        raise ConfigurationError("the payments' sandbox has no address", setting="payments.stripe_url")
    made: dict[str, Callable[[], PaymentProvider]] = {}
    if payments.stripe_key.get_secret_value():
        def stripe() -> PaymentProvider:
            from cluster.connections.payments.stripe import StripeProvider

            return StripeProvider(
                payments.stripe_key.get_secret_value(),
                webhook_secrets=[secret.get_secret_value() for secret in payments.stripe_webhook_secrets],
                url=payments.stripe_url, timeout_s=payments.timeout_s, retries=payments.retries,
                tolerance_s=payments.webhook_tolerance_s,
            )

        made["stripe"] = stripe
    if payments.hosted_form.url:
        def hosted_form() -> PaymentProvider:
            from cluster.connections.payments.hosted_form import HostedFormProvider

            form = payments.hosted_form
            return HostedFormProvider(
                url=form.url, account=form.account, form_key=form.form_key.get_secret_value(),
                postback_keys=[key.get_secret_value() for key in form.postback_keys], tolerance_s=payments.webhook_tolerance_s,
            )

        made["hosted_form"] = hosted_form
    return made


class Providers:
    """Processors by name, for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.processor = settings.payments.processor
        self._make = providers_of(settings)
        self._made: dict[str, PaymentProvider] = {}
        self._making = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._make)

    async def named(self, name: str) -> PaymentProvider:
        """The processor of that name. Raises KeyError: it has no keys here."""
        found = self._made.get(name)
        if found is None:
            async with self._making:
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = await asyncio.to_thread(self._make[name])
        return found

    async def present(self) -> PaymentProvider:
        """The processor that takes new payments. Raises KeyError: it has no keys."""
        return await self.named(self.processor)

    async def close(self) -> None:
        for provider in self._made.values():
            await provider.close()
        self._made.clear()
