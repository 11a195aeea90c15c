"""What processes leave in a runs folder: locks, temporary files and folders. Who is at work now is told, never complained about.

An owner on this machine is dead or alive; of one elsewhere only its heartbeat could tell, so its lock counts as alive until that has
stood still for ``OLD`` seconds. A temporary file is a leftover once nobody holds a lock in the folder, or it is that old; commands
that take no lock (``leaderboard``, ``plot``) write beside the cells, where a leftover is ``QUIET`` seconds old at least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from skillneurons.complaint import Complaint, Mend, shown
from skillneurons.locks import LockFile, read_lock
from skillneurons.run_files import KEY, RunFiles, Temporary, last_change

OLD = 3600.0
QUIET = 600.0
_LOCKED = ("cells", "prompts", "passes", "cards", "across", "locks", "checkpoints")  # written under a lock alone
Clock = Callable[[], float]


@dataclass(frozen=True)
class FolderLocks:
    """The locks of a folder: those whose owner lives, or may, and those that somebody left."""

    live: tuple[LockFile, ...] = ()
    dead: tuple[LockFile, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return what is in somebody's hand now."""
        return frozenset(lock.name for lock in self.live)


def sorted_locks(files: RunFiles, mine: str = "", clock: Clock = time.time) -> FolderLocks:
    """Read the locks of a folder; those of the owner with the token ``mine`` are passed over."""
    live: list[LockFile] = []
    dead: list[LockFile] = []
    for entry in files.sections.get("locks", {}).values():
        lock = read_lock(files.root / "locks" / entry.name) if entry.kind == "file" else None
        if lock is None or (lock.owner is not None and lock.owner.token == mine):
            continue
        alive = lock.alive
        if alive is None:
            alive = clock() - lock.heartbeat[0] / 1e9 < OLD
        (live if alive else dead).append(lock)
    return FolderLocks(tuple(live), tuple(dead))


def lock_complaints(locks: FolderLocks) -> Iterator[Complaint]:
    """Yield who is at work, an owner each, and the locks that were left."""
    owners: dict[str, list[LockFile]] = {}
    for lock in locks.live:
        owners.setdefault(_owner(lock), []).append(lock)
    for owner, held in owners.items():
        names = ", ".join(lock.name for lock in held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
        yield Complaint("live", "locks", f"{owner} is at work on {names}")
    for lock in locks.dead:
        path = f"locks/{lock.path.name}"
        if lock.alive is False:
            what, mend = (
                f"left by {_owner(lock)}, which is gone; it keeps nobody from work",
                Mend("release", (path,), (lock.name,)),
            )
        else:
            what, mend = f"left by {_owner(lock)}: no sign of life for an hour", Mend("delete", (path,))
        yield Complaint("orphaned", path, what, "--mend removes it, and so does the next run", mend)


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
        if age < (OLD if locks.live else 0.0 if locked else QUIET):
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
