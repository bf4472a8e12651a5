"""Every migration is applied, in the order of its number, and none stops a platform that runs on a large database."""

from __future__ import annotations

import re

import pytest

from writers.migrations import DIRECTORY, EXTENSIONS, MIGRATIONS

BEFORE_THE_FIRST_RELEASE = "0026_payouts"
"""Files up to this one ran on empty databases only."""

NAME = r"(?:if\s+(?:not\s+)?exists\s+)?(?:only\s+)?([a-z_][a-z0-9_.]*)"
FORBIDDEN = (
    (rf"^create\s+(?:unique\s+)?index\s+(?!concurrently).*?\son\s+{NAME}",
     "an index on a table that exists: CREATE INDEX CONCURRENTLY, in a file whose name ends in _concurrently"),
    (rf"^alter\s+table\s+{NAME}.*\salter\s+(?:column\s+)?\w+\s+(?:set\s+data\s+)?type\s",
     "another type rewrites the table: add a column, fill it in batches, change readers, drop the old one a release later"),
    (rf"^alter\s+table\s+{NAME}.*\sadd\s+(?:column\s+)?.*\bgenerated\s+always\s+as\b.*\bstored\b", "a stored generated column rewrites the table"),
    (rf"^alter\s+table\s+{NAME}.*\sadd\s+(?:column\s+)?.*\bdefault\s+[a-z_]+\s*\(", "a default that is computed rewrites the table: add it without, set the default after"),
    (rf"^alter\s+table\s+{NAME}.*\sset\s+not\s+null", "reads the whole table under a lock: ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, VALIDATE in a later file"),
    (rf"^alter\s+table\s+{NAME}(?!.*not\s+valid)(?!.*using\s+index).*\sadd\s+(?:constraint\s+\w+\s+)?(?:check|foreign\s+key|unique|primary\s+key)\b",
     "reads the whole table under a lock: NOT VALID and a later VALIDATE, or USING INDEX"),
    (rf"^alter\s+table\s+{NAME}.*\s(?:drop\s+column|drop\s+constraint|rename)\b", "code of the last release still uses it: a file of the release after"),
    (rf"^update\s+{NAME}", "locks every row that it changes until the end: fill in batches, by a command"),
    (rf"^delete\s+from\s+{NAME}", "locks every row that it deletes until the end: in batches, by a command"),
    (rf"^(?:drop\s+table|truncate(?:\s+table)?|lock(?:\s+table)?|cluster|vacuum\s+full|reindex(?!.*concurrently)\s+\w+)\s+{NAME}", "stops everybody who uses the table"),
    (r"^set\s+(?:local\s+|session\s+)?(lock_timeout)\b", "the time-out of locks is set by whoever migrates"),
)


def statements(text: str) -> list[str]:
    """Lower case, on one line each, without comments; bodies of functions are left out."""
    text = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL)
    text = re.sub(r"--[^\n]*", "", text)
    return [" ".join(part.split()).lower() for part in text.split(";") if part.strip()]


def offences(text: str, small: str = "") -> list[str]:
    """What in the file would rewrite a table, or lock one that exists for as long as it is large; but for ``small``."""
    found, made = [], {small}
    for statement in statements(text):
        if created := re.match(rf"create\s+(?:unlogged\s+)?table\s+{NAME}", statement):
            made.add(created.group(1))
        found += [
            f"{statement[:80]}: {why}"
            for pattern, why in FORBIDDEN
            if (hit := re.match(pattern, statement)) and hit.group(1) not in made
        ]
    return found


def test_every_file_is_listed_once_and_numbers_go_up_by_one() -> None:
    assert sorted((*MIGRATIONS, *EXTENSIONS)) == sorted(path.stem for path in DIRECTORY.glob("*.sql"))
    assert [int(name[:4]) for name in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("name", [name for name in MIGRATIONS if name > BEFORE_THE_FIRST_RELEASE] or [MIGRATIONS[-1]])
def test_no_later_migration_stops_a_running_platform(name: str) -> None:
    assert name <= BEFORE_THE_FIRST_RELEASE or not offences((DIRECTORY / f"{name}.sql").read_text())


@pytest.mark.parametrize("name", EXTENSIONS)
def test_what_needs_an_extension_rewrites_only_the_table_whose_size_is_looked_at_first(name: str) -> None:
    text = (DIRECTORY / f"{name}.sql").read_text()
    assert not offences(text, small=EXTENSIONS[name].rewrites)
    assert offences(text), "nothing is rewritten: a name too many"


def test_what_runs_outside_a_transaction_may_run_again() -> None:
    for name in MIGRATIONS:
        if name.endswith("_concurrently"):
            made = [re.match(r"create\s+(?:unique\s+)?index\s+concurrently\s+(\w+)", statement)
                    for statement in statements((DIRECTORY / f"{name}.sql").read_text())]
            text = (DIRECTORY / f"{name}.sql").read_text().lower()
            for index in filter(None, made):
                assert f"drop index concurrently if exists {index.group(1)}" in text, "one that broke off leaves an invalid index"


@pytest.mark.parametrize("text", [
    "CREATE INDEX a ON users (b)", "CREATE UNIQUE INDEX IF NOT EXISTS a\n ON users (b)", "ALTER TABLE users ALTER COLUMN a TYPE bigint",
    "ALTER TABLE users ADD COLUMN a uuid DEFAULT gen_random_uuid()", "ALTER TABLE users ADD COLUMN a int GENERATED ALWAYS AS (b) STORED",
    "ALTER TABLE users ALTER COLUMN a SET NOT NULL", "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", "ALTER TABLE users ADD PRIMARY KEY (a)",
    "ALTER TABLE users DROP COLUMN a", "ALTER TABLE users RENAME COLUMN a TO b", "UPDATE users SET a = 1", "DELETE FROM users WHERE a",
    "DROP TABLE users", "LOCK TABLE users", "REINDEX TABLE users", "TRUNCATE users", "SET LOCAL lock_timeout = 0",
    "-- fine so far\nCREATE TABLE t (a int);\nCREATE INDEX i ON t (a); CREATE INDEX j ON users (a)",
])
def test_each_rule_finds_what_it_is_for(text: str) -> None:
    assert len(offences(text)) == 1


@pytest.mark.parametrize("text", [
    "CREATE TABLE t (a int, CHECK (a > 0)); CREATE INDEX i ON t (a); ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "CREATE INDEX CONCURRENTLY i ON users (a)", "ALTER TABLE users ADD COLUMN a boolean NOT NULL DEFAULT false",
    "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "ALTER TABLE users VALIDATE CONSTRAINT c",
    "ALTER TABLE users ADD CONSTRAINT c UNIQUE USING INDEX i",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE users SET a = 1; END $$",
    "-- UPDATE users SET a = 1\nCOMMENT ON TABLE users IS 'people'",
])
def test_what_is_quick_is_allowed(text: str) -> None:
    assert offences(text) == []
