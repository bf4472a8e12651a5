"""`sugar dlq`: what could not be applied, and applying it again after a fix."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.launch.state import running_settings
from configs.contracts.topics import BY_NAME
from writers import dead_letters, replay

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not be applied.")
console = Console(highlight=False)
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")]
DEFAULT_DATA_DIR = Path(".sugar")
SHOWN_VALUE = 4_096
REPLAYED_AT_ONCE = 100
"""Dead letters whose results are shown together."""


@app.command("list")
def list_letters(
    topic: Annotated[str, typer.Option(help="Only this topic.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Newest first, without their content."""
    _known(topic)
    letters = dead_letters.list_letters(running_settings(data_dir), topic=topic or None, replayed=everything, limit=limit)
    table = Table("id", "topic", "partition", "offset", "failed at", "why", "replayed at")
    for letter in letters:
        table.add_row(
            str(letter.id), letter.topic, str(letter.partition), f"{letter.generation}:{letter.offset}",
            f"{letter.failed_at:%Y-%m-%d %H:%M:%S}", letter.replay_error or letter.error,
            f"{letter.replayed_at:%Y-%m-%d %H:%M:%S}" if letter.replayed_at else "",
        )
    console.print(table if letters else "no dead letters")


@app.command("show")
def show(
    letter_id: Annotated[int, typer.Argument(metavar="ID", help="As `sugar dlq list` shows it.")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the value of a restricted topic too.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """One dead letter with its original bytes; what is no text is printed as base64."""
    letter = dead_letters.show_letter(running_settings(data_dir), letter_id)
    if letter is None:
        console.print(f"there is no dead letter {letter_id}")
        raise typer.Exit(1)
    console.print(f"{letter.topic}, partition {letter.partition}, position {letter.generation}:{letter.offset}", markup=False)
    console.print(f"why: {letter.error}", markup=False)
    if letter.replay_error:
        console.print(f"why the last replay failed: {letter.replay_error}", markup=False)
    for name, value in letter.headers:
        console.print(f"header {name}: {_text(value)}", markup=False)
    hidden = letter.restricted and not reveal
    console.print(f"key: {'hidden, see --reveal' if hidden else _text(letter.key)}", markup=False)
    console.out(f"value: {'hidden, see --reveal' if hidden else _text(letter.value)}", highlight=False)


@app.command("replay")
def replay_letters(
    letter_ids: Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Which; or --topic or --all.")] = None,
    topic: Annotated[str, typer.Option(help="All that wait on this topic.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Apply dead letters again, oldest first. Exit code 1 when one still fails."""
    _known(topic)
    if not (letter_ids or topic or everything):
        raise typer.BadParameter("name dead letters by id, or give --topic or --all")
    settings = running_settings(data_dir)
    chosen = list(letter_ids or ())
    if topic or everything:
        chosen += dead_letters.waiting(settings, topic or None)
    failed = 0
    for start in range(0, len(chosen), REPLAYED_AT_ONCE):
        for result in replay.replay(settings, chosen[start : start + REPLAYED_AT_ONCE]):
            console.print(f"{result.id}: {result.error or 'applied'}", markup=False)
            failed += bool(result.error)
    if not chosen:
        console.print("no dead letters wait")
    if failed:
        raise typer.Exit(1)


def _known(topic: str) -> None:
    if topic and topic not in BY_NAME:
        raise typer.BadParameter(f"no such topic; there are {', '.join(BY_NAME)}")


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "base64 " + base64.b64encode(value).decode()
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}… ({len(value)} bytes)"
