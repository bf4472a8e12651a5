"""What is still on its way through the log is not counted as a difference."""

from __future__ import annotations

from writers.reconcile import LOOKS, lasting


def test_only_what_is_seen_every_time_lasts() -> None:
    looks = iter([["stays", "goes"], ["stays", "came later"], ["came later", "stays"], ["stays"]])

    assert lasting(lambda: next(looks), pause_s=0.0) == ["stays"]


def test_it_stops_looking_once_nothing_is_left() -> None:
    looks = iter([["goes"], []])

    assert lasting(lambda: next(looks), pause_s=0.0) == []
    assert next(looks, None) is None


def test_it_looks_a_bounded_number_of_times() -> None:
    times: list[int] = []

    def look() -> list[str]:
        times.append(1)
        return ["stays"]

    assert lasting(look, pause_s=0.0) == ["stays"]
    assert len(times) == LOOKS
