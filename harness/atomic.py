"""Files that are there whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from skillneurons.errors import StorageError

TRIES = 100  # to make a folder that others remove at the same time


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Return the error that says what could not be written, why, and what helps."""
    remedy = "give another folder with -o DIR"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"free some space or {remedy}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "give a folder that you may write to with -o DIR"
    return StorageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; {remedy}")


def make_folder(path: Path) -> None:
    """Create a folder and its parents; raise StorageError where nothing can be written there."""
    for attempt in range(TRIES):
        try:
            path.mkdir(parents=True, exist_ok=True)
            if os.access(path, os.W_OK | os.X_OK):
                return
            if path.is_dir() or attempt == TRIES - 1:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            if isinstance(error, FileExistsError) and not path.exists() and attempt < TRIES - 1:
                continue  # another process removed the empty folder just now (or a link leads nowhere: then it stays so)
            raise cannot_write(path, error) from error


def check_folder(path: Path) -> None:
    """Raise StorageError where ``make_folder`` would; nothing is written."""
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    try:
        if not there.is_dir():
            code = errno.EEXIST if there == path else errno.ENOTDIR
            raise OSError(code, os.strerror(code))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(path, error) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it; raise StorageError where that fails."""
    write_together({path: data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of which none changes before all are on the disk; raise StorageError where that fails.

    A disk that fills up, or a folder in the place of a file, thus leaves everything as it was. Last the folder's names are put on
    the disk: an error there is told too, with the files in place.
    """
    temporaries = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp") for path in contents}
    place = next(iter(contents), Path())
    try:
        for place, data in contents.items():
            with temporaries[place].open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for place in contents:
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        for place, temporary in temporaries.items():
            temporary.replace(place)
        for folder in {place.parent for place in contents}:
            _sync_folder(folder)
    except OSError as error:
        raise cannot_write(place, error) from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):  # renamed, or never made: nothing is left to remove
                temporary.unlink()


def _put_back(former: Path, target: Path) -> None:
    try:
        former.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, so that a power cut does not take a rename back."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # a folder that may be written to but not read, or a system that opens no folders
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # file systems that sync no folders
            raise
    finally:
        os.close(opened)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a draft to fill, which takes the place of a folder when it is whole; raise StorageError where that fails.

    One that is broken off leaves what was there; a killed process may leave a hidden ``.tmp`` folder beside it.
    """
    draft, former = (target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{what}") for what in ("tmp", "old.tmp"))
    try:
        make_folder(draft)
        yield draft
        if target.exists():
            target.rename(former)
        draft.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        if former.exists() and not target.exists():  # broken off between the two renames
            _put_back(former, target)
        for left in (draft, former):
            shutil.rmtree(left, ignore_errors=True)
