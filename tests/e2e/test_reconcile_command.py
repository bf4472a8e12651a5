"""`sugar reconcile` finds what is wrong, and `--repair` mends it without a restart of anything."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import redis
from running import Platform, eventually, sugar
from test_walk import signed_up

from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from configs.contracts.ids import match_id, partition_of
from configs.contracts.read_model import record_key
from writers.projections.thread import position_key

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

LIKE = "INSERT INTO swipes VALUES (%s, %s, now(), 1, 1, %s, true, NULL)"


def reconciled(platform: Platform, *arguments: str) -> tuple[bool, str]:
    done = sugar("reconcile", *arguments, "--data-dir", str(platform.data_dir), timeout_s=200.0, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def projected(conn: psycopg.Connection[Any], client: redis.Redis) -> bool:
    """Whether the read model is where the rows are, of people's own topics."""
    reached = conn.execute(
        "SELECT topic, partition, generation || ':' || next_offset FROM writer_positions "
        "WHERE consumer = 'rows' AND topic IN ('user.created', 'user.updated') AND next_offset > 0"
    ).fetchall()
    shown: Any = client.mget([position_key((topic, partition)) for topic, partition, _ in reached])
    return [value and value.decode() for value in shown] == [position for _, _, position in reached]


def test_a_lost_key_and_a_missing_match_are_found_and_mended(platform: Platform) -> None:
    platform.wait_well()
    settings = platform.settings
    with platform.client() as api:
        (ada, as_ada), (ben, as_ben), (eve, as_eve) = (signed_up(api, role) for role in ("sugar_baby", "sugar_daddy", "sugar_baby"))
        with connect(settings, "test") as conn:
            stored = "SELECT count(*) FROM users WHERE id = ANY(%s) AND role IS NOT NULL"
            eventually(lambda: conn.execute(stored, ([ada, ben, eve],)).fetchone() == (3,), 60.0)
            swiped = "SELECT action FROM swipes WHERE swiper_id = %s AND swiped_id = %s"
            assert api.post("/matching/swipe", json={"targetUserId": ada, "action": "pass"}, headers=as_eve).status_code == 200
            eventually(lambda: conn.execute(swiped, (eve, ada)).fetchone(), 60.0)
            with sync_client(settings) as client:
                # The read model has them too: nothing on its way puts back what is taken out below.
                eventually(lambda: projected(conn, client), 60.0)
                assert client.delete(record_key(eve)) == 1
            # No shard has asked for the rows of these two yet: both likes are stored, and the match was forgotten.
            for liker, liked in ((ada, ben), (ben, ada)):
                conn.execute(LIKE, (liker, liked, partition_of(liker, settings.log.partitions)))
            # And one who has swiped says so, while the rows do not.
            conn.execute("UPDATE swipes SET action = 0 WHERE swiper_id = %s AND swiped_id = %s", (eve, ada))
        agrees, shown = reconciled(platform)
        assert not agrees
        assert eve in shown
        assert ada in shown
        assert f"kind='shard', user_id='{eve}'" in shown.replace("\n", "")

        with connect(settings, "test") as conn:
            conn.execute("UPDATE swipes SET action = 2 WHERE swiper_id = %s AND swiped_id = %s", (eve, ada))
        mended, shown = reconciled(platform, "--repair")
        assert mended, shown
        eventually(lambda: reconciled(platform)[0], 240.0, every_s=1.0)
        for who, other in ((as_ada, ben), (as_ben, ada)):
            def listed(who: dict[str, str] = who) -> list[dict[str, object]]:
                return list(api.get("/matching/matches", headers=who).json()["matches"])

            [match] = eventually(listed, 30.0)
            assert match["matchId"] == match_id(ada, ben)
            assert match["user"]["userId"] == other
        assert api.get(f"/users/profile/{eve}", headers=as_ada).status_code == 200
