"""What rows say that the payment processor still has to do is done there, once, on the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from payments_world import SandboxDriver

from configs.contracts.events import Event, PaymentPartiesChanged, UserErased
from configs.contracts.ids import new_id
from configs.contracts.parties import party
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import open_rows
from writers.records import Fact
from writers.settling_payments import PaymentSettling

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDriver]:
    directory: Path = tmp_path_factory.mktemp("sandbox")
    driver = SandboxDriver(directory)
    yield driver
    driver.stop()


async def test_an_erased_payer_is_forgotten_by_the_processor_and_what_was_paid_stays(
    servers: Settings, sandbox: SandboxDriver
) -> None:
    provider = sandbox.provider()
    pair = await sandbox.pair(provider)
    paid = await provider.pay(pair.pay())
    now, payer = datetime.now(UTC), pair.payer_id
    with open_rows(servers, "settling-test") as conn:
        with conn.transaction(), conn.cursor() as cur:
            write_facts(cur, [
                Fact(Event(new_id(), now, payer, PaymentPartiesChanged(
                    user_id=payer, payment_customer=party("stripe", pair.customer_id)
                )), 1 << 40 | 1, 0),
                Fact(Event(new_id(), now, payer, UserErased(user_id=payer, email_hash=new_id())), 1 << 40 | 2, 0),
            ])
        settling = PaymentSettling(sandbox.settings(servers), "test")
        try:
            await asyncio.to_thread(settling.look)
            assert await asyncio.to_thread(settling.look) == 0, "it is done once"
        finally:
            await asyncio.to_thread(settling.close)
        assert conn.execute("SELECT preferences FROM users WHERE id = %s", (payer,)).fetchone() == ({},)
    assert pair.customer_id not in [item["id"] for item in await sandbox.objects("customer")]
    assert list(await provider.payment_methods(pair.customer_id)) == []
    assert paid.object_id in [item["id"] for item in await sandbox.objects("payment_intent")]
    await provider.close()
