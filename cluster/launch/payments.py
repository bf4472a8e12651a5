"""`sugar payments`: the clock, the webhooks and the payers' side of the local payments' sandbox."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError, DependencyUnavailable

app = typer.Typer(no_args_is_help=True, help="The payments' sandbox: test mode only, no money moves.")
console = Console(highlight=False)
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")]
DEFAULT = Path(".sugar")
TIMEOUT_S = 60.0
SHOWN = ("status", "amount", "currency", "customer", "type", "created")


def asked(data_dir: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The sandbox's answer. Raises ConfigurationError: this platform has a real processor, or the wish was refused."""
    import httpx

    payments = running_settings(data_dir).payments
    if not payments.sandbox:
        raise ConfigurationError("this platform does not take its payments in the sandbox", url=payments.stripe_url or "Stripe")
    try:
        answer = httpx.request(
            method, f"{payments.stripe_url}/sandbox{path}", json=body, timeout=TIMEOUT_S,
            headers={"Authorization": f"Bearer {payments.stripe_key.get_secret_value()}"},
        )
    except httpx.HTTPError as error:
        raise DependencyUnavailable("the sandbox does not answer", url=payments.stripe_url) from error
    if answer.status_code != 200:
        raise ConfigurationError("the sandbox refuses", reason=answer.json().get("error", {}).get("message", ""))
    return answer.json()


@app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False, data_dir: DataDir = DEFAULT) -> None:
    """Where it is, what time it has, how webhooks are delivered and what there is."""
    found = asked(data_dir, "GET", "")
    url = running_settings(data_dir).payments.stripe_url
    if as_json:
        typer.echo(json.dumps({"url": url} | found))
        return
    console.print(f"{url}  livemode: false, its time: {datetime.fromtimestamp(found['now'], UTC):%Y-%m-%d %H:%M:%S} UTC")
    console.print(f"webhooks: {found['switches']}, {found['waiting']} wait")
    table = Table("object", "count")
    for kind, count in sorted(found["objects"].items()):
        table.add_row(kind, str(count))
    console.print(table)


@app.command("advance")
def advance(
    days: Annotated[float, typer.Option(help="Days.", min=0, max=800)] = 0.0,
    hours: Annotated[float, typer.Option(help="Hours.", min=0, max=800 * 24)] = 0.0,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Move its clock forward: renewals, ends of trials, further tries and payouts on the way happen, each at its time."""
    done = asked(data_dir, "POST", "/clock", {"advance_s": int(days * 86_400 + hours * 3_600)})
    console.print(f"{done['happened']} things happened; it is {datetime.fromtimestamp(done['now'], UTC):%Y-%m-%d %H:%M:%S} UTC there")


@app.command("webhooks")
def webhooks(
    drop: Annotated[bool | None, typer.Option("--drop/--deliver", help="Deliver none at all.")] = None,
    duplicate: Annotated[int | None, typer.Option(help="Deliver each this many times more.", min=0, max=10)] = None,
    delay_s: Annotated[float | None, typer.Option("--delay-s", help="Deliver after this many seconds.", min=0, max=600)] = None,
    reorder: Annotated[bool | None, typer.Option("--reorder/--in-order", help="Shuffle what waits.")] = None,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Change how webhooks are delivered; what is not named stays."""
    wanted = {"drop": drop, "duplicate": duplicate, "delay_s": delay_s, "reorder": reorder}
    console.print(str(asked(data_dir, "POST", "/webhooks", {name: value for name, value in wanted.items() if value is not None})))


@app.command("list")
def list_objects(
    kind: Annotated[str, typer.Argument(help="customer, subscription, invoice, payment_intent, charge, refund, dispute, account, payout, event, …")],
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=1_000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
    data_dir: DataDir = DEFAULT,
) -> None:
    """List its objects of a kind."""
    found = asked(data_dir, "GET", f"/objects/{kind}")["data"][:limit]
    if as_json:
        for item in found:
            typer.echo(json.dumps(item))
        return
    table = Table("id", *SHOWN)
    for item in found:
        table.add_row(item["id"], *(str(item.get(name, "")) for name in SHOWN))
    console.print(table)


@app.command("authenticate")
def authenticate(
    client_secret: Annotated[str, typer.Argument(help="The secret that the app got.")],
    fails: Annotated[bool, typer.Option("--fails", help="The payer's bank does not confirm.")] = False,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Confirm a payment that waits for its payer, as the payer's bank would."""
    done = asked(data_dir, "POST", "/authenticate", {"client_secret": client_secret, "succeeds": not fails})
    console.print(f"{done['id']}: {done['status']}")


@app.command("dispute")
def dispute(
    payment: Annotated[str, typer.Argument(help="A payment (pi_…) to dispute, or a dispute (du_…) to decide.")],
    won: Annotated[bool, typer.Option("--won/--lost", help="How a dispute is decided.")] = False,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Let the payer's bank dispute a payment, or decide a dispute."""
    if payment.startswith("du_"):
        done = asked(data_dir, "POST", "/close-dispute", {"dispute": payment, "won": won})
    else:
        done = asked(data_dir, "POST", "/dispute", {"payment_intent": payment})
    console.print(f"{done['id']}: {done['status']}")


@app.command("fail-refund")
def fail_refund(
    refund: Annotated[str, typer.Argument(help="A refund (re_…) that was made.")], data_dir: DataDir = DEFAULT
) -> None:
    """Let the payer's bank send a refund back, as it may days later."""
    done = asked(data_dir, "POST", "/fail-refund", {"refund": refund})
    console.print(f"{done['id']}: {done['status']}")


@app.command("card")
def card(
    payment_method: Annotated[str, typer.Argument(help="A saved card (pm_…).")],
    behaves_like: Annotated[str, typer.Argument(help="A test card, as pm_card_chargeCustomerFail.")],
    data_dir: DataDir = DEFAULT,
) -> None:
    """Let a saved card behave like another test card from now on."""
    asked(data_dir, "POST", "/card", {"payment_method": payment_method, "behaves_like": behaves_like})
    console.print(f"{payment_method} behaves like {behaves_like}")
