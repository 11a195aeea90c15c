"""Where locks stand: a folder on disk, or a place in a store (``store_locks``). A lock is a small file that holds its owner."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skillneurons.atomic import cannot_write, make_folder
from skillneurons.lock_owner import Owner, is_alive, owner_of
from skillneurons.run_files import KEY

HEARTBEAT = 5.0  # seconds between two signs of life
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True, slots=True)
class LockFile:
    """A lock on disk; ``owner`` is None where the file cannot be read (yet)."""

    path: Path
    name: str
    number: int
    owner: Owner | None
    heartbeat: tuple[int, int]  # (time stamp in ns, inode): it moves while the owner lives

    @property
    def alive(self) -> bool | None:
        """Whether its owner is there; None where only its heartbeat can tell (another machine)."""
        return None if self.owner is None else is_alive(self.owner)


def name_and_number(file_name: str) -> tuple[str, int] | None:
    """Return what a lock file is the lock of, and its number; None where it is no lock by its name."""
    name, _, number = file_name.removesuffix(".lock").rpartition(".")
    if not file_name.endswith(".lock") or not KEY.fullmatch(name) or not number.isdecimal():
        return None
    return name, int(number)


def read_locks(folder: Path, name: str | None = None) -> list[LockFile]:
    """Return the locks in a folder (of one name), in order; nothing is changed."""
    try:
        paths = sorted(folder.glob("*.lock" if name is None else f"{name}.*.lock"))
    except OSError:
        return []
    found = [lock for path in paths if (lock := read_lock(path)) is not None]
    return sorted(found, key=lambda lock: (lock.name, lock.number))


def read_lock(path: Path) -> LockFile | None:
    """Return the lock in a file; None where it is gone meanwhile, or no lock by its name."""
    known = name_and_number(path.name)
    if known is None:
        return None
    data = b""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError:  # another user's, which may not be read: its heartbeat still shows
        try:
            stat = path.stat()
        except OSError:
            return None
    owner = owner_of(data)
    return LockFile(path, *known, owner, (stat.st_mtime_ns, stat.st_ino))


class Shelf(Protocol):
    """Where the locks of one results folder stand, as one process sees it."""

    @property
    def every(self) -> float:
        """Seconds between two signs of life."""
        ...

    def open(self, me: Owner, data: bytes) -> None:
        """Begin to work here; raise UserError where nobody else may."""
        ...

    def place(self, file_name: str) -> Path: ...

    def find(self, name: str | None = None) -> list[LockFile]:
        """Return the locks (of one name), in order."""
        ...

    def look(self, path: Path) -> LockFile | None:
        """Return one lock as it is now; None where it is gone."""
        ...

    def create(self, path: Path, data: bytes, token: str) -> bool:
        """Create a lock with its content; False where another was first."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a lock; one that is gone already is passed over."""
        ...

    def beat(self, paths: Sequence[Path], is_mine: Callable[[Path], bool]) -> None:
        """Give a sign of life for these locks."""
        ...

    def close(self) -> None:
        """Leave; nothing of one's own stays behind."""
        ...


class LocalShelf:
    """A folder on disk; it is there while somebody has a lock. The time stamp of a lock is its heartbeat."""

    every = HEARTBEAT

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, me: Owner, data: bytes) -> None:
        """Do nothing: the first lock makes the folder."""

    def place(self, file_name: str) -> Path:
        return self.folder / file_name

    def find(self, name: str | None = None) -> list[LockFile]:
        return read_locks(self.folder, name)

    def look(self, path: Path) -> LockFile | None:
        return read_lock(path)

    def create(self, path: Path, data: bytes, token: str) -> bool:
        draft = path.with_name(f".{path.name}.{token[:8]}.tmp")
        while True:
            make_folder(self.folder)
            try:
                draft.write_bytes(data)
                return _linked(draft, path, data)
            except FileNotFoundError:
                continue  # another runner ended just now and took the empty folder with it
            except OSError as error:
                raise cannot_write(path, error) from error
            finally:
                with contextlib.suppress(OSError):  # never made
                    draft.unlink()

    def remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # gone already
            path.unlink()

    def beat(self, paths: Sequence[Path], is_mine: Callable[[Path], bool]) -> None:
        for path in paths:
            if is_mine(path):  # else taken over: there is nothing to keep alive
                with contextlib.suppress(OSError):
                    os.utime(path)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not empty: others work here
            self.folder.rmdir()


def _linked(draft: Path, path: Path, data: bytes) -> bool:
    """Give a file its name if nobody has it; file systems without links create it and write it in two steps."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with path.open("xb") as file:
                try:
                    file.write(data)
                    file.flush()
                except BaseException:
                    with contextlib.suppress(OSError):
                        path.unlink()
                    raise
        except FileExistsError:
            return False
    return True
