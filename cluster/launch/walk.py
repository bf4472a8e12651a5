"""What `sugar up` prints when everything answers: addresses, and a walk from registration to two people talking."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actors.realtime.actor import url_of
from configs.settings import Settings

WALK = r"""
API={url}/api/v1
field() {{ python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }}
register() {{ curl -s -X POST "$API/auth/register" -H 'Content-Type: application/json' -d "{{\"email\": \"$1-$$@example.com\",
  \"password\": \"correct horse battery\", \"role\": \"$2\", \"displayName\": \"$1\", \"birthDate\": \"1994-05-17\"}}"; }}
locate() {{ curl -s -X PUT "$API/users/me/location" -H "Authorization: Bearer $1" -H 'Content-Type: application/json' \
  -d '{{"latitude": 52.52, "longitude": 13.405}}'; echo; }}
like() {{ curl -s -X POST "$API/matching/swipe" -H "Authorization: Bearer $1" -H 'Content-Type: application/json' \
  -d "{{\"targetUserId\": \"$2\", \"action\": \"like\"}}"; echo; }}

ADA=$(register Ada sugar_baby); ADA_ID=$(echo "$ADA" | field "['userId']"); ADA_TOKEN=$(echo "$ADA" | field "['accessToken']")
BEN=$(register Ben sugar_daddy); BEN_ID=$(echo "$BEN" | field "['userId']"); BEN_TOKEN=$(echo "$BEN" | field "['accessToken']")
locate "$ADA_TOKEN"; locate "$BEN_TOKEN"
curl -s "$API/matching/cards?limit=3" -H "Authorization: Bearer $ADA_TOKEN"; echo
like "$ADA_TOKEN" "$BEN_ID"
like "$BEN_TOKEN" "$ADA_ID"
curl -s "$API/matching/matches" -H "Authorization: Bearer $ADA_TOKEN"; echo
for NAME in Ada Ben; do echo "SUGAR_CHAT_PASSWORD='correct horse battery' {sugar} chat --url {url} --as $NAME-$$@example.com"; done
"""


def walk(url: str) -> str:
    """Shell commands (sh, curl, python3) that register two people and lead them to a match; ids are new each time.

    The last lines that they print are the two commands that let both talk, each for a terminal of its own.
    """
    return WALK.format(url=url, sugar=Path(sys.executable).with_name("sugar")).strip()


def show(console: Console, settings: Settings) -> None:
    """Prints the addresses and the walk of a running platform."""
    url = f"http://127.0.0.1:{settings.port}"
    table = Table("what", "where", title="The platform is ready")
    table.add_row("API", f"{url}/api/v1")
    table.add_row("API documentation", f"{url}/docs")
    table.add_row("Realtime sockets", "  ".join(url_of(settings, slot) for slot in range(settings.plan.gateways)))
    table.add_row("Ray dashboard", f"http://127.0.0.1:{settings.dashboard_port}")
    if settings.payments.sandbox:
        table.add_row("Payments (test mode: `sugar payments`)", settings.payments.stripe_url)
    table.add_row("Health, dependencies, metrics", f"{url}/health  {url}/ready  {url}/metrics")
    table.add_row("Data, keys and logs", str(settings.data_dir))
    console.print(table)
    console.print("From registration to match, to copy into a shell; then its last two lines, each in a terminal:\n", style="bold")
    # Never wrapped or highlighted: it is copied from here.
    console.out(walk(url), highlight=False)
    console.print("\nCtrl-C drains and stops. `sugar status` shows shards, replicas and lag.")
