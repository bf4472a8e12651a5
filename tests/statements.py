"""Every statement of the writers that changes rows or locks them, taken from their source."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Final

import writers

CHANGES: Final = re.compile(r"^\s*(INSERT INTO|UPDATE|DELETE FROM|MERGE|WITH)\s", re.I)
LOCKS: Final = re.compile(r"\bFOR (UPDATE|SHARE|NO KEY UPDATE)\b")
PARAMETER: Final = re.compile(r"%\((\w+)\)s|%s")


def statements() -> dict[str, str]:
    """Where -> statement in the server's own syntax: constants as modules hold them, the others as they are written."""
    found: dict[str, str] = {}
    for info in pkgutil.walk_packages(writers.__path__, "writers."):
        module = importlib.import_module(info.name)
        constants = {name: value for name, value in vars(module).items() if isinstance(value, str)}
        for name, value in constants.items():
            if concerns(value):
                found[f"{info.name}.{name}"] = value
        held = " ".join(constants.values())
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            else:
                continue
            if concerns(text) and text not in held:
                found[f"{info.name}:{node.lineno}"] = text
    return {where: numbered(text) for where, text in found.items()}


def concerns(text: str) -> bool:
    return bool(CHANGES.match(text) or (LOCKS.search(text) and "SELECT" in text))


def numbered(text: str) -> str:
    """psycopg's parameters as $1, $2, …"""
    count = iter(range(1, 10_000))
    return PARAMETER.sub(lambda _: f"${next(count)}", text).replace("%%", "%")
