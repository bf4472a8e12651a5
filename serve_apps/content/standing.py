"""What a viewer holds: subscriptions by creator and purchases by post, read together with the posts themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.connections.reading import Command
from configs.contracts.entitlements import Holding
from configs.contracts.selling import holdings_command, purchase_field, read_holdings, read_purchase


@dataclass(frozen=True, slots=True)
class Standing:
    """Whoever is missing holds nothing."""

    holdings: Mapping[str, tuple[Holding, ...]]
    purchased: frozenset[str]


def commands(viewer_id: str, creator_ids: Sequence[str], post_ids: Sequence[str]) -> tuple[Command, ...]:
    """What to read for ``standing``; known when the viewer's relations are."""
    return (holdings_command(viewer_id, (*creator_ids, *map(purchase_field, post_ids))),)


def standing(creator_ids: Sequence[str], post_ids: Sequence[str], replies: Sequence[Any]) -> Standing:
    """What the replies to ``commands`` say."""
    (values,) = replies
    holdings, purchases = values[: len(creator_ids)], values[len(creator_ids) :]
    return Standing(
        {name: read_holdings(value) for name, value in zip(creator_ids, holdings, strict=True) if value is not None},
        frozenset(name for name, value in zip(post_ids, purchases, strict=True) if read_purchase(value)),
    )
