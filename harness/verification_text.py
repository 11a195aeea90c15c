"""A verification as text for a terminal, as JSON, and as the report that can be signed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from skillneurons.complaint import shown
from skillneurons.finding import LEVELS, TITLES, VERDICTS, Finding
from skillneurons.run_files import KEY
from skillneurons.signed_report import GOOD, SCHEMA_VERSION, across_file, cell_files, hashes_of
from skillneurons.verify import ALL, Verification

LINES = 40  # of a level; more are counted
ALIKE = 3  # of one file and meaning
_SAID = {
    "found": "with findings",
    "unchecked": "that cannot be checked here, and are not accepted",
    "failed": "that failed and hold no figures",
    "consistent": "consistent, not recomputed",
    "recomputed": "recomputed",
}


def verification_text(found: Verification) -> str:
    """Return the verdict, what was found level by level, and what cannot be checked here."""
    wrong, lost = len(found.ledger.findings), sum(one not in GOOD for one in found.verdicts.values())
    verdict = f"{wrong} thing{'s' * (wrong != 1)} found"
    if found.accepted:
        verdict = f"nothing was found, and {lost} of {len(found.verdicts)} cells are not accepted"
        verdict = verdict if lost else "accepted: nothing was found"
    lines = [f"{shown(str(found.root))}: {verdict}", _counts(found)]
    for level in LEVELS:
        those = [one for one in found.ledger.findings if one.level == level]
        if those:
            lines += ["", f"level {level}, {TITLES[level]} ({len(those)})"]
            lines += _cut(_folded(those))
    if found.ledger.remarks:
        alike: dict[str, list[str]] = {}
        for one in found.ledger.remarks:
            alike.setdefault(one.what, []).append(shown(one.path))
        lines += ["", f"not checked here ({len(found.ledger.remarks)})"]
        lines += _cut([f"  {_places(paths)}: {what}" for what, paths in alike.items()])
    return "\n".join(lines)


def _counts(found: Verification) -> str:
    """Return how many cells have which verdict, and how the sample was drawn."""
    counts = Counter(found.verdicts.values())
    parts = [f"{counts[name]} {_SAID[name]}" for name in VERDICTS if counts[name]]
    near = Counter(found.ledger.recomputed[key] for key, verdict in found.verdicts.items() if verdict == "recomputed")
    how = f" ({', '.join(f'{n} {name}' for name, n in sorted(near.items()))})" if near else ""
    asked = "all" if found.terms.sample == ALL else str(found.terms.sample)
    return f"{len(found.verdicts)} cells: {', '.join(parts) or 'none was read'}{how}; sample {asked}, seed {found.terms.seed}"


def _folded(those: Sequence[Finding]) -> list[str]:
    """Return a line per finding; of many that mean the same of one file, the first."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in those:
        alike.setdefault((one.path, one.meaning), []).append(one.what)
    lines = []
    for (path, meaning), said in alike.items():
        lines += [f"  {shown(path)}: {what}; {meaning}" for what in said[:ALIKE]]
        if len(said) > ALIKE:
            lines.append(f"  {shown(path)}: {len(said) - ALIKE} more of this kind (--json lists all)")
    return lines


def _places(paths: Sequence[str]) -> str:
    return ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")


def _cut(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LINES
    return [*lines[:LINES], f"  and {more} more (--json lists all)"] if more > 0 else list(lines)


def verification_json(found: Verification) -> str:
    """Return everything as JSON."""
    told = {"folder": shown(str(found.root)), "accepted": found.accepted, **report_of(found)}
    return json.dumps(told, indent=2, sort_keys=True, allow_nan=False)


def report_of(found: Verification) -> dict[str, Any]:
    """Return the report: what was verified with what, the hashes of every cell's files, and what was found; no time, no path."""
    cells = {}
    for key, cell in found.cells.items():
        files = cell_files(key, cell.prompt if KEY.fullmatch(cell.prompt or "") else None)
        about = {"verdict": found.verdicts[key], "files": hashes_of(files, lambda name: _bytes(found.root / name))}
        if key in found.ledger.recomputed and found.verdicts[key] == "recomputed":
            about["how"] = found.ledger.recomputed[key]
        cells[key] = about
    return {
        "schema_version": SCHEMA_VERSION,
        "package": package(),
        "sample": {
            "asked": "all" if found.terms.sample == ALL else found.terms.sample,
            "seed": found.terms.seed,
            "drawn": list(found.drawn),
            "retuned": found.terms.retune,
        },
        "cells": cells,
        "across": {
            key: digest
            for key in found.across
            for digest in hashes_of([across_file(key)], lambda name: _bytes(found.root / name)).values()
        },
        "findings": [one.to_json() for one in found.ledger.findings],
        "not_checked": [one.to_json() for one in found.ledger.remarks],
    }


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


@cache
def package() -> dict[str, str]:
    """Return the version and the source hash of the package that verifies."""
    import hashlib

    import skillneurons

    here = Path(skillneurons.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(here.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return {"name": "skillneurons", "version": skillneurons.__version__, "source_hash": digest.hexdigest()[:16]}
