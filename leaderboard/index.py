"""What earlier builds of a board worked out, in one Parquet file, keyed by the hashes of the files it came from.

An entry is (kind, digest, value): nothing in it can go stale, because whatever it was made from is in its digest, the
program included. A file whose stamp has not changed is not read again to know its hash, unless the build is a check.
An index that cannot be read is made anew; it is never needed.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import skillneurons.results
from skillneurons.atomic import write_atomic
from skillneurons.leaderboard.arrow import arrow_column
from skillneurons.leaderboard.settings import parse_json, plain_bytes
from skillneurons.results import BOARD_INDEX
from skillneurons.store_url import URL

NAME = BOARD_INDEX
_UNSURE_NS = 2_000_000_000  # a file as young as this may change again without a new time stamp
_FILES, _PROGRAM = "files", b"program"
_COLUMNS = ("kind", "digest", "value")


class Index:
    """The entries of the last build, and those that this build used."""

    def __init__(self, path: Path | None = None, home: str = "") -> None:
        """Read the index in a file; ``home`` is the URL of the folder where it is kept, if that is in a store."""
        self._path = path
        self._home = home if URL in home else ""
        self._old: dict[tuple[str, str], bytes] = {}
        self._new: dict[tuple[str, str], bytes] = {}
        self._old_files: dict[str, list[str]] = {}
        self._files: dict[str, list[str]] = {}
        self._offered: dict[tuple[str, str], bytes] = {}
        self._read: dict[str, list[str]] = {}  # files of this build, whatever their age
        self._folders: dict[str, str] = {}  # how a folder was given: where it lies, seen from the index
        if path is not None:
            self._old = _read(path)
            self._old_files = parse_json(self._old.pop((_FILES, ""), b"{}"))

    def get(self, kind: str, digest: str) -> bytes | None:
        """Return a value and keep it for the next build; None where it must be made."""
        value = self._old.get((kind, digest))
        if value is None:
            value = self._offered.get((kind, digest))
        if value is None:
            return None
        self._new[kind, digest] = value
        return value

    def offer(self, kind: str, digest: str, value: bytes) -> None:
        """Add a value that this build may use; what it does not use is not kept for the next."""
        self._offered[kind, digest] = value

    def put(self, kind: str, digest: str, value: bytes) -> None:
        """Add a value."""
        self._new[kind, digest] = value

    def known(self, place: str, stamp: str) -> list[str] | None:
        """Return what is remembered about a file that still has this stamp."""
        place = self._seen_from_here(place)
        if place in self._read:
            return self._read[place]
        about = self._old_files.get(place)
        if about is None or not stamp or about[0] != stamp:
            return None
        self._files[place] = about
        return about[1:]

    def remember(self, place: str, stamp: str, about: list[str]) -> None:
        """Remember one file; a local stamp ends with the time of its last change in ns."""
        place = self._seen_from_here(place)
        last = stamp.rpartition(" ")[2]
        if last.isdecimal() and time.time_ns() - int(last) < _UNSURE_NS:
            stamp = "?"
        self._files[place] = [stamp, *about]
        self._read[place] = about

    def _seen_from_here(self, place: str) -> str:
        """Return a file's place as it is however its folder was given, also when it moves with the index."""
        folder, _, name = place.rpartition("/")
        if self._home and place.startswith(f"{self._home}/"):
            return place.removeprefix(f"{self._home}/")
        if self._path is None or URL in place:
            return place
        if folder not in self._folders:
            here = os.path.abspath(self._path.parent)  # noqa: PTH100 - no link is followed
            there = os.path.abspath(folder)  # noqa: PTH100
            self._folders[folder] = there if self._home else os.path.relpath(there, here)
        return f"{self._folders[folder]}/{name}"

    def save(self) -> bool:
        """Write what this build used, where it differs from what is there, and say whether; raise ResultsError where that fails."""
        if self._path is None or (self._new == self._old and self._files == self._old_files):
            return False
        import pyarrow as pa
        import pyarrow.parquet as pq

        entries = {**self._new, (_FILES, ""): plain_bytes(self._files)}
        kinds, digests = zip(*entries, strict=True)
        columns = [arrow_column(kinds, str), arrow_column(digests, str), arrow_column(list(entries.values()), bytes)]
        table = pa.Table.from_arrays(columns, names=list(_COLUMNS))
        sink = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({_PROGRAM: program()}),
            sink,
            compression="lz4",
            use_dictionary=["kind"],
            write_statistics=False,
        )
        write_atomic(self._path, sink.getvalue())
        return True


def _read(path: Path) -> dict[tuple[str, str], bytes]:
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(_PROGRAM) != program().encode():
                return {}
            table = file.read(columns=list(_COLUMNS), use_threads=False)  # starting them takes longer than reading
        kinds, digests, values = (table.column(name).to_pylist() for name in _COLUMNS)
        return dict(zip(zip(kinds, digests, strict=True), values, strict=True))
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return {}  # damaged, or not an index: everything is worked out again


def digest_of(parts: Iterable[str]) -> str:
    """Return the hash of several texts, in their order."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@cache
def program() -> str:
    """Return the hash of the source that makes a board out of cells: another one makes another board."""
    here, harness = Path(__file__).parent, Path(skillneurons.results.__file__).parent
    read = [
        harness / name
        for name in ("cell_file.py", "cell_form.py", "causal_form.py", "form.py", "across_file.py", "types.py")
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in [*sorted(here.glob("*.py")), *read])).hexdigest()[
        :16
    ]
