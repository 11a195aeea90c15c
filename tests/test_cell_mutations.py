"""Cells that somebody changed: whatever stands in them, they are shown or named, and never end in a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skillneurons import ResultsError, UserError
from skillneurons.leaderboard.board import FORMATS, build_board, render, write_board
from skillneurons.plot import plot_cell
from skillneurons.results import ResultsFolder, load_cell
from skillneurons.show import show_cell

CELLS = Path(__file__).parent.parent / "leaderboard" / "pocket" / "cells"


def small(pattern: str, columns: int = 2) -> dict[str, Any]:
    """Return a committed cell with few columns (those that causes were tested on first), few neurons and resamples."""
    cell: dict[str, Any] = json.loads(min(CELLS.glob(pattern)).read_text())
    tested = cell["causal"]["columns"]
    names = sorted(cell["columns"], key=lambda name: ("doses" not in tested[name], name))[:columns]
    cell["columns"] = {name: cell["columns"][name] for name in names}
    cell["causal"]["columns"] = {name: tested[name] for name in names}
    cell["metric"]["columns"] = names
    for one in cell["columns"].values():
        one["top"] = one["top"][:2]
        one["resamples"] = " ".join(one["resamples"].split()[:50])
    return cell


BASES = [
    small("arithmetic-heuristics-s0-*.json"),
    small("hans-confidence-s0-*.json"),
    small("skillmix-labels-s1-*.json"),
]
VALUES: list[Any] = [None, "", "text", -1, 0, 3, 0.5, 1e30, True, [], {}, [None], ["a"], [{}], {"a": None}, {"a": {}}]


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


def look_at(cell: dict[str, Any], folder: Path) -> bool:
    """Build everything from a cell; return whether it was taken as one."""
    path = folder / "cells" / f"{cell['key']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cell))
    board = build_board([folder])
    taken = not board.problems
    assert taken == (not isinstance(load_cell(path), type(None)) and bool(board.rows))
    for name in FORMATS:
        render(board, name)
    write_board(board, folder / "out", ["html"])
    if taken:
        try:
            show_cell(folder, cell["key"])
            plot_cell(folder, cell["key"], figures=["doses", "steering", "seeds"], formats=["svg"])
        except (UserError, ResultsError):
            pass  # said in one line
    path.unlink()
    return taken


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.sampled_from(PLACES), value=st.sampled_from([*VALUES, "gone"]))
def test_no_change_of_a_cell_ends_in_a_traceback(
    where: tuple[int, tuple[Any, ...]], value: Any, tmp_path: Path
) -> None:
    index, place = where
    look_at(changed(BASES[index], place, value), tmp_path)


@pytest.mark.parametrize("index", range(len(BASES)))
def test_unchanged_they_are_taken(index: int, tmp_path: Path) -> None:
    assert look_at(BASES[index], tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("doses", 0, "outcomes", "moved"), 3, "doses.outcomes.moved is 3, not dict"),
        (("doses", 0, "outcomes", "moved", "effect"), None, "doses.outcomes.moved.effect is null, not a number"),
        (("doses", 0, "k"), "ten", "doses.k is 'ten', not int"),
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
    (tmp_path / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))
    (problem,) = build_board([tmp_path]).problems
    assert problem == f"{tmp_path}/cells/{cell['key']}.json is left out: causal.columns.{name}.{told}"
    assert [path for path, one in ResultsFolder(tmp_path).iter_cells() if hasattr(one, "reason")]
