"""What rows say that a payment processor still has to do, outside of subscriptions: to forget payers who were erased.

Everything is asked again until the processor has done it, under ids that a repetition makes again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from cluster.connections.postgres import translated
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.payments import ProviderMisconfigured
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.looks import ProviderLooks

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
AT_ONCE: Final = 200
"""Of each kind in one look, oldest first."""
ERASED: Final = """
SELECT user_id::text, coalesce(preferences ->> 'paymentCustomer', '')
FROM erasures LEFT JOIN users ON users.id = user_id
WHERE payer_forgotten_at IS NULL
  AND (NOT coalesce(preferences ? 'paymentCustomer', false) OR split_part(preferences ->> 'paymentCustomer', ':', 1) = ANY(%s))
ORDER BY erased_at LIMIT %s
"""
FORGOTTEN: Final = "UPDATE erasures SET payer_forgotten_at = now() WHERE user_id = %s"
NAMELESS: Final = "UPDATE users SET preferences = preferences - 'paymentCustomer' WHERE id = %s AND status = 'deleted'"


class PaymentSettling(ProviderLooks):
    """``figures``: forgotten (payers), refused (the processor does not do it)."""

    def __init__(self, settings: Settings, name: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(settings, name, "settling-payments", every_s=LOOK_S, clock=clock)

    def look(self) -> int:
        """Has done what is due; how many that were."""
        with open_rows(self._settings, "settling-payments") as conn, translated():
            return self._forget_payers(conn)

    def _forget_payers(self, conn: Connection) -> int:
        """Cards and customer go at the processor; what was paid stays there, as the law wants.

        Those of a processor without keys here wait until it has some again.
        """
        due = conn.execute(ERASED, (list(self._providers.names), AT_ONCE)).fetchall()
        for user_id, customer in due:
            processor, _, name = customer.partition(":")
            if name:
                self._run(self._forget(processor, name))
            with conn.transaction():
                conn.execute(NAMELESS, (user_id,))
                conn.execute(FORGOTTEN, (user_id,))
            self.figures["forgotten"] += bool(name)
        return len(due)

    async def _forget(self, processor: str, customer_id: str) -> None:
        """Returns once the processor has forgotten them, or says that it cannot."""
        provider = await self._providers.named(processor)
        try:
            await provider.forget_customer(customer_id)
        except (DependencyUnavailable, ProviderMisconfigured):
            raise
        except PlatformError as error:
            log.warning("payer_not_forgotten", processor=processor, reason=str(error))
            self.figures["refused"] += 1
