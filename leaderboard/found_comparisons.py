"""The comparisons across tasks of one or many run folders (``across/``), and which of them a board shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skillneurons.errors import ResultsError
from skillneurons.leaderboard.sources import CellFile, Source
from skillneurons.results import canonical_json


def read_comparisons(sources: Sequence[Source]) -> tuple[dict[str, dict[str, Any]], list[tuple[CellFile, str]]]:
    """Return what the folders hold about several tasks, by key, and the files that cannot be read.

    Raise ResultsError where two files of one key differ.
    """
    read: dict[str, dict[str, Any]] = {}
    damaged = []
    for source in sources:
        for file in source.files("across"):
            from skillneurons.across_file import parse_across  # pydantic, only where there is such a file

            try:
                one, reason = parse_across(source.read(file))
            except OSError as error:
                one, reason = None, f"it cannot be read ({error.strerror or error})"
            if one is None:
                damaged.append((file, reason))
            elif file.name != f"{one['key']}.json":
                damaged.append((file, f"it holds {one['key']!r}: files are named after their key"))
            elif canonical_json(read.setdefault(one["key"], one)) != canonical_json(one):
                raise ResultsError(
                    f"{file.place} and another folder's across/{file.name} hold the same key with different content; remove "
                    "the wrong one (`skillneurons run` in an empty folder tells which)"
                )
    return read, damaged


def widest(across: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the comparison that is shown, one file per seed, and the keys of those that are not.

    Only files of the same settings and tasks are one comparison: that of the most cells, where runs of some tasks or
    metrics, or other settings, left others.
    """
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for one in across:
        alike = canonical_json({name: one[name] for name in ("settings", "tasks", "columns")})
        seeds = groups.setdefault(alike, {})
        known = seeds.get(one["seed"])
        if known is None or (len(one["cells"]), one["key"]) > (len(known["cells"]), known["key"]):
            seeds[one["seed"]] = one
    if not groups:
        return [], []
    best = max(sorted(groups), key=lambda alike: sum(len(one["cells"]) for one in groups[alike].values()))
    shown = [one for _, one in sorted(groups[best].items())]
    kept = {one["key"] for one in shown}
    return shown, [one["key"] for one in across if one["key"] not in kept]
