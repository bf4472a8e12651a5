"""Which network address a request came from, as far as it can be believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

LONGEST_CHAIN: Final = 32
"""Hops looked at, from the right; whatever a client writes before them cannot matter."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddresses:
    """Finds the rightmost untrusted hop. Without trusted proxies X-Forwarded-For is ignored.

    Serve's own proxy hides the peer, so an edge must be the only way in (README); the peer's address is only used
    when no proxy is configured.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in trusted_proxies)

    @property
    def sees_clients(self) -> bool:
        """Whether addresses of clients can be told apart at all."""
        return bool(self._trusted)

    def of(self, peer: str | None, forwarded: Iterable[bytes]) -> str:
        """The client's address as a limit key: IPv4 whole, IPv6 by its /64, ``unknown`` when there is none."""
        hops: list[str] = []
        if self._trusted:
            for header in forwarded:
                hops += header.decode("latin-1").split(",")
        for hop in reversed(hops[-LONGEST_CHAIN:]):
            address = _parse(hop)
            if address is None:
                return "unknown"
            if not any(address in network for network in self._trusted):
                return _key(address)
        address = _parse(peer or "")
        return "unknown" if address is None else _key(address)


def _parse(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].split("]", 1)[0]
    elif text.count(":") == 1:
        text = text.split(":", 1)[0]
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _key(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False).network_address) + "/64"
    return str(address)
