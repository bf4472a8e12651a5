#!/bin/sh
# Takes one server's database back to a point in time: restore.sh BASE_BACKUP '2026-11-26 03:00:00+00' (docs/operations.md).
# The server stands still meanwhile. What it held is moved to BACKUPS/replaced-TIME; it recovers when it is started again.
set -eu
base=$1
until=$2
backups=${BACKUPS:-/backups}
test -f "$base/PG_VERSION"
test ! -e "$PGDATA/postmaster.pid"
replaced=$backups/replaced-$(date -u +%Y%m%dT%H%M%SZ)
mkdir -m 700 "$replaced"
find "$PGDATA" -mindepth 1 -maxdepth 1 -exec mv {} "$replaced/" \;
cp -a "$base/." "$PGDATA/"
# What was written last and not archived yet.
find "$replaced/pg_wal" -maxdepth 1 -type f -exec cp -n {} "$PGDATA/pg_wal/" \;
cat >>"$PGDATA/postgresql.auto.conf" <<END
restore_command = 'cp $backups/wal/%f %p'
recovery_target_time = '$until'
recovery_target_action = 'promote'
END
touch "$PGDATA/recovery.signal"
