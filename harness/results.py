"""A results folder, on disk or in a store: what lies where in it, and its cells (``cell_file``), read and written.

What others need of a cell is found here too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.atomic import check_folder, make_folder
from skillneurons.cell_file import (
    DamagedCell,
    Result,
    canonical_json,
    check_key,
    content_key,
    is_finished,
    load_cell,
    parse_cell,
    write_json_atomic,
)
from skillneurons.store import Store
from skillneurons.store_url import path_of

if TYPE_CHECKING:
    from skillneurons.mirror import Mirror
    from skillneurons.store import Found

__all__ = [
    "BOARD_INDEX",
    "DamagedCell",
    "Result",
    "ResultsFolder",
    "canonical_json",
    "check_key",
    "content_key",
    "is_finished",
    "load_cell",
    "open_folder",
    "parse_cell",
    "write_json_atomic",
]

BOARD_INDEX = ".board-index.parquet"  # what earlier builds of the board worked out
FEW = 64  # cells that are asked for one by one, not by a listing of all


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """A runs folder: ``cells/``, ``prompts/``, ``passes/`` and, where causes were tested, ``cards/`` and ``across/`` under ``root``.

    With a ``mirror`` the folder is in a store and ``root`` is this process's copy: what is read is ``fetched`` first, what is
    finished is ``published``. On disk neither does anything.
    """

    root: Path
    mirror: Mirror | None = None

    @property
    def place(self) -> str:
        """How the folder is called: its path, or its URL."""
        return str(self.root) if self.mirror is None else self.mirror.store.url

    @property
    def is_there(self) -> bool:
        """Whether there is a folder of cells; a store has no folders, but files in them."""
        return self.cells.is_dir() if self.mirror is None else bool(self.mirror.store.listing("cells"))

    def cells_listed(self) -> list[Found] | None:
        """Return what a store lists of its cells now, for whoever looks at them several times; None on disk."""
        return None if self.mirror is None else self.mirror.store.listing("cells")

    def told(self, text: str) -> str:
        """Return a text in which files are called by where they are, not by this process's copy."""
        return text if self.mirror is None else self.mirror.told(text)

    def fetched(self, path: Path) -> Path:
        """Return a file, or the folder of a prompt or pass, after bringing it to what it is now."""
        if self.mirror is not None:
            self.mirror.fetch(path)
        return path

    def publish(self, *paths: Path) -> None:
        """Let finished files and folders count, in their order; raise StorageError where one cannot."""
        if self.mirror is not None:
            self.mirror.publish(*paths)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is passed over."""
        if self.mirror is None:
            path.unlink(missing_ok=True)
        else:
            self.mirror.remove(path)

    def has(self, path: Path) -> bool:
        """Whether a file, or the folder of a prompt or pass, is there now."""
        return path.exists() if self.mirror is None else self.mirror.is_there(path)

    def as_it_is(
        self, besides: Container[str] = frozenset(), listed: Sequence[Found] | None = None, *, records: bool = False
    ) -> ResultsFolder:
        """Return the folder with its cells as they are at this moment (or were when they were ``listed``), to be read many times.

        Those of the keys ``besides`` need not be there; ``records`` asks for run records and comparisons across tasks too.
        """
        if self.mirror is None:
            return self
        ends = (".run.json", ".json") if records else (".json",)

        def wanted(name: str) -> bool:
            key = name.partition("/")[2].removesuffix(".json").removesuffix(".run")
            return (records or not name.endswith(".run.json")) and name.endswith(ends) and key not in besides

        self.mirror.fetch_folder("cells", listed, wanted=wanted)
        if records:
            self.mirror.fetch_folder("across")
        return ResultsFolder(self.root)

    def as_known(self) -> ResultsFolder:
        """Return the folder as far as this process has seen it or written to it, for when a store does not answer."""
        return ResultsFolder(self.root)

    @property
    def cells(self) -> Path:
        """The folder of finished cells."""
        return self.root / "cells"

    @property
    def prompts(self) -> Path:
        """The folder of trained prompts, one folder each."""
        return self.root / "prompts"

    @property
    def passes(self) -> Path:
        """The folder of passes, one folder each."""
        return self.root / "passes"

    @property
    def cards(self) -> Path:
        """The folder of what neuron cards need of the model, one file per cell."""
        return self.root / "cards"

    @property
    def locks(self) -> Path:
        """The folder of who works on what now; it is there while somebody does."""
        return self.root / "locks"

    @property
    def checkpoints(self) -> Path:
        """The folder of tunings that were broken off, one file each."""
        return self.root / "checkpoints"

    @property
    def across(self) -> Path:
        """The folder of what concerns several tasks, one file each."""
        return self.root / "across"

    def prepare(self) -> None:
        """Create the folders; raise ResultsError where nothing can be written."""
        # a store has no folders; whether it can be written to is found out with the first lock
        for folder in (self.cells, self.prompts, self.passes):
            make_folder(folder)

    def check(self) -> None:
        """Raise ResultsError where ``prepare`` would; nothing is written."""
        if self.mirror is not None:
            self.mirror.store.check()
            return
        for folder in (self.cells, self.prompts, self.passes):
            check_folder(folder)

    def read_cell(self, key: str) -> Result | None:
        """Return the finished cell of this key, None where it is absent or damaged: then compute it."""
        loaded = load_cell(self.fetched(self.cells / f"{check_key(key)}.json"))
        return loaded if isinstance(loaded, Result) else None

    def read_cells(self, keys: Sequence[str]) -> list[Result | None]:
        """Return many cells, as ``read_cell`` does each; those in a store are fetched several at once.

        A finished cell never changes: one that is here already is not asked for again.
        """
        here, finished = ResultsFolder(self.root), dict[str, Result]()
        if self.mirror is not None:
            places = {key: self.cells / f"{check_key(key)}.json" for key in keys}
            known = {key: here.read_cell(key) for key, path in places.items() if path.exists()}
            finished = {key: cell for key, cell in known.items() if cell is not None and cell.finished}
            wanted = [path for key, path in places.items() if key not in finished]
            if len(wanted) > FEW:  # most of which may not be there
                there = {one.name: one for one in self.mirror.listed("cells")}
                names = {path: self.mirror.name(path) for path in wanted}
                self.mirror.fetch_listed(there[name] for name in names.values() if name in there)
                wanted = [path for path, name in names.items() if name not in there and path.exists()]
            self.mirror.fetch_files(wanted)
        return [finished.get(key) or here.read_cell(key) for key in keys]

    def stamps(self, keys: Sequence[str]) -> dict[str, tuple[int, int] | None]:
        """Return the stamps of many cells, as ``stamp`` does each."""
        if self.mirror is None or len(keys) <= FEW:
            return {key: self.stamp(key) for key in keys}
        found = {one.name: one for one in self.mirror.listed("cells")}
        return {key: _stamp_of(found.get(f"cells/{check_key(key)}.json")) for key in keys}

    def stamp(self, key: str) -> tuple[int, int] | None:
        """Return what changes whenever a cell is written anew (inode, or what a store tells; time in ns); None where there is none."""
        if self.mirror is not None:
            return _stamp_of(self.mirror.store.info(f"cells/{check_key(key)}.json"))
        try:
            stat = (self.cells / f"{check_key(key)}.json").stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def write_cell(self, result: Result, run_record: Mapping[str, Any]) -> None:
        """Save a cell; ``run_record`` is what varies between runs (times, versions, host) and goes first."""
        path = self.cells / f"{check_key(result.key)}.json"
        write_json_atomic(path.with_suffix(".run.json"), run_record)
        write_json_atomic(path, result.to_json())
        self.publish(path.with_suffix(".run.json"), path)

    def iter_cells(self, begins: str = "") -> Iterator[tuple[Path, Result | DamagedCell]]:
        """Yield every cell file (whose name ``begins`` so) with its content, sorted by name."""
        if self.mirror is not None:
            self.mirror.fetch_folder("cells", wanted=lambda name: _is_cell(name.partition("/")[2], begins))
        for path in sorted(self.cells.glob("*.json")):
            if _is_cell(path.name, begins):
                yield path, load_cell(path)


def _is_cell(name: str, begins: str) -> bool:
    return name.startswith(begins) and name.endswith(".json") and not name.endswith(".run.json")


def _stamp_of(found: Found | None) -> tuple[int, int] | None:
    """Return the stamp of a file in a store as two numbers."""
    return None if found is None else (int(hashlib.sha256(found.stamp.encode()).hexdigest()[:15], 16), found.time)


def open_folder(place: str | Path | ResultsFolder) -> ResultsFolder:
    """Return the results folder at a path, or at any URL that fsspec knows; raise UserError for a URL that cannot be opened.

    ``file://`` is the disk, as a path is.
    """
    if isinstance(place, ResultsFolder):
        return place
    here = path_of(place)
    if here is not None:
        return ResultsFolder(here)
    from skillneurons.mirror import Mirror

    mirror = Mirror(Store(str(place)))
    return ResultsFolder(mirror.root, mirror)
