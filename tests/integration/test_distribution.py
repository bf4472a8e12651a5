"""The schema and every statement of the writers keep to Citus' rules; with ``CITUS_URL``, a Citus server judges it itself.

The rules: every unique constraint holds the distribution column; an INSERT names it, as does its conflict target, and its
DO UPDATE neither sets it nor calls functions that are not immutable; an UPDATE or DELETE compares it with something, does not
set it, and calls no volatile function (nor a stable one on columns); rows of several shards are not locked by SELECT;
distributed tables have no triggers, foreign keys or identity columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pglast
import psycopg
import pytest
from pglast import ast, enums
from pglast.visitors import Visitor
from pydantic import SecretStr
from statements import statements

from configs.settings import Settings, load_settings
from writers.distribution import ALL_TABLES, TABLES, Coordinator, Distributed, distribute, steps

pytestmark = pytest.mark.servers

ON_EVERY_SHARD = {
    ("writers.sinks.erasures", "identities"), ("writers.sinks.erasures", "sessions"), ("writers.sinks.erasures", "comments"),
}
"""Erasures are rare and look for a person's id in tables with other keys: one statement goes to every shard."""
NOT_A_FUNCTION = {"unnest", "coalesce", "greatest", "least"}


class Changes(Visitor):
    """Collects the statements that change or lock rows, those within others too."""

    def __init__(self) -> None:
        self.changes: list[Any] = []
        self.locks: list[ast.SelectStmt] = []

    def visit_InsertStmt(self, ancestors: object, node: Any) -> None:  # noqa: N802  # pglast's name
        self.changes.append(node)

    visit_UpdateStmt = visit_DeleteStmt = visit_InsertStmt  # noqa: N815

    def visit_SelectStmt(self, ancestors: object, node: Any) -> None:  # noqa: N802
        if node.lockingClause:
            self.locks.append(node)


def column_of(node: Any) -> str | None:
    return node.fields[-1].sval if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String) else None


def inside(node: Any, kind: type) -> list[Any]:
    found: list[Any] = []

    class Search(Visitor):
        def visit(self, ancestors: object, each: Any) -> None:
            if isinstance(each, kind):
                found.append(each)

    if node is not None:
        for each in node if isinstance(node, tuple) else (node,):
            if isinstance(each, kind):
                found.append(each)
            Search()(each)
    return found


def conjuncts(node: Any) -> Iterator[Any]:
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.AND_EXPR:
        for part in node.args:
            yield from conjuncts(part)
    elif node is not None:
        yield node


def compares(where: Any, key: str) -> bool:
    """Whether rows are looked for by their key: = something, = ANY, IN."""
    for part in conjuncts(where):
        if isinstance(part, ast.A_Expr) and part.name[-1].sval == "=" and key in (column_of(part.lexpr), column_of(part.rexpr)):
            return True
        if isinstance(part, ast.SubLink) and part.testexpr is not None:
            columns = part.testexpr.args if isinstance(part.testexpr, ast.RowExpr) else (part.testexpr,)
            if key in map(column_of, columns):
                return True
    return False


class Volatility:
    """How a function of the server behaves: i(mmutable), s(table), v(olatile); the worst of its overloads."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        rows = conn.execute("SELECT proname, max(provolatile::text) FROM pg_proc GROUP BY proname").fetchall()
        self._known: dict[str, str] = dict(rows)

    def problems(self, node: Any, *, only_immutable: bool) -> Iterator[str]:
        if only_immutable and inside(node, ast.SQLValueFunction):
            yield "uses the time of the statement"
        for call in inside(node, ast.FuncCall):
            name = call.funcname[-1].sval
            kind = "i" if name in NOT_A_FUNCTION else self._known.get(name, "v")
            if kind == "v" or (kind == "s" and (only_immutable or inside(call.args, ast.ColumnRef))):
                yield f"calls {name}, which is not immutable"


def problems_of(node: Any, where: str, volatility: Volatility) -> Iterator[str]:
    table = node.relation.relname
    placed = TABLES.get(table)
    if placed is None:
        yield f"changes {table}, which has no place"
        return
    if isinstance(placed, Coordinator):
        return
    key = placed.key if isinstance(placed, Distributed) else ""
    if isinstance(node, ast.InsertStmt):
        if key and key not in {column.name for column in node.cols or ()}:
            yield f"inserts into {table} without naming {key}"
        conflict = node.onConflictClause
        if conflict is not None:
            elements = {element.name for element in (conflict.infer.indexElems if conflict.infer else None) or ()}
            if key and elements and key not in elements:
                yield f"conflict target on {table} without {key}"
            if key in {target.name for target in conflict.targetList or ()}:
                yield f"sets {key} of {table}"
            for part in (conflict.targetList, conflict.whereClause):
                yield from volatility.problems(part, only_immutable=True)
        return
    if key and not compares(node.whereClause, key) and (where.partition(":")[0], table) not in ON_EVERY_SHARD:
        yield f"changes {table} without comparing {key}"
    targets = node.targetList if isinstance(node, ast.UpdateStmt) else None
    if key in {target.name for target in targets or ()}:
        yield f"sets {key} of {table}"
    for part in (targets, node.whereClause):
        yield from volatility.problems(part, only_immutable=False)


def problems_in(text: str, where: str, volatility: Volatility) -> list[str]:
    found = Changes()
    found(pglast.parse_sql(text))
    problems = [problem for node in found.changes for problem in problems_of(node, where, volatility)]
    for select in found.locks:
        tables = [each.relname for each in inside(select.fromClause, ast.RangeVar)]
        problems += [f"locks rows of {name}" for name in tables if isinstance(TABLES.get(name), Distributed)]
    return problems


@pytest.fixture
def conn(servers: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.database_url.get_secret_value(), autocommit=True) as connection:
        yield connection


def test_every_table_has_a_place_and_its_comment_names_its_key(conn: psycopg.Connection[Any]) -> None:
    tables = {name for (name,) in conn.execute(ALL_TABLES)} - {"spatial_ref_sys"}
    assert tables == TABLES.keys()
    comments = dict(conn.execute("SELECT relname, obj_description(oid, 'pg_class') FROM pg_class WHERE relkind IN ('r', 'p')").fetchall())
    for table, placed in TABLES.items():
        if isinstance(placed, Distributed):
            stated = (comments[table] or "").removeprefix("distribution key: ").replace(",", " ").replace(";", " ").split()[0]
            assert stated == placed.key, table


def test_every_unique_constraint_holds_the_key(conn: psycopg.Connection[Any]) -> None:
    rows = conn.execute("""
        SELECT indrelid::regclass::text, indexrelid::regclass::text, array(
            SELECT attname FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey)
        )::text[] FROM pg_index WHERE indisunique AND indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    """).fetchall()
    keys = {table: placed.key for table, placed in TABLES.items() if isinstance(placed, Distributed)}
    assert keys.keys() <= {table for table, _, _ in rows}
    assert [(index, columns) for table, index, columns in rows if table in keys and keys[table] not in columns] == []


def test_distributed_tables_have_nothing_that_citus_refuses(conn: psycopg.Connection[Any]) -> None:
    names = [table for table, placed in TABLES.items() if not isinstance(placed, Coordinator)]
    refused = conn.execute("""
        SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY(%(names)s)
        UNION ALL SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype IN ('f', 'x') AND conrelid::regclass::text = ANY(%(names)s)
        UNION ALL SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attidentity <> '' AND attrelid::regclass::text = ANY(%(names)s)
    """, {"names": names}).fetchall()
    assert refused == []


def test_keys_of_one_group_have_one_type(conn: psycopg.Connection[Any]) -> None:
    types = dict(conn.execute(
        "SELECT attrelid::regclass::text || '.' || attname, format_type(atttypid, -1) FROM pg_attribute WHERE attnum > 0"
    ).fetchall())
    of_group: dict[str, set[str]] = {}
    for table, placed in TABLES.items():
        if isinstance(placed, Distributed):
            of_group.setdefault(placed.group, set()).add(types[f"{table}.{placed.key}"])
    assert {group: len(kinds) for group, kinds in of_group.items() if len(kinds) != 1} == {}


def test_every_statement_keeps_to_the_rules(conn: psycopg.Connection[Any]) -> None:
    volatility = Volatility(conn)
    found = {where: text for where, text in statements().items() if "{}" not in text and not where.startswith("writers.throughput")}
    assert len(found) > 100, "the writers' statements were not found"
    problems = {where: wrong for where, text in found.items() if (wrong := problems_in(text, where, volatility))}
    assert problems == {}, problems


@pytest.mark.parametrize("statement", [
    "INSERT INTO swipes (swiped_id) VALUES ($1)",
    "INSERT INTO swipes (swiper_id, swiped_id) VALUES ($1, $2) ON CONFLICT (swiped_id) DO NOTHING",
    "INSERT INTO swipes (swiper_id) VALUES ($1) ON CONFLICT (swiper_id, swiped_id) DO UPDATE SET created_at = now()",
    "INSERT INTO swipes (swiper_id) VALUES ($1) ON CONFLICT (swiper_id, swiped_id) DO UPDATE SET swiper_id = $2",
    "UPDATE swipes SET action = $1 WHERE swiped_id = $2",
    "UPDATE swipes SET swiper_id = $1 WHERE swiper_id = $2",
    "UPDATE swipes SET action = random() WHERE swiper_id = $2",
    "DELETE FROM swipes WHERE swiper_id = $1 OR swiped_id = $2",
    "WITH gone AS (DELETE FROM swipes RETURNING 1) SELECT * FROM gone",
    "SELECT 1 FROM swipes WHERE swiper_id = ANY($1) FOR UPDATE",
    "DELETE FROM unheard_of WHERE id = $1",
])
def test_what_breaks_a_rule_is_found(conn: psycopg.Connection[Any], statement: str) -> None:
    assert problems_in(statement, "somewhere", Volatility(conn))


def test_groups_are_spread_beside_their_first_table() -> None:
    calls = dict(steps())
    assert calls["users"] == "SELECT create_distributed_table('users', 'id', colocate_with => 'none')"
    assert calls["swipes"] == "SELECT create_distributed_table('swipes', 'swiper_id', colocate_with => 'users')"
    assert calls["large_creators"] == "SELECT create_reference_table('large_creators')"
    assert not {"audit_log", "writer_positions"} & calls.keys()


@pytest.mark.skipif("CITUS_URL" not in os.environ, reason="CITUS_URL names no Citus coordinator with an empty database")
def test_a_citus_server_takes_the_schema_and_every_statement() -> None:
    from writers.migrations import migrate

    settings = load_settings("test").model_copy(update={"database_url": SecretStr(os.environ["CITUS_URL"])})
    migrate(settings)
    assert set(distribute(settings)) == dict(steps()).keys()
    assert distribute(settings) == []
    refused = {}
    with psycopg.connect(os.environ["CITUS_URL"], autocommit=True) as connection:
        for where, text in statements().items():
            try:
                connection.execute(f"PREPARE judged AS {text}".encode())
                connection.execute("DEALLOCATE judged")
            except psycopg.errors.FeatureNotSupported as error:
                refused[where] = str(error)
            except psycopg.Error:
                continue  # a parameter whose type only the sink knows
    assert refused == {}
