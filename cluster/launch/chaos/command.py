"""`sugar chaos`: faults one after another under clients that write down what they were told, and then the invariants."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console

from cluster.launch.chaos import money
from cluster.launch.chaos.checker import Held, contradictions
from cluster.launch.chaos.clients import Clients
from cluster.launch.chaos.history import History
from cluster.launch.chaos.platform import ChaosPlatform
from cluster.launch.chaos.schedule import CLOCKS, NEMESES, ON_KAFKA, Step, schedule
from cluster.launch.chaos.trading import Market
from cluster.launch.state import running_settings
from configs.contracts.loading import ACTION_CODES
from configs.settings import load_settings

console = Console(highlight=False)
ACTIONS: Final = {code: action for action, code in ACTION_CODES.items()}
BEFORE_S: Final = 5.0
AFTER_S: Final = 5.0
SHOWN: Final = 20
JUDGED_TIMES: Final = 4
"""What follows from a fact (notifications, a payment's last word) may still be on its way when the log was read."""
AGAIN_S: Final = 5.0
FOUND_S: Final = 10.0
"""How long a process that is not there is waited for: its successor starts within seconds."""
LOOK_S: Final = 0.5


def run(data_dir: Path, *, minutes: float, seed: int, port: int = 0) -> bool:
    """Whether everything held. Prints seed and history, and on failure what did not hold."""
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    history = History(data_dir / f"history-{seed}.jsonl")
    console.print(f"seed {seed}, history {history.path}")
    try:
        problems = asyncio.run(_run(data_dir, minutes * 60, seed, port, history))
    except BaseException:
        console.print(f"[red]the run did not end[/red]: seed {seed}, history {history.path}")
        raise
    finally:
        history.close()
    for problem in problems[:SHOWN]:
        console.print(f"  {problem}", markup=False)
    verdict = f"[red]{len(problems)} problems[/red]" if problems else "every invariant holds"
    console.print(f"{verdict}: seed {seed}, history {history.path}")
    return not problems


async def _run(data_dir: Path, length_s: float, seed: int, port: int, history: History) -> list[str]:
    platform = ChaosPlatform(data_dir, port, seed)
    nemeses = NEMESES + (ON_KAFKA if load_settings("test").broker == "kafka" else ())
    if platform.clocks is not None:
        nemeses += CLOCKS
    else:
        console.print("no C compiler: clocks stay right")
    steps = schedule(seed, length_s, nemeses)
    history.note(seed=seed, length_s=length_s, steps=len(steps))
    market: Market | None = None
    clients = Clients(platform.url, history, seed)
    try:
        environment = await platform.start_proxies()
        await asyncio.to_thread(platform.up, environment)
        await clients.register()
        payments = running_settings(data_dir).payments
        market = Market(payments.stripe_url, payments.stripe_key.get_secret_value())
        await clients.trade(market)
        living = asyncio.create_task(clients.run())
        await asyncio.sleep(BEFORE_S)
        hit = [step for step in steps if await carry_out(step, platform, history)]
        recovered_s = await asyncio.to_thread(platform.wait_well)
        await asyncio.sleep(AFTER_S)
        clients.stop()
        await living
        await asyncio.to_thread(platform.wait_well)
        await asyncio.to_thread(platform.wait_quiet)
        problems = await _judged(platform, clients, market, history)
        _tell(clients, history, hit, missed(steps, hit), recovered_s)
        return problems + never_hit(steps, hit)
    finally:
        await clients.close()
        if market is not None:
            await market.close()
        await platform.down()


async def carry_out(step: Step, platform: ChaosPlatform, history: History) -> bool:
    """Whether it hit anybody; who has just died is given ``FOUND_S`` to come back for it."""
    await asyncio.sleep(step.wait_s)
    named = {"fault": step.nemesis.fault, "component": step.nemesis.component}
    until = time.monotonic() + FOUND_S
    # Servers are started from the main thread: they die with the thread that started them.
    while (pids := platform.begin(step)) is None:
        if time.monotonic() > until:
            history.note(**named, phase="missed")
            console.print(f"{history.now():8.1f} s  {step.nemesis.name} missed: no such process")
            return False
        await asyncio.sleep(LOOK_S)
    history.note(**named, phase="begins", pids=pids)
    moved = f" by {step.clock_s:+.0f} s" if step.nemesis.fault == "clock" else ""
    console.print(f"{history.now():8.1f} s  {step.nemesis.name}{moved} for {step.lasts_s:.1f} s")
    try:
        await asyncio.sleep(step.lasts_s)
    finally:
        platform.end(step, pids)
        history.note(**named, phase="ends")
    return True


def missed(steps: Sequence[Step], hit: Sequence[Step]) -> Counter[str]:
    """How often each fault hit nobody."""
    return Counter(step.nemesis.name for step in steps) - Counter(step.nemesis.name for step in hit)


def never_hit(steps: Sequence[Step], hit: Sequence[Step]) -> list[str]:
    """Kinds of fault that were to come and never hit anybody: the run says nothing of them."""
    ever = {step.nemesis.name for step in hit}
    return [f"{name}: {count} times to come, never hit anybody" for name, count in sorted(missed(steps, hit).items()) if name not in ever]


async def _judged(platform: ChaosPlatform, clients: Clients, market: Market, history: History) -> list[str]:
    problems: list[str] = []
    compared: dict[str, int] = {}
    people = [person.user_id for person in clients.people]
    for attempt in range(JUDGED_TIMES):
        if attempt:
            await asyncio.sleep(AGAIN_S)
        held = await asyncio.to_thread(_held, platform.database_url, people)
        problems = contradictions(history.operations, held)
        books = await asyncio.to_thread(_money, platform.database_url, people, await market.charges())
        problems += money.contradictions(history.operations, books)
        compared = {"rows": len(books.payments), "ledger": len(books.charged), "processor": len(books.processor)}
        differing = await asyncio.to_thread(platform.reconcile)
        problems += [f"reconcile: {differing}"] if differing else []
        if not problems:
            break
    problems += clients.forbidden
    history.note(payments=compared, problems=problems[:SHOWN])
    console.print(f"payments compared: {', '.join(f'{count} in {where}' for where, count in compared.items())}")
    return problems


def _held(url: str, people: list[str]) -> Held:
    with psycopg.connect(url, autocommit=True) as conn:
        def rows(statement: str) -> list[tuple[Any, ...]]:
            return conn.execute(statement.encode(), (people,)).fetchall()

        messages: dict[str, list[tuple[int, str, str]]] = {}
        for conversation, seq, sender, text in rows(
            "SELECT conversation_id::text, seq, sender_id::text, content FROM messages WHERE conversation_id IN "
            "(SELECT match_id FROM matches WHERE member_id = ANY(%s::uuid[])) ORDER BY conversation_id, seq"
        ):
            messages.setdefault(conversation, []).append((seq, sender, text))
        return Held(
            swipes={
                (swiper, swiped): ACTIONS[code] for swiper, swiped, code in rows(
                    "SELECT swiper_id::text, swiped_id::text, action FROM swipes WHERE swiper_id = ANY(%s::uuid[])"
                )
            },
            matches=rows(
                "SELECT member_id::text, other_id::text, match_id::text, status FROM matches WHERE member_id = ANY(%s::uuid[]) "
                "AND matched_at IS NOT NULL"
            ),
            messages=messages,
            notified={
                (user, match): count for user, match, count in rows(
                    "SELECT user_id::text, data ->> 'matchId', count(*) FROM notifications "
                    "WHERE user_id = ANY(%s::uuid[]) AND kind = 'match' GROUP BY 1, 2"
                )
            },
        )


def _money(url: str, people: list[str], processor: dict[str, tuple[str, int]]) -> money.Money:
    with psycopg.connect(url, autocommit=True) as conn:
        def rows(statement: str) -> list[tuple[Any, ...]]:
            return conn.execute(statement.encode(), (people,)).fetchall()

        return money.Money(
            payments=[money.Payment(*row) for row in (
                *rows("SELECT 'tip', from_user_id::text, id::text, message, amount_minor, status, provider_payment_id FROM tips "
                      "WHERE from_user_id = ANY(%s::uuid[])"),
                *rows("SELECT 'buy', buyer_id::text, id::text, post_id::text, amount_minor, status, provider_payment_id "
                      "FROM post_purchases WHERE buyer_id = ANY(%s::uuid[])"),
            )],
            charged=rows(
                "SELECT owner_id::text, payment_id, amount_minor FROM transactions WHERE kind = 'charge' AND owner_id = ANY(%s::uuid[])"
            ),
            unbalanced=[name for (name,) in rows(
                "SELECT transaction_id::text FROM ledger_entries WHERE owner_id = ANY(%s::uuid[]) "
                "GROUP BY owner_id, transaction_id HAVING sum(amount_minor) <> 0"
            )],
            processor=processor,
        )


def _tell(clients: Clients, history: History, hit: Sequence[Step], missing: Counter[str], recovered_s: float) -> None:
    counts = Counter((one.kind, one.outcome) for one in history.operations)
    longest = max((one.answered_s - one.asked_s for one in history.operations), default=0.0)
    faults = Counter(step.nemesis.name for step in hit)
    console.print(f"{len(hit)} faults: {', '.join(f'{count} {name}' for name, count in sorted(faults.items()))}")
    if missing:
        console.print(f"{missing.total()} hit nobody: {', '.join(f'{count} {name}' for name, count in sorted(missing.items()))}")
    console.print(", ".join(f"{kind} {outcome} {count}" for (kind, outcome), count in sorted(counts.items())))
    console.print(
        f"answers {dict(sorted(clients.statuses.items()))}, broken connections {clients.broken}, longest wait {longest:.1f} s, "
        f"well again {recovered_s:.1f} s after the last fault"
    )
