"""Every migration is applied, and in the order of its number."""

from __future__ import annotations

from writers.migrations import DIRECTORY, EXTENSIONS, MIGRATIONS


def test_every_file_is_listed_once_and_numbers_go_up_by_one() -> None:
    assert sorted((*MIGRATIONS, *EXTENSIONS)) == sorted(path.stem for path in DIRECTORY.glob("*.sql"))
    assert [int(name[:4]) for name in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
