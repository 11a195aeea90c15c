"""Where the board reads its cells: run folders on disk, or any URL that fsspec knows.

A file's *stamp* changes when the file does (size and time on disk; elsewhere what the store tells).
A file without a stamp is read each time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from skillneurons.errors import ResultsError, StorageError
from skillneurons.results import ResultsFolder, open_folder

if TYPE_CHECKING:
    from skillneurons.mirror import Mirror
    from skillneurons.store import Found


class CellFile(NamedTuple):
    """One file of a source: its ``name`` in the folder, ``place`` to show and to remember it by, its stamp, and its bytes."""

    name: str
    place: str
    stamp: str
    size: int = 0


class Source(Protocol):
    """A run folder that is only read."""

    @property
    def place(self) -> str: ...

    def files(self, folder: str) -> list[CellFile]:
        """Return the JSON files of ``cells`` or ``across``, sorted by name, without run records."""
        ...

    def ahead(self, files: Sequence[CellFile]) -> None:
        """Make ready to read these files, where that is better done for many at once."""
        ...

    def read(self, file: CellFile) -> bytes:
        """Return a file's bytes; raise OSError where it cannot be read."""
        ...

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of ``passes/KEY/scores.safetensors`` or the like; None where there is no such file."""
        ...


def open_source(place: str | Path | ResultsFolder, listed: Sequence[Found] | None = None) -> Source:
    """Return the run folder at a path or URL; raise ResultsError where there is none, or no cells folder.

    ``listed`` is what a store was just seen to list of its cells.
    """
    folder = open_folder(place)
    return LocalFolder(folder.root) if folder.mirror is None else RemoteFolder(folder.mirror, listed)


@dataclass(frozen=True)
class LocalFolder:
    """A run folder on disk."""

    root: Path

    def __post_init__(self) -> None:
        if not (self.root / "cells").is_dir():
            raise _no_results(str(self.root), self.root.is_dir())

    @property
    def place(self) -> str:
        """The folder as it was given."""
        return str(self.root)

    def files(self, folder: str) -> list[CellFile]:
        """Return the JSON files of ``cells`` or ``across``; none where there is no such folder."""
        path = self.root / folder
        if not path.is_dir():
            return []
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_result(entry.name):
                    found.append(CellFile(entry.name, entry.path, *_local_stamp(entry)))
        return sorted(found)

    def ahead(self, files: Sequence[CellFile]) -> None:
        """Do nothing: a disk is read file by file."""

    def read(self, file: CellFile) -> bytes:
        """Return a file's bytes."""
        with open(file.place, "rb") as opened:  # noqa: PTH123 - ten thousand times, and pathlib is slow
            return opened.read()

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a file by its name in the folder; None where there is no such file, or it leads elsewhere."""
        if not _inside(name):
            return None
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultsError(f"cannot read {self.root / name}: {error.strerror}") from error


class RemoteFolder:
    """A run folder in a store: ``s3://bucket/run``, ``memory://run``, whatever fsspec has a driver for.

    What is read is kept in the mirror, so that nothing is fetched twice.
    """

    def __init__(self, mirror: Mirror, listed: Sequence[Found] | None = None) -> None:
        self._mirror, self.place = mirror, mirror.store.url
        self._found: dict[str, Found] = {}
        self._first = mirror.store.listing("cells") if listed is None else list(listed)
        if not self._first:
            raise _no_results(self.place, bool(mirror.store.listing("")))

    def files(self, folder: str) -> list[CellFile]:
        """Return the JSON files of ``cells`` or ``across``; none where there is no such folder."""
        listed, self._first = (self._first if folder == "cells" else []), []
        found = []
        for one in listed or self._mirror.store.listing(folder):
            name = one.name.rsplit("/", 1)[-1]
            if _is_result(name):
                self._found[f"{self.place}/{one.name}"] = one
                found.append(CellFile(name, f"{self.place}/{one.name}", one.stamp, one.size))
        return sorted(found, key=lambda one: one.name)

    def ahead(self, files: Sequence[CellFile]) -> None:
        """Fetch many files, several at once; what cannot be read is told when it is."""
        with contextlib.suppress(StorageError):
            self._mirror.fetch_listed(self._found[file.place] for file in files)

    def read(self, file: CellFile) -> bytes:
        """Return a file's bytes."""
        found = self._found[file.place]
        try:
            if not self._mirror.has(found):
                self._mirror.fetch_listed([found])
        except StorageError as error:
            if self._mirror.store.gone:
                raise  # a board of what happened to be read before would look like a whole one
            raise OSError(str(error)) from error
        return (self._mirror.root / found.name).read_bytes()

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a file by its name in the folder; None where there is no such file, or it leads elsewhere."""
        return self._mirror.store.read(name) if _inside(name) else None


def _local_stamp(entry: os.DirEntry[str]) -> tuple[str, int]:
    """Return a file's stamp and its bytes."""
    try:
        about = entry.stat()
    except OSError:
        return "", 0  # a link that leads nowhere: reading it tells
    return f"{about.st_size} {about.st_mtime_ns}", about.st_size


def _inside(name: str) -> bool:
    """Whether every part of a name is a plain file name: a cell may be a stranger's."""
    return all(part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in name.split("/"))


def _is_result(name: str) -> bool:
    return name.endswith(".json") and not name.endswith(".run.json") and not name.startswith(".")


def _no_results(place: str, there: bool) -> ResultsError:
    what = "it has no folder cells/" if there else "no such folder"
    return ResultsError(f"cannot read results from {place}: {what}; run `skillneurons run -o {place}` first")
