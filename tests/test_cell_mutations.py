"""Cells that somebody changed: whatever stands in them, they are shown or named, and never end in a traceback."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skillneurons import ResultsError, UserError
from skillneurons.leaderboard.board import FORMATS, build_board, render, write_board
from skillneurons.plot import plot_cell
from skillneurons.results import Result, ResultsFolder, load_cell
from skillneurons.show import show_cell

CELLS = Path(__file__).parent.parent / "leaderboard" / "pocket" / "cells"


def committed(pattern: str) -> list[dict[str, Any]]:
    """Return committed cells of one task, metric and seed, one of each model."""
    cells = [json.loads(path.read_text()) for path in sorted(CELLS.glob(pattern))]
    return sorted(cells, key=lambda cell: cell["model"]["name"])


def small(cell: dict[str, Any], columns: int = 2) -> dict[str, Any]:
    """Return a cell with few columns (those that causes were tested on first), few neurons and resamples."""
    tested = cell["causal"]["columns"]
    names = sorted(cell["columns"], key=lambda name: ("doses" not in tested[name], name))[:columns]
    cell["columns"] = {name: cell["columns"][name] for name in names}
    cell["causal"]["columns"] = {name: tested[name] for name in names}
    cell["metric"]["columns"] = names
    for one in cell["columns"].values():
        one["top"] = one["top"][:2]
        one["resamples"] = " ".join(one["resamples"].split()[:50])
    return cell


KINDS = ("arithmetic-heuristics-s{}-*.json", "hans-confidence-s{}-*.json", "skillmix-labels-s{}-*.json")
BASES = [small(committed(kind.format(0))[0]) for kind in KINDS]
# what stands beside a changed cell on a board: another seed of its model, and another model
BESIDE = [[small(committed(kind.format(1))[0]), small(committed(kind.format(0))[1])] for kind in KINDS]
VALUES: list[Any] = [
    None,
    "",
    "text",
    -1,
    0,
    3,
    0.5,
    1e30,
    -1e300,
    2**63,
    True,
    [],
    {},
    [None],
    ["a"],
    [{}],
    {"a": None},
    {"a": {}},
]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value of plain JSON content stands."""
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        yield from places(one, (*place, name))


PLACES = [
    (i, place) for i, base in enumerate(BASES) for place in places(base) if place[0] not in ("key", "schema_version")
]


def changed(base: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    cell = copy.deepcopy(base)
    inner: Any = cell
    for name in place[:-1]:
        inner = inner[name]
    if value == "gone":
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return cell


def look_at(cell: dict[str, Any], beside: list[dict[str, Any]], folder: Path) -> bool:
    """Build everything from a cell and those beside it; return whether it was taken as one."""
    shutil.rmtree(folder, ignore_errors=True)  # an example that failed leaves its files
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    for one in (cell, *beside):
        (folder / "cells" / f"{one['key']}.json").write_text(json.dumps(one))
    path = folder / "cells" / f"{cell['key']}.json"
    board = build_board([folder])
    taken = not board.problems
    assert taken == isinstance(load_cell(path), Result)
    assert any(cell["key"] in row["keys"].split() for row in board.rows) == (taken and bool(cell["columns"]))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sn.load_results(folder)
    assert [str(one.message)[:21] for one in told] == ([] if taken else ["1 damaged cell left o"])
    for name in FORMATS:
        render(board, name)
    write_board(board, folder / "out", ["html"])
    if taken:
        try:
            show_cell(folder, cell["key"])
            plot_cell(folder, cell["key"], figures=["doses", "steering", "seeds"], formats=["svg"])
        except (UserError, ResultsError):
            pass  # said in one line
    return taken


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.sampled_from(PLACES), value=st.sampled_from([*VALUES, "gone"]))
def test_no_change_of_a_cell_ends_in_a_traceback(
    where: tuple[int, tuple[Any, ...]], value: Any, tmp_path: Path
) -> None:
    index, place = where
    look_at(changed(BASES[index], place, value), BESIDE[index], tmp_path / "runs")


@pytest.mark.parametrize("index", range(len(BASES)))
def test_unchanged_they_are_taken(index: int, tmp_path: Path) -> None:
    assert look_at(BASES[index], BESIDE[index], tmp_path / "runs")


def test_an_effect_that_is_not_known_is_shown_as_that(tmp_path: Path) -> None:
    name = next(name for name, one in BASES[1]["causal"]["columns"].items() if "doses" in one)
    cell = copy.deepcopy(BASES[1])
    tested = cell["causal"]["columns"][name]
    for one in (*tested["doses"], *tested["neurons"]):
        for outcome in one["outcomes"].values():
            outcome["effect"] = outcome["random"] = None
    assert look_at(cell, BESIDE[1], tmp_path / "runs")


def test_a_task_whose_source_is_not_said_stands_beside_one_whose_is(tmp_path: Path) -> None:
    assert look_at(changed(BASES[0], ("task", "source_hash"), "gone"), BESIDE[0], tmp_path / "runs")


def test_no_verdict_is_counted_that_is_no_number(tmp_path: Path) -> None:
    name = next(name for name, one in BASES[0]["columns"].items() if one.get("shortcut"))
    cell = changed(BASES[0], ("columns", name, "shortcut", "verdicts", "wanted"), None)
    assert not look_at(cell, BESIDE[0], tmp_path / "runs")


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("doses", 0, "outcomes", "moved"), 3, "doses.outcomes.moved is 3, not dict"),
        (
            ("doses", 0, "outcomes", "moved", "effect"),
            "big",
            "doses.outcomes.moved.effect is 'big', not int or float or null",
        ),
        (("doses", 0, "k"), "ten", "doses.k is 'ten', not int"),
        (("doses", 0, "k"), -1, "doses.k is -1, not a count"),
        (("doses", 0, "outcomes"), {}, "doses.outcomes.moved is missing"),
        (("steering", "refused"), {"4": None}, "steering.refused.4 is None, not str"),
        (("ablation_drop",), 1e300, "ablation_drop is 1e+300, beyond 1e+100"),
        (("doses",), "no", "doses is 'no', not list or null"),
        (("neurons", 0), 7, "neurons holds 7, not a mapping"),
        (("steering", "metric"), [0.1], "steering.metric has not as many values as alphas"),
        (("steering", "alphas", 0), "x", "steering.alphas.0 is 'x', not a number"),
        (("ablation_drop",), [], "ablation_drop is [], not a number"),
    ],
)
def test_a_damaged_causal_part_is_named(place: tuple[Any, ...], value: Any, told: str, tmp_path: Path) -> None:
    name = next(name for name, one in BASES[1]["causal"]["columns"].items() if "doses" in one)
    cell = changed(BASES[1], ("causal", "columns", name, *place), value)
    (tmp_path / "cells").mkdir()
    for one in (cell, *BESIDE[1]):
        (tmp_path / "cells" / f"{one['key']}.json").write_text(json.dumps(one))
    (problem,) = build_board([tmp_path]).problems
    assert problem == f"{tmp_path}/cells/{cell['key']}.json is left out: causal.columns.{name}.{told}"
    assert [path for path, one in ResultsFolder(tmp_path).iter_cells() if hasattr(one, "reason")]
