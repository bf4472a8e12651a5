"""`sugar admin` and `sugar moderate`: giving roles, and deciding what was reported, through the platform's own API.

Both act under a service token made here, with the platform's keys; the audit log names the tool.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.table import Table

from cluster.launch.state import api_root, running_settings
from configs.contracts.access_tokens import AccessTokens
from configs.contracts.errors import DependencyUnavailable, PlatformError

admin = typer.Typer(no_args_is_help=True, help="Who may moderate and administrate.")
moderate = typer.Typer(no_args_is_help=True, help="Decide what people have reported.")
console = Console(highlight=False)
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform's servers, keys and logs.")
]
DEFAULT_DATA_DIR = Path(".sugar")
TIMEOUT_S: Final = 10.0
TOKEN_S: Final = 60


class ModerationRefused(PlatformError):
    """The API refused; the message says why."""


def ask(data_dir: Path, tool: str, method: str, path: str, **options: Any) -> dict[str, Any]:
    """The API's answer to the operator's tool.

    Raises ModerationRefused; DependencyUnavailable: the API does not answer; ConfigurationError: no platform runs there.
    """
    settings = running_settings(data_dir)
    token = AccessTokens(settings.auth).issue_service(tool, TOKEN_S)
    try:
        answer = httpx.request(
            method, f"{api_root(data_dir, settings)}/api/v1{path}", timeout=TIMEOUT_S,
            headers={"Authorization": f"Bearer {token}"}, **options,
        )
    except httpx.HTTPError as error:
        raise DependencyUnavailable("the API does not answer", kind=type(error).__name__) from error
    found: dict[str, Any] = answer.json()
    if answer.is_error:
        facts = {name: found[name] for name in ("code", "number", "fields", "state") if name in found}
        raise ModerationRefused(str(found.get("title", "refused")), **facts)
    return found


@admin.command("grant")
def grant(
    email: Annotated[str, typer.Argument(help="Address of the account.")],
    role: Annotated[str, typer.Option(help="user, moderator or admin; user takes the role back.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Give an account a permission role; it is signed out everywhere, and signs in again under the role."""
    ask(data_dir, "sugar-admin", "PUT", "/moderation/roles", json={"email": email, "role": role})
    console.print(f"{email} has the role {role}; every session of the account has ended", markup=False)


@moderate.command("list")
def list_queue(
    limit: Annotated[int, typer.Option(help="How many, the most urgent first.", min=1, max=100)] = 20,
    restricted: Annotated[bool, typer.Option("--restricted", help="Child-abuse reports and matches instead.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what waits for a decision."""
    found = ask(data_dir, "sugar-moderate", "GET", "/moderation/queue", params={"limit": limit, "restricted": restricted})
    table = Table("due", "kind", "target", "reports", "categories")
    for entry in found["entries"]:
        due = datetime.fromisoformat(entry["dueAt"]).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            f"[red]{due}[/red]" if entry["overdue"] else due, entry["kind"], f"{entry['targetType']} {entry['targetId']}",
            str(entry["reports"]), ", ".join(entry["categories"]),
        )
    console.print(table)


@moderate.command("show")
def show(
    target: Annotated[str, typer.Argument(help="Id of what was reported.")], data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """Show everything about one target."""
    console.print_json(data=ask(data_dir, "sugar-moderate", "GET", f"/moderation/cases/{target}"))


@moderate.command("media")
def media(
    target: Annotated[str, typer.Argument(help="Id of a picture or video, as a case names them.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show a picture or video, by links that work for a few minutes; the audit log says that they were given."""
    console.print_json(data=ask(data_dir, "sugar-moderate", "GET", f"/moderation/media/{target}"))


@moderate.command("decide")
def decide(
    target: Annotated[str, typer.Argument(help="Id of what was reported.")],
    action: Annotated[str, typer.Argument(help="dismiss, warn, remove; of people: dismiss, warn, suspend, ban, reinstate.")],
    statement: Annotated[str, typer.Option(help="The reasons, as both sides are told.")],
    category: Annotated[str, typer.Option(help="The rule that was broken, as reports name it.")] = "other",
    target_type: Annotated[str, typer.Option("--type", help="user, message, post, comment, media or unlocated.")] = "user",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Decide about a target as it is now."""
    seen = ask(data_dir, "sugar-moderate", "GET", f"/moderation/cases/{target}")["number"]
    made = ask(data_dir, "sugar-moderate", "POST", f"/moderation/cases/{target}/decisions", json={
        "targetType": target_type, "action": action, "category": category, "statement": statement, "seen": seen,
    })
    console.print(f"decided: {made['decisionId']}")


@moderate.command("appeal")
def appeal(
    target: Annotated[str, typer.Argument(help="Id of what the decision is about.")],
    decision: Annotated[str, typer.Argument(help="Id of the decision.")],
    outcome: Annotated[str, typer.Argument(help="upheld or reversed.")],
    statement: Annotated[str, typer.Option(help="The reasons, as both sides are told.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Decide an appeal; not against a decision of this tool's own."""
    ask(data_dir, "sugar-moderate", "POST", f"/moderation/cases/{target}/appeals/{decision}", json={
        "outcome": outcome, "statement": statement,
    })
    console.print(f"the decision is {outcome}", markup=False)
