"""`sugar reconcile`: PostgreSQL against Redis, shard memory and itself; differences are shown and, if asked, mended.

Runs as ``python -m cluster.launch.reconcile DATA_DIR [repair] [json]`` under the platform's Ray environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from actors.messages.client import ConversationsClient
from actors.messages.commands import Member, NoConversation
from actors.sharding.client import ActorPool
from actors.swipes.client import SwipesClient
from actors.swipes.commands import SeenKeys
from actors.swipes.person import ACTIVE
from cluster.launch.state import running_settings
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import NAMESPACE
from configs.settings import Settings
from writers.reconcile import Report
from writers.reconcile import reconcile as compare

console = Console(highlight=False)
SHOWN = 20


class Shards:
    """The shards of the running platform, asked from an event loop of their own."""

    def __init__(self, settings: Settings) -> None:
        try:
            ray.init(address=settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            raise DependencyUnavailable("Ray does not answer; see `sugar status`") from error
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="shards", daemon=True).start()
        pool = ActorPool(settings)
        self._client, self._conversations = SwipesClient(pool), ConversationsClient(pool)

    def facts(self, user_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Whom each person has seen, as their shard knows it; people whose shard does not answer are missing."""
        return asyncio.run_coroutine_threadsafe(self._facts(user_ids), self._loop).result()

    async def _facts(self, user_ids: Sequence[str]) -> Mapping[str, bytes]:
        answers = await asyncio.gather(*(self._client.seen_set(user) for user in user_ids), return_exceptions=True)
        return {user: answer.keys for user, answer in zip(user_ids, answers, strict=True) if isinstance(answer, SeenKeys)}

    def newest(self, members: Mapping[str, str]) -> Mapping[str, int | None]:
        """Conversation -> number of its newest message, None where its shard knows it no more; those whose shard does not answer
        are missing."""
        return asyncio.run_coroutine_threadsafe(self._newest(members), self._loop).result()

    async def _newest(self, members: Mapping[str, str]) -> Mapping[str, int | None]:
        answers = await asyncio.gather(*(self._conversations.look(*item) for item in members.items()), return_exceptions=True)
        return {
            name: answer.last_seq if isinstance(answer, Member) else None
            for name, answer in zip(members, answers, strict=True) if isinstance(answer, Member | NoConversation)
        }

    def match(self, low: str, high: str) -> bool:
        """Lets the pair's authority judge by what both sides say now: nobody's swipe is recorded again."""
        try:
            verdict = asyncio.run_coroutine_threadsafe(self._client.judge(low, high), self._loop).result()
        except PlatformError:
            return False
        return verdict.code == ACTIVE

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        ray.shutdown()


def reconcile(data_dir: Path, *, repair: bool, as_json: bool) -> bool:
    """Compares, prints, mends if asked; whether nothing is left that differs."""
    settings = running_settings(data_dir)
    shards = Shards(settings)
    try:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=as_json) as progress:
            task = progress.add_task("people compared", total=None)
            report = compare(
                settings, repair=repair, facts=shards.facts, newest=shards.newest,
                progress=lambda _, done, of: progress.update(task, completed=done, total=of),
            )
        matched = [pair for pair in report.missing_matches if shards.match(*pair)] if repair else []
    finally:
        shards.close()
    left = [pair for pair in report.missing_matches if pair not in matched]
    if as_json:
        print(json.dumps(asdict(report) | {"matched": matched}, default=str, indent=1))
    else:
        _show(report, matched)
    return not (report.differences or report.inconsistencies or left)


def _show(report: Report, matched: Sequence[tuple[str, str]]) -> None:
    console.print(f"{report.people} people compared, {report.repaired} mended, {len(matched)} missing matches made")
    if any(report.counts.values()):
        table = Table("finding", "count")
        for name, count in sorted((name, count) for name, count in report.counts.items() if count):
            table.add_row(name, str(count))
        console.print(table)
    for finding in [*report.differences, *report.inconsistencies][:SHOWN]:
        console.print(f"  {finding}", markup=False)
    if report.agrees:
        console.print("PostgreSQL, Redis and the shards agree; every transaction in the ledger balances")


def main() -> None:
    try:
        agrees = reconcile(Path(sys.argv[1]), repair="repair" in sys.argv[2:], as_json="json" in sys.argv[2:])
    except PlatformError as error:
        sys.exit(str(error))
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
