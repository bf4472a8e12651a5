"""Who a person is at a payment processor: kept in the person's record, as ``processor:id``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

CUSTOMER: Final = "paymentCustomer"
"""The record's name for the payer; with a currency behind it, for the payer of subscriptions in that currency."""


class Parties(msgspec.Struct, frozen=True, rename="camel"):
    """What a person's record says of them as payer (customer) and payee (account).

    A processor may refuse subscriptions in two currencies to one customer. So a payer has one for each currency of
    subscriptions that the first one cannot pay.
    """

    payment_customer: str = ""
    payment_account: str = ""
    payment_method: str = ""
    currency_customers: Mapping[str, str] = {}

    def customers(self, processor: str) -> dict[str, str]:
        """Currency -> the processor's name for the payer of subscriptions in it; under "" the first, of all else."""
        named = {"": self.payment_customer, **self.currency_customers}
        return {currency: name for currency, text in named.items() if (name := _at(processor, text)) is not None}

    def customer(self, processor: str, currency: str) -> str | None:
        """The processor's name for the payer of subscriptions in a currency; None: it has none yet."""
        found = self.customers(processor)
        return found.get(currency, found.get(""))

    def account(self, processor: str) -> str | None:
        """The processor's name for the payee; None: it has none yet."""
        return _at(processor, self.payment_account)

    def method(self, processor: str) -> str | None:
        """What the person pays with there unless they say otherwise; None: they chose nothing."""
        return _at(processor, self.payment_method)


def party(processor: str, name: str) -> str:
    return f"{processor}:{name}"


def _at(processor: str, text: str) -> str | None:
    found, _, name = text.partition(":")
    return name if found == processor and name else None


_RECORD: Final = msgspec.json.Decoder(dict[str, Any])


def read_parties(record: bytes) -> Parties:
    """Of the value at ``read_model.record_key``."""
    found = _RECORD.decode(record)
    apart = {name.removeprefix(CUSTOMER): value for name, value in found.items() if name.startswith(CUSTOMER) and name != CUSTOMER}
    return msgspec.convert(found | {"currencyCustomers": apart}, Parties)
