"""The command ``skillneurons plugins``: ``list`` what is there, ``new`` writes one, ``check`` holds one to the contract."""

from __future__ import annotations

import argparse
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
    from skillneurons.testing import check_plugin

    plugin = _meant(arguments.plugin_name, registry)
    with aside() as said:
        findings = check_plugin(plugin)
    failed = sum(one.status == "failed" for one in findings)
    text = json.dumps([asdict(one) for one in findings], indent=2) if arguments.json else _table(findings)
    counts = ", ".join(f"{sum(one.status == s for one in findings)} {s}" for s in ("ok", "failed", "skipped"))
    return (
        text,
        [*dict.fromkeys(f"warning: {line}" for line in said), f"{arguments.plugin_name}: {counts}"],
        1 if failed else 0,
    )


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
