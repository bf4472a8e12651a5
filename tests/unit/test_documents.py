"""What the documents name exists: commands, which run as they stand, their options, variables, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import typer
from pydantic import BaseModel
from typer._click.exceptions import UsageError  # has no public name
from typer.core import TyperGroup

from cluster.launch.cli import app
from configs.settings import SETTINGS_VARIABLE, Settings

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


SETTING = re.compile(r"\b(?:SUGAR_[A-Z0-9]\w*|(?:DATABASE|REDIS|SMTP)_\w*URLS?|KAFKA_BROKERS)\b")
OTHER_VARIABLES: Final = frozenset({"SUGAR_SPEED_DATING", "SUGAR_URL", "SUGAR_NOTEBOOK_RAY", "SUGAR_NOTEBOOK_SIZE", SETTINGS_VARIABLE})
"""Of the notebooks, which read them themselves, and the file that holds all settings of a running platform."""
NAMED_FILE = re.compile(r"[\w.-]+(?:/[\w.*-]+)*/?")
OWN = ("actors", "cluster", "configs", "docs", "notebooks", "recommender", "serve_apps", "tests", "writers", "pyproject.toml", "Makefile")
MADE: Final = frozenset({"cluster/deploy/backups", "cluster/deploy/backups/wal", "cluster/deploy/secrets", "cluster/deploy/platform.env"})
"""By whoever deploys."""


def variables(model: type[BaseModel] = Settings, prefix: str = "SUGAR_") -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = str(field.validation_alias or f"{prefix}{name.upper()}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{variable}__")
        else:
            yield variable


VARIABLES = frozenset(variables())


def unknown_variables(text: str) -> set[str]:
    """Those that no process reads; of one cut off by `…` at either end nothing has the rest."""
    # A secret may come from a file, and a group alone stands for what is in it.
    found = {name.removesuffix("_FILE") for name in SETTING.findall(text)} - OTHER_VARIABLES - {"SUGAR_PROFILE"}
    whole = {name for name in found if name not in VARIABLES and not (name.endswith("__") and any(known.startswith(name) for known in VARIABLES))}
    return whole | {rest for rest in re.findall(r"…(_*[A-Z][A-Z0-9_]{3,})\b", text) if not any(known.endswith(rest) for known in VARIABLES)}


def missing_files(text: str) -> set[str]:
    """Paths of this repository in code spans and blocks that name nothing in it."""
    fences = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", fences.sub("", text)) + fences.findall(text)
    words = {word for span in spans for word in NAMED_FILE.findall(span) if word.split("/")[0] in OWN and "/" in word}
    return {word for word in words if word.rstrip("/") not in MADE and not any(ROOT.glob(word.rstrip("/")))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_variables_and_files_in_the_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    assert not unknown_variables(text)
    assert not missing_files(text)


def test_a_variable_and_a_file_that_do_not_exist_are_found() -> None:
    assert unknown_variables("`SUGAR_PLAN__SWIPE_ACTRS=8`, `SUGAR_AUTH__REFRESH_KEY`, `…REFRESH_KEYS`, `SUGAR_PLAN__…`") == {"SUGAR_PLAN__SWIPE_ACTRS", "REFRESH_KEYS"}
    assert missing_files("`actors/messages/standing.py`, `actors/messages/`, `tests/unit/test_deploy_*.py`, `docs/runbook.md`") == {"actors/messages/standing.py"}


def test_every_command_and_every_group_of_settings_is_named_where_people_look() -> None:
    readme = (ROOT / "README.md").read_text()
    text = "".join((ROOT / document).read_text() for document in DOCUMENTS)
    assert isinstance(SUGAR, TyperGroup)
    commands = {name for name in SUGAR.commands if not re.search(rf"`(?:sugar )?{name}\b", readme)}
    groups = {variable.partition("__")[0] for variable in VARIABLES if "__" in variable}
    unnamed = {group for group in groups if f"{group}__" not in text and f"`{group.removeprefix('SUGAR_').lower()}." not in text}
    assert commands | unnamed == set()
