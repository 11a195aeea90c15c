"""Mend what an examination says can be mended, under locks, so that no runner starts on the same meanwhile.

What was finished, or may be somebody's result, is moved to ``set-aside/<n>/`` with its place in the folder, a new number each time,
by renaming; dead locks, temporary files, superseded checkpoints and a damaged index are deleted. The folder is examined again under
the locks before anything is touched, and after each round until nothing is left that can be mended: what a cell leaves behind
belongs to nothing. Where somebody is at work, nothing is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from skillneurons.complaint import Complaint, Examination, shown
from skillneurons.doctor import examine
from skillneurons.errors import ResultsError, StorageError, UserError
from skillneurons.locks import Locks
from skillneurons.registry import Registry

ASIDE = "set-aside"
_MINE = "doctor"  # the lock of whoever mends


@dataclass
class Mended:
    """What was done, a line each, what could not be done, and the examination afterwards."""

    done: list[str]
    failed: list[str]
    left: Examination


def mend(root: Path, registry: Registry, *, deep: bool = False) -> Mended:
    """Mend a runs folder; raise UserError where somebody works in it, StorageError where nothing can be written."""
    look = partial(examine, root, registry, deep=deep)
    found = look()
    _refuse_live(root, found)
    todo = [one for one in found.found if one.mend is not None]
    if not todo:
        return Mended([], [], found)
    for name in ("locks", ASIDE):
        if (root / name).is_symlink():
            raise ResultsError(
                f"cannot mend {root}: {name} is a symbolic link, which is not followed; put a folder in its place"
            )
    work = _Work(root, [], [])
    _delete_old_locks(work, todo)
    locks = Locks(root / "locks")
    try:
        with locks:
            _take(root, locks, {_MINE})
            _in_rounds(work, root, locks, lambda: look(mine=locks.me.token))
    except StorageError as error:
        told = str(error).rpartition(";")[0]
        raise StorageError(f"{told}; mending writes into the folder: become somebody who may") from error
    for one in todo:
        if one.mend is not None and one.mend.action == "release" and not (root / one.path).exists():
            work.done.append(f"deleted {shown(one.path)}")  # given back with the locks
    return Mended(work.done, work.failed, look())


@dataclass
class _Work:
    """The folder, and what was done to it; ``aside`` is the folder of this mending, once there is one."""

    root: Path
    done: list[str]
    failed: list[str]
    aside: Path | None = None
    tried: set[str] = field(default_factory=set)


def _refuse_live(root: Path, found: Examination) -> None:
    if found.live:
        told = "; ".join(one.what for one in found.live)
        raise UserError(f"cannot mend {root} now: {told}; wait until that has ended, or stop it first")


def _take(root: Path, locks: Locks, names: set[str]) -> None:
    if not locks.take(names):
        raise UserError(
            f"cannot mend {root} now: {', '.join(locks.owners(names))} is at work; wait until that has ended"
        )


def _delete_old_locks(work: _Work, todo: Sequence[Complaint]) -> None:
    """Delete locks that nobody renewed for long, of owners that are not to be seen from here."""
    for one in todo:
        if (
            one.mend is not None
            and one.mend.action == "delete"
            and one.path.startswith("locks/")
            and one.path.endswith(".lock")
        ):
            _do(work, one)


def _in_rounds(work: _Work, root: Path, locks: Locks, look: Callable[[], Examination]) -> None:
    """Examine, lock what is to be mended, examine again, mend; until nothing is left or nothing more can be done."""
    held = {_MINE}
    while True:
        found = look()
        _refuse_live(root, found)
        todo = [one for one in found.found if one.mend is not None and one.mend.action != "release"]
        todo = [one for one in todo if not work.tried.issuperset(one.mend.paths if one.mend else ())]
        if not todo:
            return
        names = {name for one in todo if one.mend is not None for name in one.mend.names} - held
        if names:
            _take(root, locks, names)
            held |= names
            continue
        back = [one for one in todo if one.mend is not None and one.mend.action == "put back"]
        for one in back or todo:  # what is put back is missed by nobody any more
            _do(work, one)


def _do(work: _Work, one: Complaint) -> None:
    """Do what mends one complaint; what cannot be done is told, and not tried again."""
    assert one.mend is not None  # noqa: S101 - only these come here
    for path in one.mend.paths:
        place = work.root / path
        if path in work.tried and not _is_there(place):
            continue  # moved with another complaint
        work.tried.add(path)
        if not _is_there(place):
            continue
        try:
            _check_inside(work.root, place)
            if one.mend.action == "set aside":
                target = _set_aside(work, path)
                work.done.append(f"set aside {shown(path)} as {shown(target)}")
            elif one.mend.action == "put back":
                place.rename(work.root / one.mend.to)
                work.done.append(f"put back {shown(one.mend.to)} from {shown(path)}")
            else:
                _delete(place)
                work.done.append(f"deleted {shown(path)}")
        except OSError as error:
            work.failed.append(f"{shown(path)} cannot be mended: {(error.strerror or str(error)).lower()}")


def _is_there(place: Path) -> bool:
    return place.exists() and not place.is_symlink()


def _check_inside(root: Path, place: Path) -> None:
    """Raise OSError where a path has come to lead out of the folder."""
    if place.parent.resolve() != root.resolve() / place.parent.relative_to(root):
        raise OSError(f"{place.parent} leads elsewhere")


def _set_aside(work: _Work, path: str) -> str:
    """Move a file or folder to this mending's folder; return where it is now."""
    if work.aside is None:
        work.aside = _new_folder(work.root / ASIDE)
    target = work.aside / path
    target.parent.mkdir(parents=True, exist_ok=True)
    (work.root / path).rename(target)
    return target.relative_to(work.root).as_posix()


def _new_folder(aside: Path) -> Path:
    aside.mkdir(exist_ok=True)
    number = 1 + max((int(path.name) for path in aside.iterdir() if path.name.isdecimal()), default=0)
    while True:
        try:
            (aside / str(number)).mkdir()
            return aside / str(number)
        except FileExistsError:
            number += 1


def _delete(place: Path) -> None:
    """Delete a file, or a folder with what is in it; links in it are removed and not followed."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if place.parent.name == "checkpoints" and not any(place.parent.iterdir()):
        place.parent.rmdir()
