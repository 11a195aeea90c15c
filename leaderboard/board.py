"""The leaderboard: from folders of finished cells to ``board.md``, ``board.csv`` and ``board.parquet``.

The same cells give the same bytes in any order of files and folders. A damaged cell is named and
left out; the others go on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillneurons.errors import ResultsError, unknown_name
from skillneurons.leaderboard.accuracies import make_accuracies
from skillneurons.leaderboard.causes import causes_lines, causes_text
from skillneurons.leaderboard.formats import csv_bytes, parquet_bytes
from skillneurons.leaderboard.markdown import markdown_text
from skillneurons.leaderboard.ranks import Standings, make_standings
from skillneurons.leaderboard.rows import Row, make_rows
from skillneurons.leaderboard.settings import comparability
from skillneurons.leaderboard.terminal import terminal_text
from skillneurons.results import DamagedCell, Result, ResultsFolder, canonical_json, make_folder, write_atomic

FORMATS = ("md", "csv", "parquet")


@dataclass(frozen=True)
class Board:
    """The rows of the table and what must be said beside them.

    ``accuracies`` has one entry per model and task. ``problems`` are for the person at the
    terminal (they name files by their path); ``left_out`` says the same without folders, for the
    page. ``notes`` name the tasks and metrics whose rows must not be compared. ``causes`` are, by (model, revision), the
    lines about causes, and ``tested`` a short text of them. ``standings`` set several models beside each other.
    """

    rows: list[Row]
    accuracies: list[dict[str, Any]]
    problems: list[str]
    notes: list[str]
    left_out: list[str]
    causes: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    tested: str = ""
    standings: Standings = field(default_factory=Standings)


def build_board(dirs: Sequence[Path | str]) -> Board:
    """Read every cell under the runs folders; raise ResultsError where a folder is missing."""
    cells: dict[str, Result] = {}
    across: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    left_out: set[str] = set()
    for folder in map(Path, dirs):
        found = False
        for path, loaded in _folder(folder).iter_cells():
            found = True
            reason = loaded.reason if isinstance(loaded, DamagedCell) else _add(cells, loaded)
            if reason:
                problems.append(f"{path} is left out: {reason}")
                left_out.add(f"cells/{path.name}: {reason}")
        if not found:
            problems.append(f"{folder} holds no cells; run `skillneurons run -o {folder}` first")
        for path in sorted(ResultsFolder(folder).across.glob("*.json")):
            from skillneurons.across_file import read_across  # pydantic, only where there is such a file

            one, reason = read_across(path)
            if one is None:
                problems.append(f"{path} is left out: {reason}")
                left_out.add(f"across/{path.name}: {reason}")
            else:
                across[str(one["key"])] = one
    kept = list(cells.values())
    causes = {}
    for model in sorted({(cell.model["name"], cell.model["revision"] or "") for cell in kept}):
        own = [cell for cell in kept if (cell.model["name"], cell.model["revision"] or "") == model]
        # a comparison counts where all its cells are here: others were measured on what is now another cell
        keys = {cell.key for cell in own}
        whole = [one for _, one in sorted(across.items()) if set(one["cells"]) <= keys]
        beside, apart = _widest(whole)
        left_out |= {f"across/{key}.json: another comparison, of as many cells or more, is shown" for key in apart}
        causes[model] = causes_lines(own, beside)
    rows, notes = make_rows(kept), comparability(kept)
    return Board(
        rows, make_accuracies(kept), problems, notes, sorted(left_out), causes, causes_text(kept), make_standings(kept)
    )


def _widest(across: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the comparison that is shown, one file per seed, and the keys of those that are not.

    Only files of the same settings and tasks are one comparison: that of the most cells, where runs of some tasks or
    metrics, or other settings, left others.
    """
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for one in across:
        alike = canonical_json({name: one[name] for name in ("settings", "tasks", "columns")})
        seeds = groups.setdefault(alike, {})
        known = seeds.get(one["seed"])
        if known is None or (len(one["cells"]), one["key"]) > (len(known["cells"]), known["key"]):
            seeds[one["seed"]] = one
    if not groups:
        return [], []
    best = max(sorted(groups), key=lambda alike: sum(len(one["cells"]) for one in groups[alike].values()))
    shown = [one for _, one in sorted(groups[best].items())]
    kept = {one["key"] for one in shown}
    return shown, [one["key"] for one in across if one["key"] not in kept]


def _folder(path: Path) -> ResultsFolder:
    folder = ResultsFolder(path)
    if not folder.cells.is_dir():
        what = "it has no folder cells/" if path.is_dir() else "no such folder"
        raise ResultsError(f"cannot read results from {path}: {what}; run `skillneurons run -o {path}` first")
    return folder


def _add(cells: dict[str, Result], cell: Result) -> str:
    """Add a cell once; return why it cannot be added where another folder has other content for its key."""
    known = cells.setdefault(cell.key, cell)
    if canonical_json(known.to_json()) == canonical_json(cell.to_json()):
        return ""
    # The choice must not depend on the order of folders: the smaller text stays.
    cells[cell.key] = min(known, cell, key=lambda one: canonical_json(one.to_json()))
    return "several folders hold this key with different content; one of them is shown"


def render(board: Board, name: str) -> bytes:
    """Return the bytes of one format: md, csv or parquet."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    if name == "md":
        text = markdown_text(board.rows, board.accuracies, board.notes, board.left_out, board.causes, board.standings)
        return text.encode("utf-8", "backslashreplace")
    return csv_bytes(board.rows) if name == "csv" else parquet_bytes(board.rows)


def write_board(board: Board, out: Path | str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write ``board.<format>`` for each format, each file whole or not at all; return their paths."""
    contents = {Path(out) / f"board.{name}": render(board, name) for name in formats}
    make_folder(Path(out))
    for path, data in contents.items():
        write_atomic(path, data)
    return list(contents)


def check_board(board: Board, out: Path | str, formats: Sequence[str] = FORMATS) -> str:
    """Return what differs between the files in ``out`` and the rebuilt board, ``""`` where they are fresh."""
    parts = []
    for name in formats:
        path = Path(out) / f"board.{name}"
        fresh = render(board, name)
        try:
            committed = path.read_bytes()
        except FileNotFoundError:
            parts.append(f"{path} is missing")
            continue
        except OSError as error:
            raise ResultsError(f"cannot read {path}: {error.strerror}; give another folder with -o DIR") from error
        if committed != fresh:
            parts.append(f"{path} is stale" if name == "parquet" else _diff(path, committed, fresh))
    return "".join(f"{part}\n" for part in parts)


def _diff(path: Path, committed: bytes, fresh: bytes) -> str:
    old, new = (data.decode("utf-8", "replace").splitlines() for data in (committed, fresh))
    lines = list(difflib.unified_diff(old, new, f"{path}", f"{path} (rebuilt)", lineterm=""))
    return "\n".join(lines) or f"{path} differs in its line ends"


def board_text(board: Board, width: int | None = None) -> str:
    """Return the most telling columns as text tables, one per model, then the notes."""
    return "\n\n".join([terminal_text(board.rows, width), *([board.tested] if board.tested else []), *board.notes])
