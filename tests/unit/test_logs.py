"""Log lines: JSON that names its trace and never repeats a value that an error quotes."""

from __future__ import annotations

import json
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from cluster.launch import logs
from configs.contracts.errors import ShardUnavailable
from configs.trace_context import current

SECRET = "ada@example.com"


class Strict(BaseModel):
    age: int


@pytest.fixture
def lines() -> Any:
    """What is logged, as it was written."""
    output = StringIO()
    before = structlog.get_config()
    logs._configure("INFO", structlog.processors.JSONRenderer(), output)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    structlog.configure(**before)


def fails(error: type[Exception] | None = None) -> None:
    log = structlog.get_logger()
    try:
        try:
            Strict.model_validate({"age": SECRET})
        except ValueError as invalid:
            if error is None:
                raise
            raise error("no shard answers", shard=3) from invalid
    except Exception:
        log.exception("request_failed")


def test_a_foreign_error_is_logged_by_its_place_and_kind_and_not_by_what_it_quotes(lines: Any) -> None:
    fails()
    [line] = lines()
    assert SECRET not in json.dumps(line)
    assert "ValidationError" in line["exception"]
    assert "in fails" in line["exception"]


def test_an_error_of_ours_says_its_facts_and_its_cause_does_not(lines: Any) -> None:
    fails(ShardUnavailable)
    [line] = lines()
    assert SECRET not in json.dumps(line)
    assert "ShardUnavailable: no shard answers" in line["exception"]
    assert "caused by:" in line["exception"]


def test_what_is_logged_while_a_request_is_traced_names_its_trace(lines: Any) -> None:
    log = structlog.get_logger()
    log.info("untraced")
    token = current.set(f"00-{'ab' * 16}-{'cd' * 8}-01")
    log.info("traced", shard=3)
    current.reset(token)
    untraced, traced = lines()
    assert "trace_id" not in untraced
    assert (traced["trace_id"], traced["span_id"], traced["shard"]) == ("ab" * 16, "cd" * 8, 3)
    assert {"event", "level", "timestamp"} <= set(traced)


def test_a_line_that_cannot_be_written_is_dropped() -> None:
    """A full disk must end no process."""
    with Path("/dev/full").open("w") as full:
        output = logs.Lossy(full)
        for _ in range(3):
            print("a line", file=output, flush=True)  # type: ignore[call-overload]
        with suppress(OSError):
            full.close()
