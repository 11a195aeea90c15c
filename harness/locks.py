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
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from skillneurons.atomic import cannot_write, make_folder
from skillneurons.errors import StorageError
from skillneurons.lock_owner import TOKENS, Owner, is_alive, owner_of, this_process
from skillneurons.results import check_key
from skillneurons.run_files import KEY

HEARTBEAT = 5.0  # seconds between two signs of life
STALE_AFTER = 120.0  # seconds without one, on another machine, until its owner is taken for dead
RUNNER = "runner-"  # how the lock of a whole run is called, which says that somebody is at work in the folder
ALONE = "alone"  # how the lock of ranks is called, who have the folder for themselves
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
    name, _, number = path.name.removesuffix(".lock").rpartition(".")
    if not KEY.fullmatch(name) or not number.isdecimal():
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
    return LockFile(path, name, int(number), owner, (stat.st_mtime_ns, stat.st_ino))


class Locks:
    """The locks that this process holds in one folder; as a context it keeps them alive and gives them back."""

    def __init__(
        self,
        folder: Path,
        *,
        heartbeat: float = HEARTBEAT,
        stale_after: float = STALE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.me = folder, this_process()
        TOKENS.add(self.me.token)
        self._every, self._stale_after, self._clock = heartbeat, stale_after, clock
        self._held: dict[str, tuple[Path, list[LockFile]]] = {}  # by name: own file, and those of dead owners before it
        self._seen: dict[
            Path, tuple[tuple[int, int], float]
        ] = {}  # others' heartbeats, and since when they stand still
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Locks:
        self._thread.start()
        return self

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
            with contextlib.suppress(OSError):  # not empty: others work here
                self.folder.rmdir()

    def _clear_dead(self) -> None:
        """Remove the locks of killed runners, whose cells are finished by now; a disk that is full keeps them."""
        with contextlib.suppress(StorageError):
            for lock in read_locks(self.folder):
                if lock.alive is False and self.take([lock.name]):
                    self.release([lock.name])

    def others(self, name: str) -> list[LockFile]:
        """Return the locks of a name whose owners are others and alive, as far as can be told."""
        own = self._held.get(name, (None, []))[0]
        return [lock for lock in read_locks(self.folder, name) if lock.path != own and self._may_live(lock)]

    def _may_live(self, lock: LockFile) -> bool:
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
        before = read_locks(self.folder, name)
        if any(self._may_live(lock) for lock in before):
            return False
        path = self.folder / f"{name}.{1 + max((lock.number for lock in before), default=0)}.lock"
        with self._guard:
            self._held[name] = (path, [])  # before it is there: a signal in between leaves nothing behind
        if not self._create(path) or self.others(name):  # another was first, or two came at once: both step back
            self.release([name])
            return False
        with self._guard:
            self._held[name] = (path, before)  # of dead owners: they go with it
        return True

    def _create(self, path: Path) -> bool:
        """Create a lock file with its content; False where another was first."""
        data = json.dumps(asdict(self.me), sort_keys=True).encode()
        draft = path.with_name(f".{path.name}.{self.me.token[:8]}.tmp")
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

    def release(self, names: Iterable[str]) -> None:
        """Give locks back; names that are not held are passed over, and files that are another's by now."""
        for name in names:
            held = self._held.get(name)
            if held is None:
                continue
            for lock in held[1]:
                found = read_lock(lock.path)
                if found is not None and found.owner == lock.owner:
                    _unlink(lock.path)
            if self._is_mine(held[0]):  # the own file last: it keeps others away
                _unlink(held[0])
            with self._guard:
                self._held.pop(name, None)

    def _is_mine(self, path: Path) -> bool:
        lock = read_lock(path)  # without an owner it cannot be read just now: it was made by this process
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
            for path in paths:
                if self._is_mine(path):  # else taken over: there is nothing to keep alive
                    with contextlib.suppress(OSError):
                        os.utime(path)


def of_others(locks: Locks, prefix: str) -> list[LockFile]:
    """Return the locks whose names begin so and whose owners are other processes, and alive as far as can be told."""
    names = sorted({lock.name for lock in read_locks(locks.folder) if lock.name.startswith(prefix)})
    found = [lock for name in names for lock in locks.others(name)]
    return [lock for lock in found if lock.owner is None or lock.owner.token not in TOKENS]


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone already
        path.unlink()


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
                    _unlink(path)
                    raise
        except FileExistsError:
            return False
    return True
