"""Locks in a store: the same files as on disk, created by a conditional put, and one sign of life per process.

``locks/alive-<token>.1.lock`` is put again every ``BEAT`` seconds; its stamp is the heartbeat of all locks of its owner. Whether the
store keeps the promise that rests on (a file that is there is not created again) is tried out at the start. Where it does not, one
runner works at a time: a second that finds another's sign of life refuses. Two that come at once both write their sign, wait
``SETTLE`` seconds and look: the one whose sign is the older by the store's own clock stays (of the same time, the smaller token), and the
other gives way. The later one always sees the earlier; the earlier may not see the later, and need not.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from skillneurons.errors import StorageError, UserError
from skillneurons.lock_owner import Owner, is_alive, owner_of
from skillneurons.lock_shelf import LocalShelf, LockFile, Shelf, name_and_number
from skillneurons.locks import STALE_AFTER
from skillneurons.results import ResultsFolder
from skillneurons.store import Store

BEAT = 20.0  # seconds between two signs of life
SETTLE = 3.0  # seconds until what two wrote at once is seen by both; more than a store's clock is coarse
ALIVE, PROBE = "alive-", "probe-"
_FOLDER = "locks"


def shelf_of(folder: ResultsFolder, *, single_writer: bool = True) -> Shelf:
    """Return where the locks of a results folder stand.

    ``single_writer=False`` is for a process that works on behalf of one that holds to that rule already.
    """
    if folder.mirror is None:
        return LocalShelf(folder.locks)
    return StoreShelf(folder.mirror.store, single_writer=single_writer)


class StoreShelf:
    """The folder ``locks`` of a store; it is there while somebody has a lock."""

    every = BEAT

    def __init__(self, store: Store, *, single_writer: bool = True) -> None:
        self._store, self._rule = store, single_writer
        self._pulse = copy.copy(store)  # a beat that fails is no reason for the run to lose its patience
        self._read: dict[tuple[str, str], Owner | None] = {}  # owners by name and stamp: a lock is never written over
        self._sign, self._data = "", b""

    def open(self, me: Owner, data: bytes) -> None:
        """Give the first sign of life; raise UserError where the store cannot keep two runners apart and one is there."""
        probe, sign = (f"{_FOLDER}/{kind}{me.token[:8]}.1.lock" for kind in (PROBE, ALIVE))
        try:
            kept = self._store.keeps_promise(probe, data)
            if not kept and self._rule:
                self._refuse([one for one, _ in self._others(probe)])
        finally:
            with contextlib.suppress(StorageError):  # of a store that is gone: it is known for a dead process's
                self._store.remove(probe)
        self._sign, self._data = sign, data
        try:
            self._store.put(sign, data)
            if not kept and self._rule:
                time.sleep(SETTLE)
                self._refuse([one for one, before in self._others(sign, me.token) if before])
        except BaseException:
            self.close()
            raise

    def _others(self, mine: str, token: str = "") -> list[tuple[Owner | None, bool]]:
        """Return the owners of others' signs of life that are not known to be dead, and whether each came before ``mine``.

        All times are of one listing, so that they are the store's, and as fine as each other.
        """
        listed = self._store.listing(_FOLDER)
        now = next((found.time for found in listed if found.name == mine), 0)
        signs = [one for one in listed if one.name.startswith(f"{_FOLDER}/{ALIVE}") and one.name != mine]
        found = []
        for one, (_, data) in zip(signs, self._store.read_many([one.name for one in signs]), strict=True):
            owner = owner_of(data or b"")
            alive = is_alive(owner) if owner is not None else None
            stale = bool(now and one.time) and now - one.time > STALE_AFTER * 1e9
            if data is not None and alive is not False and not (alive is None and stale):
                other = owner.token if owner is not None else ""
                found.append((owner, not now or not one.time or (one.time, other) < (now, token)))
        return found

    def _refuse(self, others: Sequence[Owner | None]) -> None:
        if not others:
            return
        who = ", ".join(f"{owner.label} (since {owner.since})" if owner else "another runner" for owner in others)
        raise UserError(
            f"cannot work in {self._store.url} now: {who} does, and this store does not keep two runners apart (it has no "
            "conditional writes), so one works at a time; wait until that has ended, or give another place with -o. What a killed "
            f"runner on another machine left in {_FOLDER}/ may be deleted"
        )

    def place(self, file_name: str) -> Path:
        return Path(_FOLDER, file_name)

    def find(self, name: str | None = None) -> list[LockFile]:
        listed = self._store.listing(_FOLDER)
        stamps = {one.name: one.stamp for one in listed}
        known = {}
        for one in listed:
            parts = name_and_number(one.name.removeprefix(f"{_FOLDER}/"))
            if parts is not None and (name is None or parts[0] == name):
                known[one.name] = parts
        gone = set()
        new = [one for one in known if not stamps[one] or (one, stamps[one]) not in self._read]
        for place, data in self._store.read_many(new):
            if data is None:
                gone.add(place)
            else:
                self._read[place, stamps[place]] = owner_of(data)
        found = []
        for place, parts in known.items():
            if place not in gone:
                owner = self._read[place, stamps[place]]
                sign = f"{_FOLDER}/{ALIVE}{owner.token[:8]}.1.lock" if owner is not None else ""
                beat = (_number(stamps.get(sign, "")), _number(stamps[place]))
                found.append(LockFile(Path(place), *parts, owner, beat))
        return sorted(found, key=lambda lock: (lock.name, lock.number))

    def look(self, path: Path) -> LockFile | None:
        parts = name_and_number(path.name)
        data = self._store.read(path.as_posix())
        return None if data is None or parts is None else LockFile(path, *parts, owner_of(data), (0, 0))

    def create(self, path: Path, data: bytes, token: str) -> bool:
        return self._store.create(path.as_posix(), data)

    def remove(self, path: Path) -> None:
        self._store.remove(path.as_posix())

    def beat(self, paths: Sequence[Path], is_mine: Callable[[Path], bool]) -> None:
        self._pulse.put(self._sign, self._data)

    def close(self) -> None:
        if self._sign:
            with contextlib.suppress(StorageError):  # a store that is gone: the sign grows old
                self._store.remove(self._sign)


def _number(stamp: str) -> int:
    """Return a number that changes with a stamp."""
    return int.from_bytes(hashlib.sha256(stamp.encode()).digest()[:8]) if stamp else 0
