"""The throughput measurement works with the statements that the writers use."""

from __future__ import annotations

import pytest

from configs.settings import Settings
from writers.throughput import measure

pytestmark = pytest.mark.servers


def test_a_writer_is_measured_beside_bare_statements_of_the_same_rows(servers: Settings) -> None:
    found = measure(servers, 300)
    assert found.rows == 300
    assert min(found.writer_rows_a_second, found.bare_upsert_rows_a_second, found.bare_insert_rows_a_second) > 0
