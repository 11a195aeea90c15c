"""What stands in a runs folder, by name alone: no file is opened and no symbolic link followed.

Temporary names are those of ``atomic`` (``.NAME.xxxxxxxx.tmp``, ``.NAME.xxxxxxxx.old.tmp``), of locks, and of a site that is being
made (``.site-xxxxxxxx.tmp``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

KEY = re.compile(r"[a-z0-9_-]{1,250}")  # of cells, and of what stands beside them under the same name
SECTIONS = ("cells", "prompts", "passes", "cards", "across", "locks", "checkpoints")
OTHERS = ("plots", "site", "set-aside", "verification")  # what is in there is nobody's business here
BOARDS = ("board.md", "board.csv", "board.parquet", "index.html")
CHECKPOINT_FORMAT = "1"  # of a tuning's checkpoint
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<old>\.old)?\.tmp", re.DOTALL)
_SITE = re.compile(r"\.site-[0-9a-f]{8}\.tmp")

FileKind = Literal["file", "folder", "link", "other"]


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    kind: FileKind
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Temporary:
    """What a process that was killed (or is at work) left beside a place: ``target`` is that place, ``former`` what stood there."""

    path: str
    entry: Entry
    target: str = ""
    former: bool = False


@dataclass(frozen=True)
class RunFiles:
    """The names of a runs folder by section, and, as folders are listed, what is temporary and what cannot be listed (why)."""

    root: Path
    top: Mapping[str, Entry]
    sections: Mapping[str, Mapping[str, Entry]]
    temporaries: list[Temporary] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    plots: Mapping[str, Entry] = field(default_factory=dict)

    def has(self, section: str) -> bool:
        """Whether a section is there to look into; one that is a link, or cannot be listed, is not."""
        return section in self.sections

    def within(self, folder: str) -> dict[str, Entry]:
        """Return the names in a folder, without temporary ones, which are kept; none where it cannot be listed."""
        try:
            entries = listing(self.root / folder)
        except OSError as error:
            self.unreadable[folder] = error.strerror or str(error)
            return {}
        found = {}
        for name, entry in entries.items():
            temporary = _temporary(folder, entry)
            if temporary is None:
                found[name] = entry
            else:
                self.temporaries.append(temporary)
        return found


def listing(folder: Path) -> dict[str, Entry]:
    """Return the entries of a folder by name, sorted; raise OSError where it cannot be listed."""
    return dict(sorted((entry.name, entry) for entry in _entries(folder)))


def _entries(folder: Path) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for one in found:
            try:
                about = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone meanwhile: somebody works here
            kind: FileKind = "other"
            if stat.S_ISREG(about.st_mode):
                kind = "file"
            elif stat.S_ISDIR(about.st_mode):
                kind = "folder"
            elif stat.S_ISLNK(about.st_mode):
                kind = "link"
            yield Entry(one.name, kind, about.st_size, about.st_mtime_ns)


def read_folder(root: Path) -> RunFiles:
    """Return what stands in a runs folder; raise OSError where the folder itself cannot be listed."""
    top = listing(root)
    files = RunFiles(root, top, {})
    sections = {name: files.within(name) for name in SECTIONS if name in top and top[name].kind == "folder"}
    plots = files.within("plots") if "plots" in top and top["plots"].kind == "folder" else {}
    files.temporaries.extend(found for entry in top.values() if (found := _temporary("", entry)) is not None)
    readable = {name: entries for name, entries in sections.items() if name not in files.unreadable}
    return RunFiles(root, top, readable, files.temporaries, files.unreadable, plots)


def _temporary(folder: str, entry: Entry) -> Temporary | None:
    """Return what a name says it is the draft of, None where it is no temporary name."""
    if entry.kind not in ("file", "folder"):
        return None
    place = f"{folder}/" if folder else ""
    if not folder and _SITE.fullmatch(entry.name):
        return Temporary(entry.name, entry)
    found = _TEMPORARY.fullmatch(entry.name)
    if found is None:
        return None
    return Temporary(f"{place}{entry.name}", entry, f"{place}{found['name']}", bool(found["old"]))


def last_change(path: Path, entry: Entry) -> int:
    """Return when a file, or anything in a folder, was changed last, in ns."""
    latest = entry.mtime_ns
    if entry.kind == "folder":
        for place, _, names in os.walk(path):
            for name in (".", *names):
                try:
                    latest = max(latest, os.lstat(Path(place, name)).st_mtime_ns)
                except FileNotFoundError:
                    continue  # gone meanwhile: somebody works here
    return latest
