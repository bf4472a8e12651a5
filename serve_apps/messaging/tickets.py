"""The ticket that opens a realtime socket, and the gateway to open it on; hot, since everybody comes at once when a
gateway has died."""

from __future__ import annotations

import random
from time import time
from typing import Final

import msgspec
from pydantic import Field

from actors.sessions.tickets import TICKET_TTL_S, IssueTicket, TicketInvalid
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.realtime import GATEWAY_LATE_MS, GATEWAY_STALE_MS, GATEWAYS, GatewayEntry
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer
from serve_apps.hot import HotRequest, HotRoute
from serve_apps.problems import SIGNED_IN, Refused

_ENTRIES: Final = msgspec.json.Decoder(GatewayEntry)
_ENCODER: Final = msgspec.json.Encoder()


class WsTicket(Answer):
    url: str = Field(description="where to open the WebSocket; frames are in the AsyncAPI document")
    ticket: str = Field(description="works once: as `?ticket=` of the URL, or in the first frame")
    expires_in: int = Field(description="seconds")


async def issue_ws_ticket(dependencies: Dependencies, request: HotRequest) -> bytes:
    """A ticket of the asking session, and a gateway that lives."""
    person = request.person
    url = await _gateway_url(dependencies)
    ticket = await dependencies.sessions.issue_ticket(IssueTicket(
        family_id=person.family_id, user_id=person.user_id, permission_role=person.permission_role,
        expires_at=person.expires_at, sessions_from=person.sessions_from,
    ))
    if isinstance(ticket, TicketInvalid):
        raise Refused("unauthenticated")
    return _ENCODER.encode({"url": url, "ticket": ticket, "expiresIn": TICKET_TTL_S})


async def _gateway_url(dependencies: Dependencies) -> str:
    """A living gateway at random, the emptier the likelier. Raises DependencyUnavailable: none lives.

    At random, because entries are a second old: the emptiest one may just have died, and everybody would go there. One
    that is ``GATEWAY_LATE_MS`` old is only named when none is younger: whoever comes back from a dead gateway is not sent there.
    """
    (found,) = await dependencies.reads.raw(("HGETALL", GATEWAYS))
    now_ms = time() * 1_000
    entries = [entry for value in found[1::2] if not (entry := _ENTRIES.decode(value)).draining]
    living = [entry for entry in entries if entry.at_ms > now_ms - GATEWAY_LATE_MS] or [
        entry for entry in entries if entry.at_ms > now_ms - GATEWAY_STALE_MS
    ]
    if not living:
        raise DependencyUnavailable("no realtime gateway answers")
    fullest = max(entry.sockets for entry in living)
    weights = [fullest - entry.sockets + fullest / 2 + 1 for entry in living]
    return random.choices(living, weights)[0].url  # noqa: S311  only a spread


TICKET: Final = HotRoute(
    method="POST", path="/messaging/ws-ticket", operation_id="issueWsTicket", tag="messaging",
    summary="A ticket for one realtime socket of this session, and where to open it; the socket ends with the access token.",
    handler=issue_ws_ticket, answer=WsTicket, codes=SIGNED_IN,
)
