"""The command ``skillneurons plugins``: ``list`` what is there, ``new`` writes one, ``check`` holds one to the contract."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from skillneurons.errors import UserError
from skillneurons.listing import plugin_listing, text_table
from skillneurons.plugin_loading import aside
from skillneurons.registry import Registry

if TYPE_CHECKING:
    from skillneurons.testing import Finding

LONGEST = 120  # characters of what a plugin prints


def plugins_command(arguments: argparse.Namespace, registry: Registry) -> tuple[str, list[str], int]:
    """Do what is asked; return the output, remarks for stderr, and the exit code."""
    if arguments.what == "new":
        return _new(arguments, registry), [], 0
    if arguments.what == "check":
        return _check(arguments, registry)
    return plugin_listing(registry, as_json=arguments.json), [], 0


def _new(arguments: argparse.Namespace, registry: Registry) -> str:
    from skillneurons.plugin_new import new_plugin, next_commands

    folder = Path(arguments.output)
    files = new_plugin(registry, arguments.kind, arguments.name, folder, single_file=arguments.file)
    place = files[0] if arguments.file else folder / arguments.name
    then = next_commands(arguments.kind, arguments.name, place, single_file=arguments.file)
    return "\n".join(["written:", *(f"  {file}" for file in files), "next:", *(f"  {line}" for line in then)])


def _check(arguments: argparse.Namespace, registry: Registry) -> tuple[str, list[str], int]:
    from skillneurons.testing.subjects import planned

    plugin = _meant(arguments.plugin_name, registry)
    printed: dict[str, _Printed] = {}
    findings = []
    with aside() as said:
        for one in planned(plugin):
            kept = printed.setdefault(one.subject, _Printed())
            with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept):
                findings.append(one.run())
    for kept in printed.values():
        kept.end()
    failed = sum(one.status == "failed" for one in findings)
    text = json.dumps([asdict(one) for one in findings], indent=2) if arguments.json else _table(findings)
    counts = ", ".join(f"{sum(one.status == s for one in findings)} {s}" for s in ("ok", "failed", "skipped"))
    return (
        text,
        [
            *dict.fromkeys(f"warning: {line}" for line in said),
            *(f"{subject} printed {kept.told}" for subject, kept in printed.items() if kept.lines),
            f"{arguments.plugin_name}: {counts}",
        ],
        1 if failed else 0,
    )


class _Printed(io.TextIOBase):
    """Keeps the first line of what is printed, and counts the others."""

    def __init__(self) -> None:
        self.first, self.lines, self._begun = "", 0, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, rest = (self._begun + text).split("\n")
        for line in whole:
            self.first = self.first or line.strip()
            self.lines += 1
        self._begun = rest[:LONGEST]
        return len(text)

    def end(self) -> None:
        """Count a line that was begun and not ended."""
        if self._begun:
            self.write("\n")

    @property
    def told(self) -> str:
        """Return the first line, and how many there were."""
        return f"{self.first[:LONGEST]!r}" + (f" and {self.lines - 1} lines more" if self.lines > 1 else "")


def _meant(name: str, registry: Registry) -> str:
    """Return what the contract kit finds a plugin by: a file of ``-p`` is asked for by its path."""
    for record in registry.records:
        if record.name != name:
            continue
        if record.status == "blocked":
            raise UserError(f"plugin {name!r} is {record.reason}; leave that away to check it")
        if record.kind == "file" and record.file:
            return record.file
    return name


def _table(findings: Sequence[Finding]) -> str:
    rows = [{**asdict(one), "message": "" if one.status == "ok" else one.message} for one in findings]
    return text_table(rows, ("subject", "check", "status", "message"))
