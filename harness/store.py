"""A place in a store that fsspec has a driver for (``s3://bucket/run``), with the rules that results need.

- A file appears whole. An object store's put is whole by itself; elsewhere a file is put under a hidden name and moved.
- ``create`` makes a file that is not there yet, for one of all who try: ``promises`` says whether that was ever meant to hold.
- What may succeed in a moment is tried again, ``TRIES`` times in all; after that the store counts as gone, and is asked once each time.
- Names that a listing returns are checked: only plain names under the place come out.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from skillneurons.errors import UserError
from skillneurons.store_errors import S3, code_of, is_transient, store_error, without_password
from skillneurons.store_url import URL, opened

WHOLE = (*S3, "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory")  # an object is there whole or not at all
PROMISES = (*S3, "gs", "gcs", "az", "abfs", "abfss", "memory")  # whose drivers ask the server to create, not to replace
BUCKETS = tuple(name for name in WHOLE if name != "memory")
TRIES, PAUSE = 4, 0.2  # s, four times as long each time
LONGEST = 30.0  # s, after which nothing is tried again
AT_ONCE = 64  # files in hand
# what stores call a mark that changes with a file (a hash, a version), and its time
_MARKS = ("ETag", "etag", "md5", "md5Hash", "checksum", "CRC", "sha", "generation")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_SECOND = 1_000_000_000  # ns
_MEMORY = threading.Lock()  # which looks and writes in two steps

T = TypeVar("T")


class Found(NamedTuple):
    """A file in a store: its ``name`` under the place, and what changes when it does ("" where nothing would); its time in ns."""

    name: str
    size: int
    stamp: str
    time: int


def is_plain(name: str) -> bool:
    """Whether every part of a name is a plain file name: what a store tells may be a stranger's."""
    return all(part not in ("", ".", "..") and not set(part) & set("\\:\0") for part in name.split("/"))


class Store:
    """One place in a store. ``url`` is how it is shown: without a password."""

    def __init__(self, url: str) -> None:
        url = url if url.endswith(URL) else url.rstrip("/")
        self.url = without_password(url)
        first = url.partition("::")[0].partition(URL)[0].lower()
        self._system, self._root = opened(url, first)
        self.protocol = first
        self.bucket = self._root.strip("/").partition("/")[0] if first in BUCKETS else ""
        self.promises = first in PROMISES
        self._gone = False
        self._folders: set[str] = set()
        if first in BUCKETS and not self.bucket:
            raise UserError(f"cannot open {self.url}: it names no bucket; write {first}://BUCKET/FOLDER")

    @property
    def gone(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._gone

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def shown(self, name: str) -> str:
        """Return the URL of a file as it may be shown."""
        return f"{self.url}/{name}" if name else self.url

    def _tried(self, does: str, name: str, action: Callable[[], T], known: tuple[type[Exception], ...] = ()) -> T:
        """Do something, again where that may help; raise StorageError where it fails, ``known`` errors as they are."""
        pause, begun = PAUSE, time.monotonic()
        for left in reversed(range(1 if self._gone else TRIES)):
            try:
                done = action()
                self._gone = False
                return done
            except known:
                raise
            except Exception as error:
                if left and is_transient(error) and time.monotonic() - begun < LONGEST:
                    time.sleep(pause)
                    pause *= 4
                    continue
                self._gone = is_transient(error)
                raise store_error(does, self.shown(name), error, self.protocol, self.bucket) from error
        raise AssertionError("the last try returns or raises")

    def check(self) -> None:
        """Raise StorageError where the place cannot be looked at; nothing is written."""
        self.listing("cells")
        if (
            self.bucket
            and self.protocol not in S3
            and not self._tried("open", "", lambda: self._system.exists(self.bucket))
        ):
            error = FileNotFoundError(self.bucket)
            error.__cause__ = _NoBucketError()
            raise store_error("open", self.url, error, self.protocol, self.bucket)

    def listing(self, folder: str, *, deep: bool = False) -> list[Found]:
        """Return the files in a folder (and, ``deep``, in folders under it), sorted by name; none where there is no such folder.

        Names that are not plain are left out: no file of ours has one.
        """
        place = self._at(folder)

        def listed() -> list[dict[str, Any]]:
            try:
                if deep:
                    return list(self._system.find(place, detail=True).values())
                return list(self._system.ls(place, detail=True))
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return []
            except NotADirectoryError:
                return []

        prefix = f"{root}/" if (root := self._root.strip("/")) else ""
        found = []
        for entry in self._tried("list", folder, listed):
            full = str(entry["name"]).strip("/")
            name = full.removeprefix(prefix)
            if entry.get("type") != "directory" and full.startswith(prefix) and is_plain(name) and name != folder:
                found.append(_found(name, entry))
        return sorted(found)

    def info(self, name: str) -> Found | None:
        """Return what the store says of one file; None where it is not there."""

        def asked() -> Found | None:
            try:
                entry = self._system.info(self._at(name))
            except FileNotFoundError:
                return None
            return None if entry.get("type") == "directory" else _found(name, entry)

        return self._tried("read", name, asked)

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where it is not there."""

        def got() -> bytes | None:
            try:
                data: bytes = self._system.cat_file(self._at(name))
            except (FileNotFoundError, IsADirectoryError):
                return None
            return data

        return self._tried("read", name, got)

    def read_many(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield (name, bytes) of many files, several in hand at once; None for one that is not there."""
        for begin in range(0, len(names), AT_ONCE):
            part = names[begin : begin + AT_ONCE]
            asked = [self._at(name) for name in part]
            got = self._tried("read", part[0], lambda asked=asked: self._system.cat(asked, on_error="return"))  # type: ignore[misc]
            by_place = {str(place).strip("/"): data for place, data in got.items()}
            for name, place in zip(part, asked, strict=True):
                data = by_place.get(place.strip("/"))
                yield name, data if isinstance(data, bytes) else self.read(name)  # which tells why not, or tries again

    def put(self, name: str, data: bytes) -> None:
        """Write a file, which is there whole or not at all; one of the same name is replaced."""
        if self.protocol in WHOLE:
            self._tried("write", name, lambda: self._system.pipe_file(self._at(name), data))
            return
        parent, _, last = self._at(name).rpartition("/")
        draft = f"{parent}/.{last}.{uuid.uuid4().hex[:8]}.tmp"

        def moved() -> None:
            if parent not in self._folders:
                self._system.makedirs(parent, exist_ok=True)
                self._folders.add(parent)
            try:
                self._system.pipe_file(draft, data)
                self._move(draft, self._at(name))
            except FileNotFoundError:
                self._folders.discard(parent)  # another runner took the empty folder with it
                raise

        self._tried("write", name, moved)

    def _move(self, draft: str, place: str) -> None:
        try:
            self._system.mv(draft, place)
        except FileExistsError:  # file systems that rename nothing over a file
            self._system.rm_file(place)
            self._system.mv(draft, place)

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Write several files, in any order."""
        if self.protocol in WHOLE and len(contents) > 1:
            placed = {self._at(name): data for name, data in contents.items()}
            self._tried("write", next(iter(contents)), lambda: self._system.pipe(placed))
            return
        for name, data in contents.items():
            self.put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file if it is not there; False where it is. ``data`` must be of one writer alone: its own is known again by it.

        A store that does not keep its promise overwrites: see ``keeps_promise``.
        """

        def refused(error: Exception) -> bool:
            told = code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
            return isinstance(error, FileExistsError) or told

        def created() -> bool:
            try:
                with _MEMORY if self.protocol == "memory" else contextlib.nullcontext():
                    self._system.pipe_file(self._at(name), data, mode="create")
            except Exception as error:
                if refused(error):
                    return False
                raise
            return True

        if not self.promises:
            if self.info(name) is not None:
                return False
            self.put(name, data)
            return True
        return self._tried("write", name, created) or self.read(name) == data  # the answer to the first try was lost

    def keeps_promise(self, name: str, data: bytes) -> bool:
        """Find out whether a file that is there is not created again: this one is made twice, and stays."""
        if not self.promises:
            self.put(name, data)
            return False
        try:
            self._tried("write", name, lambda: self._twice(name, data), (_UnkeptError,))
        except _UnkeptError:
            self.promises = False
        return self.promises

    def _twice(self, name: str, data: bytes) -> None:
        place = self._at(name)
        self._system.pipe_file(place, data)
        try:
            self._system.pipe_file(place, data, mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or code_of(error) in ("PreconditionFailed", "412"):
                return
            if code_of(error) in ("NotImplemented", "501") or isinstance(error, NotImplementedError | TypeError):
                raise _UnkeptError from error
            raise
        raise _UnkeptError

    def remove(self, *names: str) -> None:
        """Remove files; those that are not there are passed over."""
        for name in names:

            def removed(name: str = name) -> None:
                with contextlib.suppress(FileNotFoundError):
                    self._system.rm_file(self._at(name))

            self._tried("write", name, removed)


class _UnkeptError(Exception):
    """A store that was asked to create a file replaced it."""


class _NoBucketError(Exception):
    response: Mapping[str, Any] = {"Error": {"Code": "NoSuchBucket"}}


def _found(name: str, entry: Mapping[str, Any]) -> Found:
    """Return a file with its stamp, as far as its store says what would change; a time stands at the end of a stamp.

    Beside a mark a time is in whole seconds: some servers list it finer than they tell it of one file, and the stamp must be the same.
    """
    marks = [str(entry.get(mark) or "") for mark in _MARKS]
    unit = _SECOND if any(marks) else 1
    times = [ns // unit * unit for ns in (_nanoseconds(entry.get(one)) for one in _TIMES) if ns]
    stamp = " ".join([str(entry.get("size")), *marks, *map(str, times[:1])]) if any(marks) or times else ""
    return Found(name, int(entry.get("size") or 0), stamp, times[0] if times else 0)


def _nanoseconds(time: object) -> int | None:
    """Return a time as a store gives it, in ns since 1970; None for others."""
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return int(seconds * 1e9) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
