"""`sugar payouts`: what creators asked for where the payment processor pays none of them, and what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from cluster.connections.postgres import connect
from cluster.launch.moderating import ask
from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError
from configs.contracts.money import format_amount

app = typer.Typer(no_args_is_help=True, help="Payouts that you make yourself, since the payment processor pays no creators.")
console = Console(highlight=False)
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform's servers, keys and logs.")
]
DEFAULT_DATA_DIR = Path(".sugar")
PayoutId = Annotated[str, typer.Argument(help="Id of the payout, as `sugar payouts list` shows it.")]
WAITING: Final = """
SELECT id::text, creator_id::text, amount_minor, currency, livemode, requested_at FROM payouts
WHERE due IS NOT NULL AND state -> 'asked' ->> 'accountId' = '' ORDER BY due LIMIT %s
"""
CREATOR: Final = "SELECT creator_id::text FROM payouts WHERE id = %s::uuid LIMIT 1"


@app.command("list")
def list_waiting(
    limit: Annotated[int, typer.Option(help="How many, the oldest first.", min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what waits to be paid. It is taken off the creators' balances already."""
    with connect(running_settings(data_dir), "payouts") as conn:
        rows = conn.execute(WAITING, (limit,)).fetchall()
    found: list[dict[str, Any]] = [
        {
            "payoutId": payout_id, "creatorId": creator_id, "amount": format_amount(minor, currency), "currency": currency,
            "livemode": livemode, "requestedAt": requested_at.isoformat(),
        }
        for payout_id, creator_id, minor, currency, livemode, requested_at in rows
    ]
    if as_json:
        for item in found:
            typer.echo(json.dumps(item))
        return
    table = Table("payout", "creator", "amount", "asked for at")
    for item in found:
        money = f"{item['amount']} {item['currency']}" + ("" if item["livemode"] else " (test mode)")
        table.add_row(item["payoutId"], item["creatorId"], money, item["requestedAt"][:16].replace("T", " "))
    console.print(table)


@app.command("paid")
def paid(
    payout: PayoutId, reference: Annotated[str, typer.Option(help="What the transfer is called at the bank.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Record that you have transferred it: the ledger books it."""
    _record(data_dir, payout, "paid", reference)


@app.command("refuse")
def refuse(
    payout: PayoutId, reason: Annotated[str, typer.Option(help="Why, for your books.")], data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Record that you will not pay it: it is available to its creator again."""
    _record(data_dir, payout, "refused", reason)


@app.command("returned")
def returned(
    payout: PayoutId, reason: Annotated[str, typer.Option(help="What the bank says.")], data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Record that the bank sent back what you had paid: it is available to its creator again."""
    _record(data_dir, payout, "returned", reason)


def _record(data_dir: Path, payout: str, outcome: str, reference: str) -> None:
    try:
        payout = str(UUID(payout))
    except ValueError as error:
        raise ConfigurationError("that is no payout's id", payout=payout) from error
    with connect(running_settings(data_dir), "payouts") as conn:
        row = conn.execute(CREATOR, (payout,)).fetchone()
    if row is None:
        raise ConfigurationError("there is no such payout; `sugar payouts list` shows what waits", payout=payout)
    made = ask(data_dir, "sugar-payouts", "PUT", f"/payments/payouts/{payout}/outcome", json={
        "creatorId": row[0], "outcome": outcome, "reference": reference,
    })
    console.print(f"{made['amount']} {made['currency']}: {made['status']}")
