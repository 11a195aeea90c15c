"""A results folder in a store, as one process works on it: a folder of its own on this disk, which is removed with the process.

What is read is fetched first, what is finished here is published before it counts; what could not be published is taken away
again, so that the mirror never claims more than the store has. A prompt and a pass are folders: the file that says that they are there
(``LAST``) is published last, and a folder without it is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from skillneurons.errors import ResultsError, StorageError
from skillneurons.run_files import SECTIONS
from skillneurons.store import Found, Store, is_plain

LAST: Mapping[str, str] = {"prompts": "adapter_config.json", "passes": "examples.parquet"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")


class Mirror:
    """The mirror of one store. Paths are those of files under ``root``; names are the same seen from there."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = Path(tempfile.mkdtemp(prefix="skillneurons-"))
        self._stamps: dict[str, str] = {}  # of what was fetched as it is here
        self.refused: list[str] = []  # names in the store that are no names of ours, as far as one looked
        weakref.finalize(self, _remove_of, os.getpid(), self.root)

    def name(self, path: Path) -> str:
        """Return the name of a file in the store; raise ResultsError for one that is not in this folder.

        Names come from cells too, which may be a stranger's: ``passes/../../x`` would lead out of the copy.
        """
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        if not is_plain(name):
            raise ResultsError(
                f"{name!r} is no name of a file in {self.store.url}: a cell that says so is not to be trusted"
            )
        return name

    def told(self, text: str) -> str:
        """Return a text with the store's URL in place of this folder."""
        return text.replace(str(self.root), self.store.url)

    def fetch(self, path: Path) -> None:
        """Bring a file, or the folder of a prompt or pass, to what it is in the store now; absent there, absent here."""
        name = self.name(path)
        section, _, rest = name.partition("/")
        if section not in LAST or "/" in rest:
            self._place(name, self.store.read(name))
            return
        listed = self._listed(name, deep=False)
        if f"{name}/{LAST[section]}" not in listed:
            listed = {}
        if path.is_dir():
            for here in path.iterdir():
                if f"{name}/{here.name}" not in listed:
                    self._place(f"{name}/{here.name}", None)
        self._bring(listed)
        if not listed:
            with contextlib.suppress(OSError):
                path.rmdir()

    def fetch_files(self, paths: Sequence[Path]) -> None:
        """Bring many files to what they are in the store now, several at once."""
        for name, data in self.store.read_many([self.name(path) for path in paths]):
            self._place(name, data)

    def listed(self, folder: str) -> list[Found]:
        """Return the files of a folder of the store whose names are those of files of ours."""
        return list(self._listed(folder, deep=False).values())

    def fetch_listed(self, found: Iterable[Found]) -> None:
        """Bring files of a listing here; what was fetched with the same stamp is here already."""
        self._bring({one.name: one for one in found})

    def is_there(self, path: Path) -> bool:
        """Whether a file, or the folder of a prompt or pass, is in the store; nothing is fetched."""
        name = self.name(path)
        section, _, rest = name.partition("/")
        last = f"/{LAST[section]}" if section in LAST and "/" not in rest else ""
        return self.store.info(name + last) is not None

    def has(self, found: Found) -> bool:
        """Whether a file of a listing is here as it is there."""
        return bool(found.stamp) and self._stamps.get(found.name) == found.stamp

    def fetch_folder(
        self,
        folder: str,
        known: Sequence[Found] | None = None,
        *,
        deep: bool = False,
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """Bring a whole folder to what it is in the store, as far as its files are ``wanted``; others are not here then.

        Where its listing is ``known`` already the store is not asked for it again.
        """
        ours = self._listed(folder, deep=deep) if known is None else self._ours(known)
        listed = {name: one for name, one in ours.items() if wanted(name)}
        here = self.root / folder
        if here.is_dir():
            for path in sorted(here.rglob("*") if deep else here.iterdir()):
                if path.is_file() and self.name(path) not in listed:
                    self._place(self.name(path), None)
        self._bring(listed)

    def fetch_all(self) -> None:
        """Bring everything that belongs to a results folder."""
        self.fetch_folder("")
        for section in SECTIONS:
            self.fetch_folder(section, deep=True)

    def _listed(self, folder: str, *, deep: bool) -> dict[str, Found]:
        return self._ours(self.store.listing(folder, deep=deep))

    def _ours(self, listed: Iterable[Found]) -> dict[str, Found]:
        found = {}
        for one in listed:
            if all(_NAME.fullmatch(part) for part in one.name.split("/")):
                found[one.name] = one
            elif one.name not in self.refused:
                self.refused.append(one.name)
        return found

    def _bring(self, listed: Mapping[str, Found]) -> None:
        wanted = [name for name, one in listed.items() if not self.has(one)]
        for name, data in self.store.read_many(wanted):
            self._place(name, data)
            if data is not None:
                self._stamps[name] = listed[name].stamp
                if listed[name].time:
                    os.utime(self.root / name, ns=(listed[name].time, listed[name].time))

    def _place(self, name: str, data: bytes | None) -> None:
        """Make a file here what it is there; None where it is not."""
        path = self.root / name
        self._stamps.pop(name, None)
        try:
            if data is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except NotADirectoryError:
            if data is not None:
                raise self._cannot_hold(name, "a file stands where its folder should be") from None
        except OSError as error:
            raise self._cannot_hold(name, (error.strerror or str(error)).lower()) from error

    def _cannot_hold(self, name: str, reason: str) -> StorageError:
        return StorageError(
            f"cannot keep a copy of {self.store.shown(name)} on this machine: {reason}; "
            f"free some space in {self.root.parent}, or set TMPDIR to another folder"
        )

    def publish(self, *paths: Path) -> None:
        """Put finished files and folders into the store, one after the other."""
        for path in paths:
            try:
                if path.is_dir():
                    self._publish_folder(path)
                else:
                    self._stamps.pop(self.name(path), None)
                    self.store.put(self.name(path), path.read_bytes())
            except StorageError:
                shutil.rmtree(path, ignore_errors=True)  # of a folder
                with contextlib.suppress(OSError):
                    path.unlink()
                raise

    def _publish_folder(self, path: Path) -> None:
        """Put the folder of a prompt or pass: what stood there loses its last file first, so that it is not there meanwhile."""
        name = self.name(path)
        last = f"{name}/{LAST[name.partition('/')[0]]}"
        before = [one.name for one in self.store.listing(name)]
        contents = {self.name(file): file.read_bytes() for file in sorted(path.iterdir())}
        for one in contents:
            self._stamps.pop(one, None)
        if before:
            self.store.remove(*(one for one in before if one == last), *(one for one in before if one not in contents))
        self.store.put_many({one: data for one, data in contents.items() if one != last})
        self.store.put(last, contents[last])

    def remove(self, path: Path) -> None:
        """Remove a file there and here."""
        self.store.remove(self.name(path))
        self._place(self.name(path), None)

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the hash of every file under a folder as it is here, by name."""
        files = [path for path in sorted((self.root / folder).rglob("*")) if path.is_file()]
        return {self.name(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def publish_changes(self, folder: str, before: Mapping[str, str], last: str) -> None:
        """Put what differs under a folder from what it was, ``last`` at the end, then remove what is gone."""
        now = self.hashes(folder)
        changed = [name for name, one in now.items() if before.get(name) != one]
        for name in sorted(changed, key=lambda one: (one == last, one)):
            self.publish(self.root / name)
        self.store.remove(*(name for name in before if name not in now))


def _remove_of(pid: int, root: Path) -> None:
    if os.getpid() == pid:  # not a fork's
        shutil.rmtree(root, ignore_errors=True)
