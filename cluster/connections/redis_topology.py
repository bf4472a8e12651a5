"""A Redis Cluster's address, and which node owns which slots.

``redis+cluster://[user:password@]host:port[,host:port…][?ssl_ca_certs=FILE]`` (``rediss+cluster`` with TLS) names a cluster by
any of its nodes. With TLS the nodes are asked under the names that they announce (``cluster-preferred-endpoint-type``), which
their certificates must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from configs.contracts.errors import ConfigurationError
from configs.contracts.slots import PARTS, SLOTS, part_key, slot_of

SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
DEFAULT_PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """Where a cluster's nodes are found, and what opens them."""

    scheme: str
    credentials: str
    """``user:password@`` as it stands in the URL, or empty."""
    seeds: tuple[str, ...]
    """host:port of nodes to begin with."""
    options: str = ""
    """``?name=value…`` as it stands in the URL, or empty."""

    def url(self, node: str) -> str:
        """The URL of one node."""
        return f"{self.scheme}://{self.credentials}{node}{self.options}"


def cluster_address(url: str) -> ClusterAddress | None:
    """The address that a URL names; None: it names a single server.

    Raises ConfigurationError: a cluster's URL that names no node, or a database (a cluster has one).
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        return None
    rest, mark, options = rest.partition("?")
    place, _, path = rest.partition("/")
    credentials, at, hosts = place.rpartition("@")
    seeds = tuple(host if ":" in host else f"{host}:{DEFAULT_PORT}" for host in hosts.split(",") if host)
    if not seeds or path.strip("/0"):
        raise ConfigurationError("a cluster is named by nodes and has no databases", setting="REDIS_URL")
    return ClusterAddress(SCHEMES[scheme], credentials + at, seeds, mark + options)


@dataclass(frozen=True, slots=True)
class Topology:
    """Who owns which slot, as one node told it."""

    owners: Sequence[str]
    """(16384,) host:port of each slot's primary; empty: nobody owns it."""
    markers: dict[str, str] = field(default_factory=dict)
    """Primary -> one marker (``part_key``) in a slot of its own."""

    @property
    def primaries(self) -> list[str]:
        return sorted({owner for owner in self.owners if owner})

    def owner(self, slot: int) -> str:
        """The slot's primary; of no slot (-1) that of any; empty: nobody."""
        if slot >= 0:
            return self.owners[slot]
        return next((owner for owner in self.owners if owner), "")


def read_topology(reply: Sequence[Any], asked: str) -> Topology:
    """From an answer to CLUSTER SLOTS by the node ``asked``; its own address may be empty in it."""
    owners = [""] * SLOTS
    for first, last, primary, *_ in reply:
        host, port = primary[0], primary[1]
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        node = f"{name if name and name != '?' else asked.rpartition(':')[0]}:{port}"
        owners[int(first):int(last) + 1] = [node] * (int(last) - int(first) + 1)
    markers: dict[str, str] = {}
    for key in map(part_key, range(PARTS)):
        if owner := owners[slot_of(key)]:
            markers.setdefault(owner, key)
    return Topology(owners, markers)
