"""One swipe is one trace: from HTTP through the shard and the log into rows, as a collector gets it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from otlp_collector import Collected, Collector, collecting, tree, whole
from pydantic import SecretStr
from safety_world import HERE, SafetyWorld, until

from cluster.connections.spans import Spans
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.settings import Tracing, load_settings

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@dataclass
class Traced:
    world: SafetyWorld
    collector: Collector


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """API, shards, writer and rows whose spans go to a collector."""
    with collecting() as collector:
        settings = with_keys(load_settings("test", data_dir=tmp_path_factory.mktemp("traced")))
        tracing = Tracing(endpoint=collector.url, authorization=SecretStr("Bearer t"), requests_a_second=20)
        servers = EmbeddedServers(settings.model_copy(update={"tracing": tracing, "trace_sample_ratio": 0.0}))
        await asyncio.to_thread(servers.start)
        world = await SafetyWorld.start(servers)
        yield Traced(world, collector)
        await world.close()
        await asyncio.to_thread(servers.stop)


async def test_the_spans_of_one_swipe_form_one_tree_from_the_request_to_its_rows(traced: Traced) -> None:
    world, collector = traced.world.here, traced.collector
    ada, ben = await world.register(at=HERE), await world.register("sugar_daddy", at=HERE)
    assert collector.spans == [], "what is not sampled makes no span"
    trace, unsampled, refused, caller = (*(secrets.token_hex(16) for _ in range(3)), secrets.token_hex(8))
    await ada.ok("GET", "/users/me", headers={"traceparent": f"00-{unsampled}-{caller}-00"})
    answer = await world.client.get("/api/v1/users/me", headers={"traceparent": f"00-{refused}-{caller}-01"})
    assert answer.status_code == 401
    await ada.swipe(ben, headers={"traceparent": f"00-{trace}-{caller}-01"})

    def complete() -> list[Collected] | None:
        spans = collector.of(trace)
        return spans if whole(spans, caller) and "rows matching.swipe" in {span.name for span in spans} else None

    found = await until(complete)
    assert tree(found, caller) == {
        "": ["swipe"], "swipe": ["swipes.swipe"], "swipes.swipe": ["append matching.swipe"],
        "append matching.swipe": sorted(span.name for span in found if span.name.endswith(" matching.swipe") and span.name[:6] != "append"),
    }
    by_name = {span.name: span for span in found}
    request, rows = by_name["swipe"], by_name["rows matching.swipe"]
    assert request.attributes == {"http.request.method": "POST", "http.response.status_code": 200}
    assert (request.instance, rows.instance) == ("api", "writer-0")
    assert request.start_ns <= by_name["swipes.swipe"].start_ns <= by_name["append matching.swipe"].start_ns
    assert by_name["append matching.swipe"].end_ns <= by_name["swipes.swipe"].end_ns <= request.end_ns
    assert not any(span.failed for span in found)
    people = {ada.user_id, ben.user_id, ada.email, ben.email}
    assert not people & {str(value) for span in found for value in (span.name, *span.attributes.values())}
    assert set(collector.authorizations) == {"Bearer t"}
    assert collector.of(unsampled) == [], "the caller does not sample"
    [span] = collector.of(refused)
    assert span.attributes["http.response.status_code"] == 401
    assert not span.failed, "refused is no error"


async def test_clients_that_ask_for_traces_get_a_bounded_number_in_a_second(traced: Traced) -> None:
    spans: Spans | None = traced.world.here.dependencies.spans
    assert spans is not None
    admitted = sum(spans.admits() for _ in range(1_000))
    assert admitted <= 2 * 20, "at most two seconds' worth"
    await until(spans.admits)  # in the next second there is room again, for other tests too
