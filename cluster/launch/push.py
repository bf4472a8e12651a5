"""`sugar push`: what would have been pushed to platforms without keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from cluster.connections.redis import sync_client
from cluster.launch.state import running_settings
from configs.contracts.errors import DependencyUnavailable


def push(
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=200)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")
    ] = Path(".sugar"),
) -> None:
    """List what was pushed to the outbox, which stands in for platforms without keys."""
    from writers.push.outbox import KEY, Entry

    settings = running_settings(data_dir)
    try:
        with sync_client(settings) as client:
            values = client.lrange(KEY, 0, limit - 1)
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
    entries = [msgspec.json.decode(value, type=Entry) for value in values]
    if as_json:
        for entry in entries:
            typer.echo(msgspec.json.encode(entry).decode())
        return
    console = Console()
    real = settings.push.providers
    console.print(f"with keys: {', '.join(real) or 'none'}; the outbox is {'on' if settings.push.outbox else 'off'}")
    table = Table("at", "person", "platform", "title", "body", "push")
    for entry in entries:
        table.add_row(entry.at, entry.user_id, entry.platform, entry.title, entry.body or "", entry.push_id)
    console.print(table)
