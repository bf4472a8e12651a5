"""`sugar cache`: the read model in Redis, made again from rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.launch.state import running_settings
from writers import rebuild as rebuilding

app = typer.Typer(no_args_is_help=True, help="The read model in Redis.")
console = Console(highlight=False)


@app.command("rebuild")
def rebuild(
    clear: Annotated[
        bool, typer.Option("--clear", help="Forget everything first; the API answers 503 until it is rebuilt.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")
    ] = Path(".sugar"),
) -> None:
    """Write everything that PostgreSQL holds into Redis again; newer facts in Redis stay."""
    settings = running_settings(data_dir)
    if clear:
        console.print(f"forgot {rebuilding.clear(settings)} keys")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks = {"people": progress.add_task("people", total=None)}

        def advance(what: str, done: int, of: int) -> None:
            task = tasks.get(what)
            if task is None:
                task = tasks[what] = progress.add_task(what, total=of)
            progress.update(task, completed=done, total=of)

        facts = rebuilding.rebuild(settings, advance)
    console.print(f"rebuilt: {facts['people']:.0f} people, {facts['operations']:.0f} operations, {facts['seconds']:.1f} s")
