"""Commands that the documents give run as they stand: they exist, and no option is unknown or missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import typer
from typer._click.exceptions import UsageError  # has no public name
from typer.core import TyperGroup

from cluster.launch.cli import app

ROOT = Path(__file__).parents[2]
RUNBOOK = "docs/runbook.md"
DOCUMENTS = ("README.md", "notebooks/README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
SUGAR = typer.main.get_command(app)
COMMAND = re.compile(r"(?:(?<=^)|(?<= ))(?<!-n )(?<!namespace )sugar (?!-n)(?P<words>[a-z][^|&#;]*)")
"""After whatever stands before it: variables, `head`, `docker compose exec platform`; not kubectl's namespace."""
CHOSEN_BY: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {("dlq", "replay"): ("letter_ids", "topic", "everything")}
"""Commands that want one of these, which no option alone can say."""


def given(document: str) -> Iterator[tuple[str, bool]]:
    """(what stands after `sugar`, whether it is to be run): elsewhere than in a block and the run book a bare name is a name."""
    text = (ROOT / document).read_text()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield from ((found["words"].strip(), True) for found in COMMAND.finditer(line))
    for span in re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)):
        for found in COMMAND.finditer(" ".join(span.split())):
            yield found["words"].strip(), document == RUNBOOK


COMMANDS = sorted({(document, words, run) for document in DOCUMENTS for words, run in given(document) if not re.search(r"[\[…]", words)})


def parse(words: list[str], *, run: bool) -> None:
    """Raises UsageError: the command line would be refused. A group's name alone stands for its commands."""
    command, path = SUGAR, []
    while isinstance(command, TyperGroup) and words:
        word, *words = words
        if word not in command.commands:
            raise UsageError(f"no such command: {word}")
        command = command.commands[word]
        path.append(word)
    if isinstance(command, TyperGroup) or not (words or run):
        return
    # Placeholders: what somebody puts there is of the right type.
    context = command.make_context(path[-1], [re.sub(r"^[A-Z]+$", "1", word) for word in words])
    chosen = CHOSEN_BY.get(tuple(path), ())
    if chosen and not any(context.params[name] for name in chosen):
        raise UsageError(f"one of {', '.join(chosen)}")


@pytest.mark.parametrize(("document", "words", "run"), COMMANDS)
def test_a_command_in_the_documents_is_taken_as_it_stands(document: str, words: str, run: bool) -> None:
    try:
        parse(shlex.split(words), run=run)
    except UsageError as error:
        pytest.fail(f"{document}: sugar {words}: {error.format_message()}")


@pytest.mark.parametrize("words", ["chaos --minutes 5", "ranking train", "dlq replay", "dlq repaly 1", "up --prot 1", "ranking deploy"])
def test_a_command_that_would_be_refused_is_found(words: str) -> None:
    with pytest.raises(UsageError):
        parse(words.split(), run=True)


def test_commands_are_found_wherever_they_stand() -> None:
    assert len(COMMANDS) > 100
    for known in (("docs/operations.md", "reconcile", True), (RUNBOOK, "cluster status", True), ("docs/design.md", "chaos --minutes M --seed S --data-dir DIR", False)):
        assert known in COMMANDS
