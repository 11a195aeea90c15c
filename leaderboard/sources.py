"""Where the board reads its cells: run folders on disk, or any URL that fsspec knows.

A file's *stamp* changes when the file does (size and time on disk; elsewhere what the store tells).
A file without a stamp is read each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from skillneurons.errors import ResultsError

URL = "://"
# what stores call a mark that changes with a file (a hash, a version), and its time
_MARKS = ("ETag", "etag", "md5", "md5Hash", "checksum", "CRC", "sha", "generation")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class CellFile(NamedTuple):
    """One file of a source: its ``name`` in the folder, ``place`` to show and to remember it by, and its stamp."""

    name: str
    place: str
    stamp: str


class Source(Protocol):
    """A run folder that is only read."""

    @property
    def place(self) -> str: ...

    def files(self, folder: str) -> list[CellFile]:
        """Return the JSON files of ``cells`` or ``across``, sorted by name, without run records."""
        ...

    def read(self, file: CellFile) -> bytes:
        """Return a file's bytes; raise OSError where it cannot be read."""
        ...

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of ``passes/KEY/scores.safetensors`` or the like; None where there is no such file."""
        ...


def open_source(place: str | Path) -> Source:
    """Return the run folder at a path or URL; raise ResultsError where there is none, or no cells folder."""
    if URL in str(place):
        return RemoteFolder(str(place))
    return LocalFolder(Path(place))


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
                    found.append(CellFile(entry.name, entry.path, _local_stamp(entry)))
        return sorted(found)

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
    """A run folder at a URL: ``s3://bucket/run``, ``memory://run``, whatever fsspec has a driver for."""

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]

        self.place = url.rstrip("/")
        try:
            with _store_errors():
                self._system, self._root = fsspec.core.url_to_fs(self.place)
                there = self._system.isdir(f"{self._root}/cells")
                known = there or self._system.exists(self._root)
        except ImportError as error:
            raise ResultsError(f"cannot read results from {url}: {error}") from error
        except OSError as error:
            raise ResultsError(f"cannot read results from {url}: {error}; check the address and your access") from error
        if not there:
            raise _no_results(url, known)

    def files(self, folder: str) -> list[CellFile]:
        """Return the JSON files of ``cells`` or ``across``; none where there is no such folder."""
        try:
            with _store_errors():
                entries: Sequence[dict[str, Any]] = self._system.ls(f"{self._root}/{folder}", detail=True, refresh=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ResultsError(
                f"cannot list {self.place}/{folder}: {error}; check the address and your access"
            ) from error
        found = []
        for entry in entries:
            name = str(entry["name"]).rsplit("/", 1)[-1]
            if _is_result(name):
                found.append(CellFile(name, f"{self.place}/{folder}/{name}", _stamp(entry)))
        return sorted(found, key=lambda one: one.name)

    def read(self, file: CellFile) -> bytes:
        """Return a file's bytes."""
        with _store_errors():
            data: bytes = self._system.cat_file(f"{self._root}/{file.place.removeprefix(self.place).lstrip('/')}")
        return data

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a file by its name in the folder; None where there is no such file, or it leads elsewhere."""
        if not _inside(name):
            return None
        try:
            with _store_errors():
                data: bytes = self._system.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultsError(f"cannot read {self.place}/{name}: {error}") from error
        return data


def _local_stamp(entry: os.DirEntry[str]) -> str:
    try:
        about = entry.stat()
    except OSError:
        return ""  # a link that leads nowhere: reading it tells
    return f"{about.st_size} {about.st_mtime_ns}"


def _stamp(entry: dict[str, Any]) -> str:
    """Return what changes with a file, as far as its store says; ``""`` where it says nothing that would."""
    marks = [str(entry.get(mark) or "") for mark in _MARKS]
    times = [ns for ns in (_nanoseconds(entry.get(name)) for name in _TIMES) if ns]
    return " ".join([str(entry.get("size")), *marks, *map(str, times[:1])]) if any(marks) or times else ""


def _nanoseconds(time: object) -> int | None:
    """Return a time as a store gives it, in ns since 1970, so that the index knows what is too young to trust; None for others."""
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return int(seconds * 1e9) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn what a store's driver raises, which may be anything, into OSError."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _inside(name: str) -> bool:
    """Whether every part of a name is a plain file name: a cell may be a stranger's."""
    return all(part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in name.split("/"))


def _is_result(name: str) -> bool:
    return name.endswith(".json") and not name.endswith(".run.json") and not name.startswith(".")


def _no_results(place: str, there: bool) -> ResultsError:
    what = "it has no folder cells/" if there else "no such folder"
    return ResultsError(f"cannot read results from {place}: {what}; run `skillneurons run -o {place}` first")
