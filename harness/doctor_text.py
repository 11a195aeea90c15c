"""An examination as text for a terminal, quiet and by kind, or as JSON with everything."""

from __future__ import annotations

import json
from collections.abc import Sequence

from skillneurons.complaint import KINDS, Complaint, Examination, shown

LINES = 20  # of a kind; more are counted
ALIKE = 4  # so many files of one complaint are one line
NAMED = 2  # of which so many are named
_HEADINGS = {
    "damaged": "damaged: cannot be read, or does not fit",
    "orphaned": "orphaned: belongs to nothing",
    "stale": "stale: not what a run would measure now; never mended, only told",
    "unknown": "unknown, and left alone",
    "remark": "remarks",
    "live": "at work now",
}


def examination_text(found: Examination, mended: Sequence[str] = ()) -> str:
    """Return what was done and what is found, a line each."""
    lines = [*mended, _summary(found)]
    for kind in KINDS:
        those = [one for one in found.found if one.kind == kind]
        if those:
            lines += ["", f"{_HEADINGS[kind]} ({len(those)})", *_lines(those)]
    can = sum(one.mendable for one in found.found)
    if can:
        lines += ["", f"{can} of these can be mended: skillneurons doctor {shown(found.folder)} --mend"]
    return "\n".join(lines)


def _summary(found: Examination) -> str:
    sizes = ", ".join(
        f"{n} {name if n != 1 else one}"
        for n, name, one in (
            (found.cells, "cells", "cell"),
            (found.prompts, "prompts", "prompt"),
            (found.passes, "passes", "pass"),
        )
    )
    wrong = len(found.complaints)
    said = f"{wrong} thing{'s' * (wrong != 1)} wrong" if wrong else "nothing is wrong"
    return f"{shown(found.folder)}: {sizes}: {said}"


def _lines(those: Sequence[Complaint]) -> list[str]:
    """Return a line per complaint; many that say the same share one."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in those:
        place = one.path.split("/")[0] if "/" in one.path else ""
        alike.setdefault((one.what, one.remedy, place), []).append(shown(one.path))
    lines = []
    for (what, remedy, place), paths in alike.items():
        said = f"{what}; {remedy}" if remedy else what
        if len(paths) >= ALIKE:
            where = f"in {shown(place)}/" if place else "at the top"
            lines.append(f"  {len(paths)} {where} ({', '.join(paths[:NAMED])} ...): {said}")
        else:
            lines += [f"  {path}: {said}" for path in paths]
    more = len(lines) - LINES
    return [*lines[:LINES], f"  and {more} more (--json lists all)"] if more > 0 else lines


def examination_json(found: Examination, mended: Sequence[str] = ()) -> str:
    """Return everything as JSON."""
    told = {
        "folder": shown(found.folder),
        "cells": found.cells,
        "prompts": found.prompts,
        "passes": found.passes,
        "complaints": len(found.complaints),
        "mended": list(mended),
        "found": [one.to_json() for one in found.found],
    }
    return json.dumps(told, indent=2)
