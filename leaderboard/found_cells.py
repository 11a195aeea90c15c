"""The cells of one or many run folders: which files there are, what each holds, and which cannot be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skillneurons.errors import ResultsError
from skillneurons.leaderboard.bundles import bundle_name
from skillneurons.leaderboard.cells import BoardCell, board_cell
from skillneurons.leaderboard.index import Index
from skillneurons.leaderboard.settings import plain_json
from skillneurons.leaderboard.sources import CellFile, Source, open_source
from skillneurons.results import DamagedCell, Result, ResultsFolder, parse_cell

if TYPE_CHECKING:
    from skillneurons.store import Found

FINISHED, TESTED = "finished", "finished and tested"
FEW = 3  # problems that are named where nothing else is there to show


class CellEntry(NamedTuple):
    """One cell file that is on the board: its key, the hash of its bytes, and its bundle."""

    source: Source
    file: CellFile
    key: str
    digest: str
    bundle: str


@dataclass
class FoundCells:
    """The cells by bundle, the files that are left out, and what must be said at the terminal.

    ``copies`` are by key the same cells in further folders.
    """

    bundles: dict[str, list[CellEntry]] = field(default_factory=dict)
    copies: dict[str, list[CellEntry]] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_entry(entry: CellEntry) -> BoardCell:
    """Return the cell of a file; raise ResultsError where it is no longer what was found."""
    data = entry.source.read(entry.file)
    if hashlib.sha256(data).hexdigest() != entry.digest:
        raise ResultsError(f"{entry.file.place} changed while the board was built; build it again")
    return board_cell(Result.from_known(data))  # bytes of this hash were found to be a cell


def read_cells(listed: Sequence[tuple[Source, Sequence[CellFile]]], index: Index) -> FoundCells:
    """Return the cells of the folders' files; raise ResultsError where there is none, or one key has several contents."""
    found = FoundCells()
    by_key: dict[str, CellEntry] = {}
    for source, files in listed:
        if not files:
            found.problems.append(f"{source.place} holds no cells; run `skillneurons run -o {source.place}` first")
        for file in files:
            entry, reason = _entry(source, file, index)
            if entry is None:
                found.problems.append(f"{file.place} is left out: {reason}")
                found.damaged.append((file.name, reason))
                continue
            known = by_key.setdefault(entry.key, entry)
            if known.digest != entry.digest:
                _refuse_other_content(known, entry)
            if known is not entry:
                found.copies.setdefault(entry.key, []).append(entry)
    if not by_key:
        raise ResultsError(_nothing_there(found))
    for _, entry in sorted(by_key.items()):
        found.bundles.setdefault(entry.bundle, []).append(entry)
    return found


def _nothing_there(found: FoundCells) -> str:
    """Return why there is no board: the first few of the problems."""
    problems = found.problems
    if not problems:
        return "no run folder was given"
    more = f"; and {len(problems) - FEW} more" if len(problems) > FEW else ""
    return ("no cell can be shown: " if found.damaged else "") + "; ".join(problems[:FEW]) + more


def _entry(source: Source, file: CellFile, index: Index) -> tuple[CellEntry | None, str]:
    """Return what a file holds, or None and why it is left out."""
    known = index.known(file.place, file.stamp)
    if known is None:
        try:
            data = source.read(file)
        except OSError as error:
            return None, f"it cannot be read ({error.strerror or error})"
        digest = hashlib.sha256(data).hexdigest()
        loaded = parse_cell(Path(file.name), data)
        known = [loaded.reason] if isinstance(loaded, DamagedCell) else about(loaded, digest)
        index.remember(file.place, file.stamp, known)
    return (None, known[0]) if len(known) == 1 else (CellEntry(source, file, *known[:3]), "")


def about(cell: Result, digest: str) -> list[str]:
    """Return what the index remembers of a file that holds this cell: key, hash, bundle, and how far it is."""
    state = (TESTED if cell.tested_columns else FINISHED) if cell.finished else "open"
    return [cell.key, digest, bundle_name(cell), state]


def finished_cells(folder: ResultsFolder, index: Index, listed: Sequence[Found] | None = None) -> dict[str, bool]:
    """Return the finished cells whose files have not changed since the index saw them; none is read.

    By key, whether neurons of the cell were ablated. ``listed`` is what a store was just seen to list of its cells.
    """
    if not (folder.is_there if listed is None else listed):
        return {}
    files = open_source(folder, listed).files("cells")
    known = [index.known(file.place, file.stamp) for file in files]
    return {one[0]: one[3] == TESTED for one in known if one is not None and one[3:] in ([FINISHED], [TESTED])}


def _refuse_other_content(one: CellEntry, other: CellEntry) -> None:
    """Raise ResultsError where two files of one key hold other results; the same results may be written otherwise."""
    parsed = [parse_cell(Path(entry.file.name), entry.source.read(entry.file)) for entry in (one, other)]
    texts = {plain_json(cell.to_json()) if isinstance(cell, Result) else cell.reason for cell in parsed}
    if len(texts) > 1:
        raise ResultsError(
            f"{one.file.place} and {other.file.place} hold the same key with different content, so one of them is not what "
            "its key says; remove the wrong one (`skillneurons run` in an empty folder tells which)"
        )
