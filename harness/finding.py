"""What the verification of a results folder finds, level by level, and what it says of every cell.

A finding names a file, what differs in it (both values), what that means, and the cells that it concerns (none: all of them). A
remark is what cannot be checked here; a cell of which something essential cannot be checked is ``unchecked``.

``found`` something is wrong; ``unchecked`` its key or examples cannot be judged here; ``failed`` it holds no figures;
``consistent`` all that its files can tell is right; ``recomputed`` the model says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skillneurons.complaint import shown

FORMS, KEYS, CONSISTENCY, PLAUSIBILITY, RECOMPUTATION = LEVELS = (1, 2, 3, 4, 5)
TITLES = {
    FORMS: "forms",
    KEYS: "keys",
    CONSISTENCY: "consistency",
    PLAUSIBILITY: "plausibility",
    RECOMPUTATION: "recomputation",
}
VERDICTS = ("found", "unchecked", "failed", "consistent", "recomputed")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong."""

    level: int
    path: str
    what: str
    meaning: str
    cells: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "level": self.level,
            "path": shown(self.path),
            "what": self.what,
            "meaning": self.meaning,
            "cells": list(self.cells),
        }


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """What cannot be checked here, and why."""

    path: str
    what: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {"path": shown(self.path), "what": self.what}


@dataclass
class Ledger:
    """What is found while a folder is looked at."""

    findings: list[Finding] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    unchecked: set[str] = field(default_factory=set)
    recomputed: dict[str, str] = field(default_factory=dict)  # how near, by cell

    def say(self, level: int, path: str, what: str, meaning: str, cells: Iterable[str] = ()) -> None:
        """Add what is wrong."""
        self.findings.append(Finding(level, path, what, meaning, tuple(sorted(cells))))

    def cannot(self, path: str, what: str, cells: Iterable[str] = ()) -> None:
        """Add what cannot be checked here; ``cells`` are those that cannot be accepted without it."""
        self.remarks.append(Remark(path, what))
        self.unchecked.update(cells)

    def is_clean(self, cell: str) -> bool:
        """Return whether nothing was found about a cell, so far."""
        return not any(not one.cells or cell in one.cells for one in self.findings)

    def verdict(self, cell: str, failed: bool) -> str:
        """Return what is to be said of a cell."""
        if not self.is_clean(cell):
            return "found"
        if cell in self.unchecked:
            return "unchecked"
        if failed:
            return "failed"
        return "recomputed" if cell in self.recomputed else "consistent"
