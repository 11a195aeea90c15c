"""A bundle: all cells of one model, task and metric. What the board says of them depends on nothing else.

So it is worked out once and found again, by the hashes of its files, in the index of the next build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.leaderboard import settings
from skillneurons.leaderboard.causes import causes_part
from skillneurons.leaderboard.formats import csv_line, markdown_parts
from skillneurons.leaderboard.models import Identity, identity
from skillneurons.leaderboard.rows import Row, make_rows
from skillneurons.results import Result


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row, its line of CSV, and its line of Markdown before and after the number of its note."""

    row: Row
    csv: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the board needs of a bundle: its rows, what is told about causes, which versions it has."""

    rows: list[RenderedRow]
    causes: Mapping[str, Any]
    marks: list[list[str | None]]
    models: list[Identity]


def bundle_name(cell: Result) -> str:
    """Return the name of the bundle that a cell belongs to: model, revision, task and metric, as JSON."""
    return settings.plain_json(
        [cell.model["name"], cell.model["revision"] or "", cell.task["name"], cell.metric["name"]]
    )


def make_bundle(cells: Sequence[Result], verified: bool = False) -> Bundle:
    """Return what the board needs of the cells of one bundle."""
    rows = [RenderedRow(row, csv_line(row), *markdown_parts(row)) for row in make_rows(cells, verified=verified)]
    return Bundle(rows, causes_part(cells), settings.marks_of(cells), sorted({identity(cell) for cell in cells}))


def bundle_bytes(bundle: Bundle) -> bytes:
    """Return a bundle as JSON."""
    rows = [[one.row, one.csv, one.before, one.after] for one in bundle.rows]
    content = {"rows": rows, "causes": bundle.causes, "marks": bundle.marks, "models": bundle.models}
    return settings.plain_bytes(content)


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle that ``bundle_bytes`` gave."""
    content = settings.parse_json(data)
    rows = [RenderedRow(*one) for one in content["rows"]]
    models: list[Identity] = [tuple(model) for model in content["models"]]
    return Bundle(rows, content["causes"], content["marks"], models)
