"""What a worker is told before it works, as plain types, and whether it then plans the same work as this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.errors import ClusterError
from skillneurons.fingerprint import brought, other_plugins
from skillneurons.plan import Unit
from skillneurons.run_context import RunContext
from skillneurons.settings import ExecutorSettings


def threads_of(settings: ExecutorSettings) -> int:
    """Return how many threads a worker computes with."""
    return max(1, int(settings.cpus))


def request_of(context: RunContext, units: Sequence[Unit], dead: Sequence[str]) -> dict[str, Any]:
    """Return what a worker must know to plan as this process did; ``dead`` are the tokens of workers that are gone."""
    return {
        "cwd": str(Path.cwd()),
        "folder": _place(context),
        "driver": context.locks.me.token,
        "config": context.config.model_dump(mode="json"),
        "plugins": list(context.config.plugins),
        "blocked": [record.name for record in context.registry.records if record.status == "blocked"],
        "brought": brought(context.config, context.registry),
        "finished": [cell.key for unit in units for cell in unit.cells if cell.done],
        "planned": dict(context.planned),
        "dead": list(dead),
        "threads": threads_of(context.config.executor),
    }


def check_prepared(context: RunContext, units: Sequence[Unit], host: str, answer: Mapping[str, Any]) -> None:
    """Raise ClusterError where a worker does not do the same work as this process would."""
    told = other_plugins(brought(context.config, context.registry), answer["plugins"])
    if answer["plugins"] and told:
        raise ClusterError(f"worker on {host} {told}")
    if answer["problem"]:
        raise ClusterError(f"worker on {host} {answer['problem']}")
    for unit, there in zip(units, answer["units"], strict=True):
        here = [cell.key for cell in unit.cells]
        if here != there:
            raise ClusterError(
                f"worker on {host} has other data of task {unit.data.task.name!r}, or another model {unit.model!r} "
                f"(cells {', '.join(there)}, here {', '.join(here)}); give every node the same files"
            )


def _place(context: RunContext) -> str:
    """Return how a worker finds the run folder: its absolute path, or its URL as it was given."""
    folder = context.folder
    return str(folder.root.absolute()) if folder.mirror is None else context.config.output
