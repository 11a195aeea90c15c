"""What an examination of a runs folder finds: complaints, remarks, and what mends them.

``damaged`` cannot be read or does not fit; ``orphaned`` belongs to nothing; ``stale`` can be read, and is not what a run would
measure now. These three are complaints. ``unknown`` (nothing here writes it), ``remark`` and ``live`` (somebody works on it) are
told for information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["damaged", "orphaned", "stale", "unknown", "remark", "live"]
KINDS: tuple[Kind, ...] = ("damaged", "orphaned", "stale", "unknown", "remark", "live")
WRONG: tuple[Kind, ...] = ("damaged", "orphaned", "stale")
Action = Literal["set aside", "delete", "put back", "release"]


@dataclass(frozen=True, slots=True)
class Mend:
    """What ``--mend`` does about one complaint.

    ``paths`` are moved to ``set-aside/``, deleted, or (``put back``) the one renamed to its place ``to``; ``release`` gives a dead
    owner's lock back. ``names`` are the locks that keep runners away meanwhile.
    """

    action: Action
    paths: tuple[str, ...]
    names: tuple[str, ...] = ()
    to: str = ""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that was found: where (relative to the folder), what it is and means for results, and what to do."""

    kind: Kind
    path: str
    what: str
    remedy: str = ""
    mend: Mend | None = field(default=None, compare=False)

    @property
    def mendable(self) -> bool:
        """Whether ``--mend`` does something about it."""
        return self.mend is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "kind": self.kind,
            "path": shown(self.path),
            "what": self.what,
            "remedy": self.remedy,
            "mendable": self.mendable,
        }


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found in one folder, with the number of its cells, prompts and passes."""

    folder: str
    cells: int
    prompts: int
    passes: int
    found: Sequence[Complaint]

    @property
    def complaints(self) -> list[Complaint]:
        """Return what is wrong, without what is told for information."""
        return [one for one in self.found if one.kind in WRONG]

    @property
    def live(self) -> list[Complaint]:
        """Return who works in the folder now."""
        return [one for one in self.found if one.kind == "live"]


def shown(text: str, most: int = 0) -> str:
    """Return text from a file or of a file's name as one line that no terminal obeys, cut to ``most`` characters."""
    line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
    return line if not most or len(line) <= most else line[: most - 3] + "..."
