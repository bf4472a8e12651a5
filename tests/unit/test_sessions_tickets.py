"""A ticket opens one socket, once, for half a minute."""

from __future__ import annotations

from actors.sessions.tickets import (
    TICKET_TTL_S,
    TICKETS_OF_FAMILY,
    IssueTicket,
    SpendTicket,
    TicketInvalid,
    Tickets,
    family_of_ticket,
)
from configs.contracts.errors import ShardUnavailable
from configs.contracts.ids import new_id


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def office() -> tuple[Tickets, Clock, set[str]]:
    clock, revoked = Clock(), set[str]()
    return Tickets(revoked=revoked.__contains__, clock=clock), clock, revoked


def issued(tickets: Tickets, family: str) -> str:
    ticket = tickets.issue(IssueTicket(family, "ada", "user", 1e12))
    assert isinstance(ticket, str)
    return ticket


def test_a_ticket_is_spent_once() -> None:
    tickets, _, _ = office()
    family = new_id()
    ticket = issued(tickets, family)
    assert tickets.spend(SpendTicket(ticket)) == IssueTicket(family, "ada", "user", 1e12)
    assert tickets.spend(SpendTicket(ticket)) == TicketInvalid()
    assert len(tickets) == 0


def test_a_ticket_leads_to_the_shard_of_its_family_and_other_texts_nowhere() -> None:
    tickets, _, _ = office()
    family = new_id()
    assert family_of_ticket(issued(tickets, family)) == family
    for text in ("", "x", "é" * 56, "A" * 57, issued(tickets, family)[:-4]):
        assert family_of_ticket(text) is None


def test_a_ticket_of_another_life_of_the_shard_is_unknown() -> None:
    before, _, _ = office()
    after, _, _ = office()
    assert after.spend(SpendTicket(issued(before, new_id()))) == TicketInvalid()


def test_tickets_expire_and_are_forgotten() -> None:
    tickets, clock, _ = office()
    old = issued(tickets, new_id())
    clock.now = TICKET_TTL_S / 2
    young = issued(tickets, new_id())
    clock.now = TICKET_TTL_S
    assert tickets.spend(SpendTicket(old)) == TicketInvalid()
    assert len(tickets) == 1
    assert isinstance(tickets.spend(SpendTicket(young)), IssueTicket)


def test_a_revoked_family_gets_no_ticket_and_spends_none() -> None:
    tickets, _, revoked = office()
    family = new_id()
    ticket = issued(tickets, family)
    revoked.add(family)
    assert tickets.spend(SpendTicket(ticket)) == TicketInvalid()
    assert tickets.issue(IssueTicket(family, "ada", "user", 1e12)) == TicketInvalid()


def test_a_family_holds_a_bounded_number_and_the_newest_count() -> None:
    tickets, _, _ = office()
    family = new_id()
    mine = [issued(tickets, family) for _ in range(TICKETS_OF_FAMILY + 2)]
    assert len(tickets) == TICKETS_OF_FAMILY
    assert tickets.spend(SpendTicket(mine[1])) == TicketInvalid()
    assert isinstance(tickets.spend(SpendTicket(mine[2])), IssueTicket)


def test_past_the_bound_no_ticket_is_issued_until_some_have_expired(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("actors.sessions.tickets.UNSPENT_TICKETS", 3)
    tickets, clock, _ = office()
    for _ in range(3):
        issued(tickets, new_id())
    assert isinstance(tickets.issue(IssueTicket(new_id(), "ada", "user", 1e12)), ShardUnavailable)
    clock.now = TICKET_TTL_S
    assert isinstance(issued(tickets, new_id()), str)
