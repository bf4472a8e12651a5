"""Who a person is at a payment processor: kept in the person's record, as ``processor:id``."""

from __future__ import annotations

from typing import Final

import msgspec


class Parties(msgspec.Struct, frozen=True, rename="camel"):
    """What a person's record says of them as payer (customer) and payee (account)."""

    payment_customer: str = ""
    payment_account: str = ""
    payment_method: str = ""

    def customer(self, processor: str) -> str | None:
        """The processor's name for the payer; None: it has none yet."""
        return _at(processor, self.payment_customer)

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


_PARTIES: Final = msgspec.json.Decoder(Parties)


def read_parties(record: bytes) -> Parties:
    """Of the value at ``read_model.record_key``."""
    return _PARTIES.decode(record)
