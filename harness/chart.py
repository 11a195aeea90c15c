"""What an examination knows so far: the folder's names, who works there, the cells, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from skillneurons.complaint import Complaint, Kind, Mend
from skillneurons.leftovers import FolderLocks
from skillneurons.run_files import KEY, Entry, RunFiles

VERSION = "written by another version of skillneurons"
CELL, RECORD = ".json", ".run.json"


@dataclass(frozen=True, slots=True)
class KnownCell:
    """What must be remembered of a cell: whether it is finished, and what it refers to."""

    finished: bool
    prompt: str | None
    pass_: str | None


@dataclass
class Chart:
    """``names`` are the cell files there are, ``cells`` those that were read; ``prompts`` what each whole prompt says of itself.

    ``unlike`` says of each whole prompt and each cell that rests on it in what they do not fit each other (``""``: they do).
    """

    files: RunFiles
    locks: FolderLocks
    deep: bool
    found: list[Complaint] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    cells: dict[str, KnownCell] = field(default_factory=dict)
    prompts: dict[str, dict[str, object]] = field(default_factory=dict)
    prompt_faults: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, dict[str, str]] = field(default_factory=dict)

    def entries(self, section: str) -> Iterator[tuple[str, Entry]]:
        """Yield the names of a section, in order."""
        yield from self.files.sections.get(section, {}).items()

    def say(self, kind: Kind, path: str, what: str, remedy: str = "", mend: Mend | None = None) -> None:
        """Add what was found; what a live owner has in hand is not complained about."""
        self.found.append(Complaint(kind, path, what, remedy, mend))

    def unknown(self, path: str, entry: Entry) -> None:
        """Add a name that nothing here writes."""
        what = "a symbolic link, which is not followed here" if entry.kind == "link" else "nothing here writes this"
        self.say("unknown", path, what, "it is left alone")

    def in_hand(self, key: str) -> bool:
        """Whether somebody works on a cell, a prompt or a comparison now."""
        return key in self.locks.names or f"prompt-{key}" in self.locks.names

    def refused(self, path: str, fault: str, meaning: str, remedy: str, mend: Mend) -> None:
        """Add a file that cannot be used: damaged, or stale where another version wrote it, which is never mended."""
        if VERSION in fault:
            self.say("stale", path, f"{fault}; {meaning}", "run again with this version, or read it with that one")
        else:
            self.say("damaged", path, f"{fault}; {meaning}", remedy, mend)

    def aside(self, keys: Iterable[str], *more: str, names: Iterable[str] = ()) -> Mend:
        """Return the mend that sets cells aside with all that stands beside them, and ``more`` paths; the cells go first."""
        paths: list[str] = []
        cells = sorted(keys)
        for key in cells:
            places = (("cells", key + CELL), ("cells", key + RECORD), ("passes", key), ("cards", key + CELL))
            for section, name in places:
                entry = self.files.sections.get(section, {}).get(name)
                if entry is not None and entry.kind in ("file", "folder"):
                    paths.append(f"{section}/{name}")
        locks = [name for name in (*cells, *names) if KEY.fullmatch(name)]
        return Mend("set aside", tuple(dict.fromkeys([*paths, *more])), tuple(dict.fromkeys(locks)))
