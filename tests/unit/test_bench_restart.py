"""When a killed shard counts as back."""

from __future__ import annotations

from cluster.launch.bench.shard import _Asked, _back


def asked(started: float, ended: float, status: int) -> _Asked:
    return _Asked(started, ended, status, wrong=False)


def test_answers_of_the_dying_process_do_not_end_the_measurement() -> None:
    dying, refused = asked(0.0, 0.01, 200), asked(0.1, 2.1, 503)
    assert _back([dying, refused]) is None
    assert _back([dying, refused, asked(2.0, 3.9, 503), asked(4.0, 4.05, 200), asked(4.1, 4.12, 200)]) == 4.05


def test_a_request_that_waited_for_the_shard_tells_when_it_was_back() -> None:
    assert _back([asked(0.0, 0.01, 200), asked(0.1, 1.7, 200), asked(0.2, 1.75, 200), asked(1.8, 1.82, 200)]) == 1.7
    assert _back([asked(0.0, 0.01, 200), asked(0.1, 0.12, 200)]) == 0.01
    assert _back([]) is None
