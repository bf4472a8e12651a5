"""What the runtime says about the platform, every second, in ``run/report.json``: for the supervisor and `status`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

READY = "ready"


class ActorReport(BaseModel):
    """One named actor as the keeper last saw it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    answers: bool = Field(False, description="whether the last probe was answered in time")
    ready: bool = False
    pid: int = 0
    restarts: int = Field(0, description="how often another process took its place, for whatever reason, since the runtime runs")
    replaced: int = Field(0, description="how often the keeper replaced it because it did not answer")
    silent_s: float = Field(0.0, description="seconds since its last answer")
    figures: dict[str, Any] = Field(default_factory=dict, description="what it said about itself")


class ReplicaReport(BaseModel):
    """One Serve replica."""

    model_config = ConfigDict(extra="ignore")

    deployment: str
    replica: str
    state: str
    pid: int = 0


class Report(BaseModel):
    """The whole platform at one moment."""

    model_config = ConfigDict(extra="ignore")

    runtime_pid: int = 0
    at_s: float = Field(0.0, description="Unix seconds")
    ready: bool = False
    step: str = ""
    actors: list[ActorReport] = []
    replicas: list[ReplicaReport] = []
    api: str = Field("starting", description="'ready', or why /ready is not 200")
    lag: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="consumer -> topic -> records appended and not yet consumed"
    )
    lag_at_s: float = Field(0.0, description="Unix seconds when the lag was read")
    dead_letters: dict[str, int] = Field(default_factory=dict, description="topic -> dead letters that wait")
    moderation: dict[str, int] = Field(default_factory=dict, description="reports and appeals: waiting, and overdue")
    by_hand: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="payouts that staff makes, refunds that came back: waiting, and since when the oldest (oldest_s)"
    )
    exposure_gini: dict[str, float] = Field(default_factory=dict, description="model -> inequality of exposure, 0 to 1")

    @property
    def behind(self) -> int:
        """Records that any consumer has yet to take in."""
        return sum(records for topics in self.lag.values() for records in topics.values())


def report_path(data_dir: Path) -> Path:
    return data_dir.resolve() / "run" / "report.json"


def read_report(data_dir: Path, runtime_pid: int | None = None) -> Report | None:
    """The last report; None where there is none, or none of that runtime."""
    try:
        report = Report.model_validate(json.loads(report_path(data_dir).read_text()))
    except (OSError, ValueError):
        return None
    return report if runtime_pid is None or report.runtime_pid == runtime_pid else None


def write_report(data_dir: Path, report: Report) -> None:
    """Replaces the report; readers see the old one or the new, and a crash may lose it."""
    path = report_path(data_dir)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(report.model_dump_json())
    fresh.replace(path)
