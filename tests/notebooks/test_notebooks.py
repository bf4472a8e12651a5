"""Every notebook runs from top to bottom on small data, its closing assertion included, and is committed without outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from running import Platform, sugar

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "1_know_your_market", "2_train_and_judge", "3_tune_exposure", "4_read_an_ab_test", "5_what_a_shard_costs",
]

ON_RAY = ("3_tune_exposure",)
pytestmark = pytest.mark.timeout(600)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def execute(path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> nbformat.NotebookNode:
    for name in ("SUGAR_DATA_DIR", "SUGAR_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    for name, value in {
        "PYTHONPATH": search, "SUGAR_NOTEBOOK_SIZE": "small", "OMP_NUM_THREADS": "1", **variables,
    }.items():
        monkeypatch.setenv(name, value)
    book = read(path)
    NotebookClient(
        book, timeout=400, startup_timeout=200, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return book


def text(book: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)


def test_the_five_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_question_ends_with_an_assertion_and_keeps_no_output(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    for part in ("**Question.**", "**Data.**", "**Answer"):
        assert part in book.cells[0].source
    assert re.search(r"^\s*assert ", code[-1].source, re.MULTILINE)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE) for cell in code), "reusable code belongs to packages"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_executed_page_is_of_the_notebook_as_it_is(path: Path) -> None:
    page = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert all(cell.source.rstrip() in page for cell in read(path).cells), "make notebook-pages"


@pytest.mark.notebooks
@pytest.mark.parametrize("path", [
    pytest.param(path, id=path.stem, marks=[pytest.mark.ray] if path.stem in ON_RAY else []) for path in NOTEBOOKS
])
def test_a_notebook_runs_on_small_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = execute(path, monkeypatch)
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert pictures >= 2


@pytest.mark.notebooks
def test_training_without_real_data_says_so_and_judges_a_made_up_population(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = ROOT / "notebooks" / "2_train_and_judge.ipynb"
    said = text(execute(path, monkeypatch, SUGAR_SPEED_DATING=str(tmp_path / "none.csv")))
    assert "is skipped" in said
    assert "logistic" in said


@pytest.mark.platform
@pytest.mark.notebooks
def test_a_notebook_deploys_a_weight_to_a_running_platform_whose_cards_change(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook itself asserts that cards come in another order, and after the rollback as before."""
    platform.wait_well()
    sugar("seed", "--users", "160", "--near", "Dublin", "--seed", "78", "--data-dir", str(platform.data_dir), timeout_s=180)
    path = ROOT / "notebooks" / "3_tune_exposure.ipynb"
    said = text(execute(path, monkeypatch, SUGAR_DATA_DIR=str(platform.data_dir), SUGAR_NOTEBOOK_RAY="no"))
    assert "serves: every shard has it" in said
    assert "the first card's terms" in said
