"""Who works on what: one small file per cell in hand, so that runners that share a folder never do a cell twice.

``locks/<name>.<n>.lock`` holds its owner (host, process, since when); its time stamp is a heartbeat. ``name`` is a cell's key, or what
else one runner does at a time (a prompt, the board). A lock is taken by creating the file with the next number ``n``, which
succeeds for one; files of owners that are gone are left until then, so that two that find the same dead owner cannot both take
its place. Who has created its file looks again, and steps back if another is alive.

Whether an owner is alive: on the same machine, whether its process is there (a killed one is seen at once); elsewhere, whether the
heartbeat moves (``STALE_AFTER`` seconds by the observer's own clock: clocks of machines are never compared). A cell taken over from
an owner that only slept is done twice at worst, to the same bytes; nothing is ever half written.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from skillneurons.errors import StorageError
from skillneurons.lock_owner import TOKENS, this_process
from skillneurons.lock_shelf import LocalShelf, LockFile, Shelf, read_locks
from skillneurons.results import check_key

__all__ = ["RUNNER", "STALE_AFTER", "Locks", "read_locks"]

STALE_AFTER = 120.0  # seconds without one, on another machine, until its owner is taken for dead
RUNNER = "runner-"  # how the lock of a whole run is called, which says that somebody is at work in the folder
ALONE = "alone"  # how the lock of ranks is called, who have the folder for themselves


class Locks:
    """The locks that this process holds in one folder; as a context it keeps them alive and gives them back."""

    def __init__(
        self,
        folder: Path | Shelf,
        *,
        heartbeat: float | None = None,
        stale_after: float = STALE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shelf: Shelf = LocalShelf(folder) if isinstance(folder, Path) else folder
        self.me = this_process()
        TOKENS.add(self.me.token)
        self._every = self.shelf.every if heartbeat is None else heartbeat
        self._stale_after, self._clock = stale_after, clock
        self._held: dict[str, tuple[Path, list[LockFile]]] = {}  # by name: own file, and those of dead owners before it
        self._seen: dict[
            Path, tuple[tuple[int, int], float]
        ] = {}  # others' heartbeats, and since when they stand still
        self._buried: set[str] = set()  # tokens of owners that are known to be dead, wherever they ran
        self._stuck: set[str] = set()  # names that could not be given back
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Locks:
        try:
            self.shelf.open(self.me, self._data)
        except BaseException:
            TOKENS.discard(self.me.token)
            raise
        self._thread.start()
        return self

    @property
    def _data(self) -> bytes:
        """Return what a lock of this process holds."""
        return json.dumps(asdict(self.me), sort_keys=True).encode()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release(list(self._held))
            self._clear_dead()
        finally:
            self._stop.set()
            self._thread.join()
            TOKENS.discard(self.me.token)
            self.shelf.close()

    def _clear_dead(self) -> None:
        """Remove the locks of killed runners, whose cells are finished by now; a disk that is full keeps them."""
        with contextlib.suppress(StorageError):
            for lock in self.shelf.find():
                if (lock.alive is False or self._is_buried(lock)) and self.take([lock.name]):
                    self.release([lock.name])

    def bury(self, tokens: Iterable[str]) -> None:
        """Take the owners of these tokens for dead, also on other machines: who started them knows that they are."""
        self._buried.update(tokens)

    def _is_buried(self, lock: LockFile) -> bool:
        return lock.owner is not None and lock.owner.token in self._buried

    def others(self, name: str) -> list[LockFile]:
        """Return the locks of a name whose owners are others and alive, as far as can be told."""
        own = self._held.get(name, (None, []))[0]
        return [lock for lock in self.shelf.find(name) if lock.path != own and self._may_live(lock)]

    def _may_live(self, lock: LockFile) -> bool:
        if self._is_buried(lock):
            return False
        alive = lock.alive
        if alive is not None:
            return alive
        beat, since = self._seen.get(lock.path, (None, 0.0))
        if beat != lock.heartbeat:
            since = self._clock()
            self._seen[lock.path] = (lock.heartbeat, since)
        return self._clock() - since < self._stale_after

    def holds(self, name: str) -> bool:
        """Return whether a lock is still this process's: nobody took it over while it slept."""
        held = self._held.get(name)
        return held is not None and self._is_mine(held[0]) and not self.others(name)

    def take(self, names: Iterable[str]) -> bool:
        """Take locks of all these names, or none of them: False where one is another's."""
        taken: list[str] = []
        for name in sorted(set(names)):
            if not self._take(check_key(name)):
                self.release(taken)
                return False
            taken.append(name)
        return True

    def _take(self, name: str) -> bool:
        if name in self._stuck:
            self._stuck.discard(name)
            if self.holds(name):
                return True
        before = self.shelf.find(name)
        if any(self._may_live(lock) for lock in before):
            return False
        path = self.shelf.place(f"{name}.{1 + max((lock.number for lock in before), default=0)}.lock")
        with self._guard:
            self._held[name] = (path, [])  # before it is there: a signal in between leaves nothing behind
        created = self.shelf.create(path, self._data, self.me.token)
        if not created or self.others(name):  # another was first, or two came at once: both step back
            self.release([name])
            return False
        with self._guard:
            self._held[name] = (path, before)  # of dead owners: they go with it
        return True

    def release(self, names: Iterable[str]) -> None:
        """Give locks back; names that are not held are passed over, and files that are another's by now.

        Where a store does not answer just now a lock stays, until it is taken again or this process ends.
        """
        for name in names:
            held = self._held.get(name)
            if held is None:
                continue
            try:
                self._give_back(*held)
            except StorageError:
                self._stuck.add(name)
                continue
            with self._guard:
                self._held.pop(name, None)

    def _give_back(self, path: Path, before: Sequence[LockFile]) -> None:
        for lock in before:
            found = self.shelf.look(lock.path)
            if found is not None and found.owner == lock.owner:
                self.shelf.remove(lock.path)
        if self._is_mine(path):  # the own file last: it keeps others away
            self.shelf.remove(path)

    def _is_mine(self, path: Path) -> bool:
        lock = self.shelf.look(path)  # without an owner it cannot be read just now: it was made by this process
        return lock is not None and (lock.owner is None or lock.owner.token == self.me.token)

    @contextlib.contextmanager
    def held(self, name: str, waiting: Callable[[str], None] | None = None, poll: float = 0.2) -> Iterator[None]:
        """Hold one lock for a while; wait until it is free (``waiting`` is told who has it, once)."""
        told = False
        while not self.take([name]):
            if waiting is not None and not told:
                waiting(", ".join(self.owners([name])))
                told = True
            time.sleep(poll)
        try:
            yield
        finally:
            self.release([name])

    def owners(self, names: Iterable[str]) -> list[str]:
        """Return who holds locks of these names besides this process, as ``host:pid``."""
        found = {lock.owner.label for name in names for lock in self.others(name) if lock.owner is not None}
        return sorted(found) or ["another runner"]

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            with self._guard:
                paths = [path for path, _ in self._held.values()]
            with contextlib.suppress(StorageError):  # a store that does not answer just now
                self.shelf.beat(paths, self._is_mine)


def of_others(locks: Locks, prefix: str) -> list[LockFile]:
    """Return the locks whose names begin so and whose owners are other processes, and alive as far as can be told."""
    names = sorted({lock.name for lock in locks.shelf.find() if lock.name.startswith(prefix)})
    found = [lock for name in names for lock in locks.others(name)]
    return [lock for lock in found if lock.owner is None or lock.owner.token not in TOKENS]
