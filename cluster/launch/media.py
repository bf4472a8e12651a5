"""`sugar media`: block lists of perceptual hashes, and what was found on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from cluster.connections.postgres import translated
from cluster.launch.state import running_settings
from writers.connections import open_rows
from writers.media.block_lists import add, counts, matches, remove

app = typer.Typer(no_args_is_help=True, help="Block lists of media, and what was found on them.")
console = Console(highlight=False)
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")]
DEFAULT = Path(".sugar")
HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
AT_ONCE: Final = 10_000


def hashes_of(text: str) -> list[str]:
    """The first PDQ hash (64 hex digits) of each line that has one; lists come as plain lines, CSV and the like."""
    return [found.group().lower() for line in text.splitlines() if (found := HASH.search(line)) is not None]


@app.command("block")
def block(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PDQ hash (64 hex digits) a line.")],
    name: Annotated[str, typer.Option("--list", help="Which list; on `csam` matches are preserved and go past the ordinary queue.")],
    data_dir: DataDir = DEFAULT,
) -> None:
    """Put hashes on a block list; uploads are compared with it from the next one on."""
    if not NAME.fullmatch(name):
        raise typer.BadParameter("a list's name has small letters, digits, - and _")
    found = hashes_of(file.read_text(errors="replace"))
    if not found:
        raise typer.BadParameter("there is no PDQ hash in this file")
    with open_rows(running_settings(data_dir), "media") as conn, translated():
        new = sum(add(conn, name, file.name, found[start : start + AT_ONCE]) for start in range(0, len(found), AT_ONCE))
    console.print(f"{new} hashes are new on {name}, {len(found) - new} were there")


@app.command("unblock")
def unblock(
    name: Annotated[str, typer.Option("--list", help="Which list.")],
    source: Annotated[str, typer.Option(help="The file, or the media, that the hashes came from.")],
    data_dir: DataDir = DEFAULT,
) -> None:
    """Take what came from one source off a block list."""
    with open_rows(running_settings(data_dir), "media") as conn, translated():
        console.print(f"{remove(conn, name, source)} hashes are gone from {name}")


@app.command("lists")
def lists(data_dir: DataDir = DEFAULT) -> None:
    """The block lists, and how many media were found on each."""
    with open_rows(running_settings(data_dir), "media") as conn, translated():
        found = counts(conn)
    table = Table("list", "hashes", "media found")
    for name, hashes, media in found:
        table.add_row(name, str(hashes), str(media))
    console.print(table if found else "no block lists")


@app.command("matches")
def show_matches(
    name: Annotated[str, typer.Option("--list", help="Which list.")] = "csam",
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Media that were found on a list, newest first, and where the evidence is kept."""
    with open_rows(running_settings(data_dir), "media") as conn, translated():
        found = matches(conn, name, limit)
    table = Table("media", "owner", "uploaded at", "distance", "kept as")
    for row in found:
        table.add_row(
            row.record.media_id, row.record.owner_id, f"{row.requested_at:%Y-%m-%d %H:%M:%S}", str(row.distance),
            f"preserved/{row.record.media_id}" if row.preserved else "",
        )
    console.print(table if found else "nothing was found")
