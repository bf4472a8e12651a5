"""`sugar reconcile` finds what is wrong, and `--repair` mends it without a restart of anything."""

from __future__ import annotations

import httpx
import pytest
from running import Platform, eventually, sugar
from test_walk import signed_up

from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from configs.contracts.ids import match_id, partition_of
from configs.contracts.read_model import record_key

pytestmark = [pytest.mark.platform, pytest.mark.timeout(500)]

LIKE = "INSERT INTO swipes VALUES (%s, %s, now(), 1, 1, %s, true, NULL)"


def reconciled(platform: Platform, *arguments: str) -> tuple[bool, str]:
    done = sugar("reconcile", *arguments, "--data-dir", str(platform.data_dir), timeout_s=120.0, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def test_a_lost_key_and_a_missing_match_are_found_and_mended(platform: Platform) -> None:
    platform.wait_well()
    settings = platform.settings
    with httpx.Client(base_url=platform.url + "/api/v1", timeout=15.0) as api:
        (ada, as_ada), (ben, as_ben), (eve, _) = (signed_up(api, role) for role in ("sugar_baby", "sugar_daddy", "sugar_baby"))
        with connect(settings, "test") as conn:
            stored = "SELECT count(*) FROM users WHERE id = ANY(%s) AND role IS NOT NULL"
            eventually(lambda: conn.execute(stored, ([ada, ben, eve],)).fetchone() == (3,), 60.0)
            # The read model has them too: nothing on its way puts back what is taken out below.
            eventually(lambda: reconciled(platform)[0], 60.0, every_s=1.0)
            with sync_client(settings) as client:
                assert client.delete(record_key(eve)) == 1
            # No shard has asked for the rows of these two yet: both likes are stored, and the match was forgotten.
            for liker, liked in ((ada, ben), (ben, ada)):
                conn.execute(LIKE, (liker, liked, partition_of(liker, settings.log.partitions)))
        agrees, shown = reconciled(platform)
        assert not agrees
        assert eve in shown
        assert ada in shown

        mended, shown = reconciled(platform, "--repair")
        assert mended, shown
        eventually(lambda: reconciled(platform)[0], 120.0, every_s=1.0)
        for who, other in ((as_ada, ben), (as_ben, ada)):
            def listed(who: dict[str, str] = who) -> list[dict[str, object]]:
                return list(api.get("/matching/matches", headers=who).json()["matches"])

            [match] = eventually(listed, 30.0)
            assert match["matchId"] == match_id(ada, ben)
            assert match["user"]["userId"] == other
        assert api.get(f"/users/profile/{eve}", headers=as_ada).status_code == 200
