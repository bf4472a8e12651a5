"""What an operator's changes are decided by: every deploy, rollback and experiment, however many refreshes came after."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from cluster.launch.ranking.operating import RankingOperator, Reason
from configs.contracts.ids import new_id
from configs.contracts.ranking import Arm, ConfigurationRefused, Experiment, RankingConfiguration
from configs.settings import Settings
from writers.connections import open_rows

pytestmark = pytest.mark.servers

SPRING = Experiment("spring-before-many-refreshes", "user", (Arm("a", "m1", 0.5), Arm("b", "m2", 0.5)))


class Deciding(RankingOperator):
    """Decides as the operator does and sends nothing: there is no writer here that would store it."""

    def change(self, changed: Callable[[RankingConfiguration], RankingConfiguration], reason: Reason) -> RankingConfiguration:
        return changed(self.configuration())


@pytest.fixture
def operator(servers: Settings) -> Iterator[Deciding]:
    """Two deploys and an experiment that ended, then a hundred and fifty refreshes."""
    with open_rows(servers, "test") as conn:
        (before,) = conn.execute("SELECT coalesce(max(number), 0) FROM ranking_configurations").fetchone() or (0,)
        changes = [("deploy", "m1", None), ("deploy", "m2", None), ("experiment", "m2", SPRING), ("experiment", "m2", None)]
        changes += [("refresh", "m2", None)] * 150
        for number, (reason, version, experiment) in enumerate(changes, before + 1):
            document = msgspec.json.encode(RankingConfiguration(number, version, experiment)).decode()
            conn.execute(
                "INSERT INTO ranking_configurations (number, document, event_id, reason, configured_at, version)"
                " VALUES (%s, %s, %s, %s, now(), 1)", (number, document, new_id(), reason),
            )
    yield Deciding(servers)
    with open_rows(servers, "test") as conn:
        conn.execute("DELETE FROM ranking_configurations WHERE number > %s", (before,))


def test_a_rollback_leads_to_the_deploy_before_however_long_ago(operator: Deciding) -> None:
    assert operator.configuration().default_version == "m2"
    assert operator.rollback().default_version == "m1"


def test_a_name_that_has_named_an_experiment_names_no_other(operator: Deciding) -> None:
    with pytest.raises(ConfigurationRefused, match="another name"):
        operator.start_experiment(SPRING)
    again = msgspec.structs.replace(SPRING, name="summer")
    assert operator.start_experiment(again).experiment == again


def test_an_experiment_of_long_ago_can_be_reported(operator: Deciding) -> None:
    assert operator.experiments()[SPRING.name] == SPRING
    assert list(operator.experiments())[-1] == SPRING.name
    assert [past.reason for past in operator.history(3)] == ["refresh"] * 3
