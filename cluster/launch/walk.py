"""What `sugar up` prints when everything answers: addresses, walks from registration to two people talking and to a creator who earns."""

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

CREATOR_WALK = r"""
API=@URL@/api/v1; SANDBOX=@SANDBOX@; SUGAR="@SUGAR@"; export SUGAR_DATA_DIR=@DATA@
field() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }
send() { curl -s -X "$1" "$API/$2" -H "Authorization: Bearer $3" -H 'Content-Type: application/json' \
  -H "Idempotency-Key: $RANDOM$RANDOM" -d "$4"; echo; }
register() { curl -s -X POST "$API/auth/register" -H 'Content-Type: application/json' -d "{\"email\": \"$1-$$@example.com\",
  \"password\": \"correct horse battery\", \"role\": \"$2\", \"displayName\": \"$1\", \"birthDate\": \"1994-05-17\"}"; }
adult() { curl -s -X POST "$(send POST users/me/verification "$1" '{}' | field "['url']")" -H 'Content-Type: application/json' \
  -d '{"outcome": "verified"}'; echo; until send GET users/me/verification "$1" | grep verified; do sleep 1; done; }

EVA=$(register Eva sugar_baby); EVA_ID=$(echo "$EVA" | field "['userId']"); EVA_TOKEN=$(echo "$EVA" | field "['accessToken']")
FINN_TOKEN=$(register Finn sugar_daddy | field "['accessToken']")
adult "$EVA_TOKEN"; adult "$FINN_TOKEN"                       # a stand-in for a real age check
WHERE='"returnUrl": "https://app.example.com/payouts", "refreshUrl": "https://app.example.com/payouts"'
curl -s -X POST "$(send POST payments/connect/onboarding "$EVA_TOKEN" "{\"country\": \"DE\", $WHERE}" | field "['url']")" >/dev/null
until send GET payments/connect/account "$EVA_TOKEN" | grep '"payoutsEnabled":true'; do sleep 1; done
TIER=$(send POST subscriptions/tiers "$EVA_TOKEN" \
  '{"rank": 1, "name": "Friends", "currency": "EUR", "priceMonthly": "9.99"}' | field "['tierId']")

python3 -c "
import random, struct, sys, zlib
part = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
lines = b''.join(b'\0' + random.randbytes(240) for _ in range(60))
sys.stdout.buffer.write(b'\x89PNG\r\n\x1a\n' + part(b'IHDR', struct.pack('>IIBBBBB', 80, 60, 8, 2, 0, 0, 0))
    + part(b'IDAT', zlib.compress(lines)) + part(b'IEND', b''))" > "/tmp/photo-$$.png"
SHA256=$(python3 -c "import hashlib; print(hashlib.sha256(open('/tmp/photo-$$.png', 'rb').read()).hexdigest())")
UPLOAD=$(send POST media/uploads "$EVA_TOKEN" "{\"kind\": \"image\", \"contentType\": \"image/png\",
  \"bytes\": $(($(wc -c < "/tmp/photo-$$.png"))), \"sha256\": \"$SHA256\"}"); MEDIA=$(echo "$UPLOAD" | field "['mediaId']")
curl -s -X PUT "$(echo "$UPLOAD" | field "['requests'][0]['url']")" -H 'Content-Type: image/png' --data-binary "@/tmp/photo-$$.png"
send POST "media/uploads/$MEDIA/complete" "$EVA_TOKEN"; rm "/tmp/photo-$$.png"
until send GET "media/$MEDIA" "$EVA_TOKEN" | grep -q '"state":"ready"'; do sleep 1; done
$SUGAR moderate decide "$MEDIA" dismiss --type media --statement "Nothing to object to."   # nothing is shown unreviewed
until send GET "media/$MEDIA" "$EVA_TOKEN" | grep -q '"review":"approved"'; do sleep 1; done
POST=$(send POST content/posts "$EVA_TOKEN" "{\"contentType\": \"image\", \"caption\": \"For my friends\",
  \"mediaIds\": [\"$MEDIA\"], \"access\": {\"visibility\": \"subscribers\"}, \"state\": \"published\"}" | field "['postId']")

send GET "content/posts/$POST" "$FINN_TOKEN"                  # locked: a blurred preview, no text
send POST "content/creators/$EVA_ID/follow" "$FINN_TOKEN"     # free: Eva's posts stand in his feed, still locked
until send GET content/feed "$FINN_TOKEN" | grep -q "$POST"; do sleep 1; done
SECRET=$(send POST payments/methods/setup "$FINN_TOKEN" '{}' | field "['clientSecret']")
CARD=$(curl -s "$SANDBOX/v1/setup_intents/${SECRET%%_secret_*}/confirm" -H 'Authorization: Bearer pk_test_sandbox' \
  -d client_secret="$SECRET" -d payment_method=pm_card_visa | field "['payment_method']")
SUBSCRIPTION=$(send POST subscriptions "$FINN_TOKEN" \
  "{\"tierId\": \"$TIER\", \"interval\": \"month\", \"paymentMethodId\": \"$CARD\"}" | field "['id']")
until send GET "content/posts/$POST" "$FINN_TOKEN" | grep '"access":"open"'; do sleep 1; done
send POST payments/tips "$FINN_TOKEN" "{\"toUserId\": \"$EVA_ID\", \"amount\": \"5.00\", \"currency\": \"EUR\",
  \"paymentMethodId\": \"$CARD\", \"message\": \"Lovely\"}"
send DELETE "subscriptions/$SUBSCRIPTION" "$FINN_TOKEN"       # ends with what is paid
send GET "subscriptions/$SUBSCRIPTION" "$FINN_TOKEN"
until send GET payments/transactions "$EVA_TOKEN" | grep '"charge".*"charge"'; do sleep 1; done
send GET payments/balance "$EVA_TOKEN"                        # her shares, pending for a week
$SUGAR reconcile                                              # rows, read model and shards agree; the ledger balances
"""


def creator_walk(settings: Settings) -> str:
    """Shell commands (bash, curl, python3) in which a creator earns on the payment sandbox; ids are new each time."""
    known = {
        "@URL@": f"http://127.0.0.1:{settings.port}", "@SANDBOX@": settings.payments.stripe_url,
        "@SUGAR@": str(Path(sys.executable).with_name("sugar")), "@DATA@": str(settings.data_dir),
    }
    text = CREATOR_WALK
    for name, value in known.items():
        text = text.replace(name, value)
    return text.strip()


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
    if settings.payments.sandbox:
        console.print("\nA creator earns, on the payment sandbox:\n", style="bold")
        console.out(creator_walk(settings), highlight=False)
    console.print("\nCtrl-C drains and stops. `sugar status` shows shards, replicas and lag.")
