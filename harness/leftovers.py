"""What processes leave in a runs folder: locks, temporary files and folders. Who is at work now is told, never complained about.

An owner on this machine is dead or alive. Of one elsewhere, or one that a lock does not name, only the heartbeat could tell, and only
to who watches it: the clocks of machines are never compared, so its lock counts as held here. A temporary file is a leftover once
nobody holds a lock in the folder; commands that take no lock (``leaderboard``, ``plot``) write beside the cells, where a leftover is
``QUIET`` seconds old at least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from skillneurons.complaint import Complaint, Mend, shown
from skillneurons.lock_shelf import LockFile, read_locks
from skillneurons.run_files import KEY, RunFiles, Temporary, last_change

QUIET = 600.0
_LOCKED = ("cells", "prompts", "passes", "cards", "across", "locks", "checkpoints")  # written under a lock alone
Clock = Callable[[], float]


@dataclass(frozen=True)
class FolderLocks:
    """The locks of a folder: those whose owner lives, those that somebody left, and those of which one look cannot tell."""

    live: tuple[LockFile, ...] = ()
    dead: tuple[LockFile, ...] = ()
    unseen: tuple[LockFile, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return what is in somebody's hand now, or may be."""
        return frozenset(lock.name for lock in (*self.live, *self.unseen))

    @property
    def at_work(self) -> list[str]:
        """Return who is at work, or may be, and on what: an owner each."""
        return [*_told(self.live, "is at work on"), *_told(self.unseen, "may be at work on")]


def sorted_locks(root: Path, mine: str = "") -> FolderLocks:
    """Read the locks of a folder; those of the owner with the token ``mine`` are passed over, and so are symbolic links."""
    sorted_by_life: dict[bool | None, list[LockFile]] = {True: [], False: [], None: []}
    folder = root / "locks"
    for lock in [] if folder.is_symlink() else read_locks(folder):
        if not lock.path.is_symlink() and (lock.owner is None or lock.owner.token != mine):
            sorted_by_life[lock.alive].append(lock)
    return FolderLocks(tuple(sorted_by_life[True]), tuple(sorted_by_life[False]), tuple(sorted_by_life[None]))


def lock_complaints(locks: FolderLocks) -> Iterator[Complaint]:
    """Yield who is at work, or may be, an owner each, and the locks that were left."""
    for what in _told(locks.live, "is at work on"):
        yield Complaint("live", "locks", what)
    for what in _told(locks.unseen, "may be at work on"):
        yield Complaint("live", "locks", what, "its heartbeat is watched when mending")
    for lock in locks.dead:
        path = f"locks/{lock.path.name}"
        what = f"left by {_owner(lock)}, which is gone; it keeps nobody from work"
        mend = Mend("release", (path,), (lock.name,))
        yield Complaint("orphaned", path, what, "--mend removes it, and so does the next run", mend)


def _told(locks: Iterable[LockFile], does: str) -> list[str]:
    """Return a line per owner that says what its locks are of."""
    owners: dict[str, list[str]] = {}
    for lock in locks:
        owners.setdefault(_owner(lock), []).append(lock.name)
    return [
        f"{owner} {does} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for owner, names in owners.items()
    ]


def _owner(lock: LockFile) -> str:
    if lock.owner is None:
        return "a runner that its lock does not name"
    return shown(f"{lock.owner.label} (since {lock.owner.since})", 200)


def temporary_complaints(
    files: RunFiles, temporaries: Iterable[Temporary], locks: FolderLocks, clock: Clock = time.time
) -> Iterator[Complaint]:
    """Yield the temporary files and folders that were left, and say which may still be in use."""
    for one in temporaries:
        age = clock() - last_change(files.root / one.path, one.entry) / 1e9
        locked = one.path.split("/")[0] in _LOCKED
        if locks.at_work or (not locked and age < QUIET):
            what = "a temporary file, perhaps of a command at work"
            yield Complaint("remark", one.path, what, "look again when no command works here")
            continue
        target = files.root / one.target
        if one.former and one.entry.kind == "folder" and not target.exists() and not target.is_symlink():
            what = f"what {shown(one.target)} was before a killed process replaced it, and nothing took its place"
            mend = Mend("put back", (one.path,), _names(one), one.target)
            yield Complaint("orphaned", one.path, what, "--mend puts it back", mend)
            continue
        what = "left by a process that was killed; nothing reads it"
        yield Complaint("orphaned", one.path, what, "--mend deletes it", Mend("delete", (one.path,), _names(one)))


def _names(one: Temporary) -> tuple[str, ...]:
    """Return the locks under which a temporary file is written."""
    section, _, name = one.target.partition("/")
    key = name.split("/")[0].split(".")[0]
    if section in ("prompts", "checkpoints"):
        return (f"prompt-{key}",) if KEY.fullmatch(key) else ()
    if section in ("cells", "passes", "cards", "across"):
        return (key,) if KEY.fullmatch(key) else ()
    return () if section == "locks" else ("board",)
