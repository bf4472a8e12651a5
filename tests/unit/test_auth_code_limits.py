"""How many second-factor codes are tried: few a minute, and few enough a day that guessing takes years."""

from __future__ import annotations

from typing import Any

import pytest

from configs.settings import load_settings
from serve_apps.auth.second_factor import limit_codes
from serve_apps.limits import Rate
from serve_apps.problems import Refused


class Taken:
    """Limits that count, and refuse by name."""

    def __init__(self, used_up: str = "") -> None:
        self.used_up = used_up
        self.rates: list[tuple[Rate, str]] = []

    async def take(self, *uses: tuple[Rate, str]) -> None:
        self.rates += uses
        if any(rate.name == self.used_up for rate, _ in uses):
            raise Refused("too_many_requests", retry_after_s=1)


class Fakes:
    def __init__(self, limits: Taken) -> None:
        self.settings = load_settings("local")
        self.limits = limits


async def tried(limits: Taken) -> list[Rate]:
    dependencies: Any = Fakes(limits)
    await limit_codes(dependencies, "address")
    assert {key for _, key in limits.rates} == {"address"}
    return [rate for rate, _ in limits.rates]


async def test_a_day_has_few_tries() -> None:
    """7,200 a day, which 5 a minute are, find one of 333,333 codes within weeks."""
    rates = await tried(Taken())
    assert max(rate.per_s for rate in rates) == 86_400
    assert min(rate.count / rate.per_s for rate in rates) * 86_400 * 3 / 1_000_000 < 0.0002


async def test_a_try_that_came_too_soon_takes_nothing_from_the_day() -> None:
    limits = Taken("second-factor")
    with pytest.raises(Refused):
        await tried(limits)
    assert [rate.per_s for rate, _ in limits.rates] == [60]
