"""Mend what an examination says can be mended, under locks, so that no runner starts on the same meanwhile.

What was finished, or may be somebody's result, is moved to ``set-aside/<n>/`` with its place in the folder, a new number each time,
by renaming; dead locks, temporary files, superseded checkpoints and a damaged index are deleted. The folder is examined again under
the locks before anything is touched, and after each round until nothing is left that can be mended: what a cell leaves behind
belongs to nothing. Where somebody is at work, nothing is done.

Whether the owner of a lock on another machine lives is told by its heartbeat alone, so that is watched before: a lock that stands
still for ``STALE_AFTER`` seconds of this process's own clock is dead, as runners hold it too.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from skillneurons.atomic import cannot_write
from skillneurons.complaint import Complaint, Examination, shown
from skillneurons.doctor import examine
from skillneurons.errors import ResultsError, StorageError, UserError
from skillneurons.leftovers import FolderLocks, sorted_locks
from skillneurons.lock_shelf import HEARTBEAT, LockFile, read_lock
from skillneurons.locks import RUNNER, STALE_AFTER, Locks
from skillneurons.registry import Registry

ASIDE = "set-aside"
_MINE = "doctor"  # the lock of whoever mends


@dataclass
class Mended:
    """What was done, a line each, what could not be done, and the examination afterwards."""

    done: list[str]
    failed: list[str]
    left: Examination


@dataclass(frozen=True)
class Watch:
    """How heartbeats are watched: by which clock, with which pauses, and who is told that it takes a while."""

    say: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def mend(root: Path, registry: Registry, *, deep: bool = False, watch: Watch | None = None) -> Mended:
    """Mend a runs folder; raise UserError where somebody works in it, StorageError where nothing can be written."""
    watch = watch or Watch()
    look = partial(examine, root, registry, deep=deep)
    found, seen = look(), sorted_locks(root)
    _refuse(root, FolderLocks(live=seen.live))
    todo = [one for one in found.found if one.mend is not None]
    if not todo and not seen.unseen:
        return Mended([], [], found)
    for name in ("locks", ASIDE):
        if (root / name).is_symlink():
            raise ResultsError(
                f"cannot mend {root}: {name} is a symbolic link, which is not followed; put a folder in its place"
            )
    work = _Work(root, [], [])
    locks = Locks(root / "locks", stale_after=STALE_AFTER, clock=watch.clock)
    dead = _stood_still(root, locks, seen, watch)
    try:
        with locks:
            _take(root, locks, {_MINE})
            _delete_dead(work, dead)
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


def _refuse(root: Path, locks: FolderLocks) -> None:
    if locks.at_work:
        told = "; ".join(locks.at_work)
        raise UserError(f"cannot mend {root} now: {told}; wait until that has ended, or stop it first")


def _stood_still(root: Path, locks: Locks, seen: FolderLocks, watch: Watch) -> list[LockFile]:
    """Watch the locks of which one look cannot tell; return those that stood still, raise UserError where one moved."""
    watched = list(seen.unseen)
    locks.others(_MINE)  # from now on it watches these too, as it must to take the place of a dead one
    begun = watch.clock()
    if watched:
        who = "; ".join(FolderLocks(unseen=seen.unseen).at_work)
        watch.say(f"{who}: watching for a heartbeat, {STALE_AFTER:.0f} seconds at most")
    while watched:
        now = [(lock, read_lock(lock.path)) for lock in watched]
        _refuse(root, FolderLocks(live=tuple(again for lock, again in now if again and _lives(lock, again))))
        watched = [lock for lock, again in now if again is not None and again.alive is None]
        if watch.clock() - begun >= STALE_AFTER:
            break
        if watched:
            watch.sleep(HEARTBEAT)
            locks.others(_MINE)
    return watched


def _lives(before: LockFile, now: LockFile) -> bool:
    return bool(now.alive) or (now.alive is None and now.heartbeat != before.heartbeat)


def _take(root: Path, locks: Locks, names: set[str]) -> None:
    if not locks.take(names):
        raise UserError(
            f"cannot mend {root} now: {', '.join(locks.owners(names))} is at work; wait until that has ended"
        )


def _delete_dead(work: _Work, dead: Sequence[LockFile]) -> None:
    """Delete the locks that stood still while they were watched, if they still do."""
    still = [(lock, again) for lock in dead if (again := read_lock(lock.path)) is not None]
    _refuse(work.root, FolderLocks(live=tuple(again for lock, again in still if _lives(lock, again))))
    for lock, _ in still:
        try:
            lock.path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(lock.path, error) from error
        work.done.append(f"deleted locks/{lock.path.name}")


def _in_rounds(work: _Work, root: Path, locks: Locks, look: Callable[[], Examination]) -> None:
    """Examine, lock what is to be mended, examine again, mend; until nothing is left or nothing more can be done."""
    held = {_MINE}
    _refuse(root, sorted_locks(root, locks.me.token))
    while True:
        found = look()
        _refuse(root, _without_runners(sorted_locks(root, locks.me.token)))
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


def _without_runners(now: FolderLocks) -> FolderLocks:
    """Return the locks without those of whole runs, which came after the doctor's and wait for it."""
    live, unseen = (tuple(one for one in part if not one.name.startswith(RUNNER)) for part in (now.live, now.unseen))
    return FolderLocks(live=live, unseen=unseen)


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
