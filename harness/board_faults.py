"""Whether the board that stands in a runs folder is whole and names the folder's cells; its numbers are compared by a deep look alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from skillneurons.complaint import Complaint, Mend, shown
from skillneurons.errors import SkillNeuronsError
from skillneurons.file_faults import read_table, told
from skillneurons.results import BOARD_INDEX
from skillneurons.run_files import BOARDS, RunFiles

_INDEX_COLUMNS = {"kind", "digest", "value"}


def index_complaints(files: RunFiles, deep: bool) -> Iterator[Complaint]:
    """Yield what is wrong with the index of the last build of the board."""
    entry = files.top.get(BOARD_INDEX)
    if entry is None or entry.kind != "file":
        return
    found = read_table(files.root / BOARD_INDEX, deep)
    fault = found.fault or ("" if set(found.columns) == _INDEX_COLUMNS else "it is no index of a board")
    if fault:
        what = f"{fault}; the next build of the board takes longer, and is the same"
        yield Complaint("damaged", BOARD_INDEX, what, "--mend deletes it", Mend("delete", (BOARD_INDEX,), ("board",)))


def board_complaints(files: RunFiles, cells: set[str], deep: bool) -> Iterator[Complaint]:
    """Yield what is wrong with the files of the board, and whether they are of the cells that are there."""
    rebuild = f"rebuild it with: skillneurons leaderboard {shown(str(files.root))}"
    whole = []
    for name in BOARDS:
        entry = files.top.get(name)
        if entry is None or entry.kind != "file":
            continue
        if not entry.size:
            yield Complaint("damaged", name, "it is empty (0 bytes)", rebuild)
        elif name in ("board.parquet", "board.csv"):
            keys, fault = _keys(files.root / name)
            if fault:
                yield Complaint("damaged", name, fault, rebuild)
                continue
            lacking, gone = len(cells - keys), len(keys - cells)
            if lacking:
                yield Complaint("stale", name, f"{_cells(lacking)} of this folder {_are(lacking)} not on it", rebuild)
            elif gone:
                what = f"it shows {_cells(gone)} that {_are(gone)} not here: gone, or of another folder that it was built from too"
                yield Complaint("remark", name, what, rebuild)
            else:
                whole.append(name)
        else:
            whole.append(name)
    if deep and cells and {"board.parquet", "board.csv"} & set(whole):
        yield from _differing(files.root, whole, rebuild)


def _cells(n: int) -> str:
    return f"{n} cell{'s' * (n != 1)}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _keys(path: Path) -> tuple[set[str], str]:
    """Return the keys of the cells that a board shows, or what is wrong with it."""
    if path.suffix == ".parquet":
        table = read_table(path)
        if table.fault or "keys" not in table.columns:
            return set(), table.fault or "it has no column keys"
        values = read_table(path, deep=True)
        return _split(values.values.get("keys", [])), values.fault
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))
        at = rows[0].index("keys")
        return _split([row[at] for row in rows[1:]]), ""
    except OSError as error:
        return set(), f"it cannot be read ({error.strerror or told(error)})"
    except (ValueError, IndexError, csv.Error) as error:
        return set(), f"it is no board ({told(error)})"


def _is_parted(path: Path) -> bool:
    """Whether a board was built with trusted keys, without which a build shows no cell as verified."""
    if path.suffix == ".parquet":
        return "yes" in read_table(path, deep=True).values.get("verified", [])
    data = path.read_bytes()
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""))
        return any(row.get("verified") == "yes" for row in rows)
    return b"\n# Not verified\n" in data


def _split(keys: list[str | None]) -> set[str]:
    return {key for one in keys if one for key in one.split()}


def _differing(root: Path, names: list[str], rebuild: str) -> Iterator[Complaint]:
    """Yield the files of a board that a new build would change."""
    from skillneurons.leaderboard.board import build_board, render

    if any(_is_parted(root / name) for name in names):
        what = "it parts verified cells from others by keys that are not known here"
        yield Complaint("remark", names[0], what, "compare it with: skillneurons leaderboard --check --trust FILE")
        return
    try:
        board = build_board([root])
    except SkillNeuronsError as error:
        yield Complaint("damaged", "cells", f"no board can be built ({told(error)})", "mend the cells first")
        return
    for name in names:
        form = name.removeprefix("board.")
        if name.startswith("board.") and (root / name).read_bytes() != render(board, form):
            yield Complaint("stale", name, "its numbers are not those of the cells", rebuild)
