"""Tasks, metrics, statistics, models and plugins as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from skillneurons.plugin_calls import PluginCallError
from skillneurons.plugin_loading import aside
from skillneurons.registry import Registry
from skillneurons.types import Task


def listing(what: str, registry: Registry, *, as_json: bool = False, complaints: list[str] | None = None) -> str:
    """Return the list of ``tasks``, ``metrics``, ``attributions``, ``graders`` or ``models``.

    A metric that cannot say its columns for a task is told in ``complaints`` and left out there.
    """
    listed = {
        "tasks": _tasks,
        "metrics": _metrics,
        "attributions": _attributions,
        "graders": _graders,
        "models": _models,
    }
    told: list[str] = []
    with aside():
        rows = listed[what](registry, told)
    if complaints is not None:
        complaints += told
    if as_json:
        return json.dumps(rows, indent=2, sort_keys=True)
    shown = {
        "tasks": ("name", "version", "kind", "form", "chance", "plugin", "description"),
        "metrics": ("name", "version", "plugin", "description"),
        "attributions": ("name", "null", "baseline_split", "gradient", "plugin", "description"),
        "graders": ("name", "version", "synthetic", "plugin", "description"),
        "models": ("name", "description"),
    }[what]
    return text_table(rows, shown)


def plugin_listing(registry: Registry, *, as_json: bool = False) -> str:
    """Return every plugin with where it comes from, its status, and what it registered."""
    rows = [{**asdict(record), "reason": record.reason} for record in registry.records]
    if as_json:
        return json.dumps(rows, indent=2, sort_keys=True)
    for row in rows:
        names = [*row["tasks"], *row["metrics"], *row["attributions"], *row["graders"]]
        names += [hook for hook in row["hooks"] if hook == "cell_finished"]
        row["registers"] = row["reason"] or ", ".join(names)
        row["place"] = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
    return text_table(rows, ("name", "version", "kind", "status", "registers", "place"))


def _tasks(registry: Registry, told: list[str]) -> list[dict[str, Any]]:
    rows = []
    silent: dict[str, str] = {}
    for name, registered in sorted(registry.tasks.items()):
        task = registered.value
        rows.append(
            {
                "name": name,
                "version": task.version,
                "kind": task.kind,
                "form": task.form,
                "sizes": dict(task.sizes),
                "subtasks": list(task.subtasks),
                "source": task.source,
                "licence": task.licence,
                "chance": task.chance,
                "max_new_tokens": task.max_new_tokens,
                "description": task.description,
                "options": dict(task.options),
                "label_columns": list(task.label_columns),
                "columns": _columns(registry, task, silent),
                "plugin": registered.plugin.name,
                "file": registered.plugin.file,
            }
        )
    told += silent.values()
    return rows


def _columns(registry: Registry, task: Task, silent: dict[str, str]) -> dict[str, list[str]]:
    """Return the columns of each metric for a task; a metric that raises goes into ``silent``, with its first error."""
    found = {}
    for name, registered in sorted(registry.metrics.items()):
        try:
            found[name] = list(registered.value.columns_for(task))
        except PluginCallError as error:
            silent.setdefault(name, registry.told(error))
    return found


def _metrics(registry: Registry, told: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "version": found.value.version,
            "description": found.value.description,
            "needs": list(found.value.needs),
            "tasks": list(found.value.tasks) if found.value.tasks is not None else None,
            "plugin": found.plugin.name,
            "file": found.plugin.file,
        }
        for name, found in sorted(registry.metrics.items())
    ]


def _attributions(registry: Registry, told: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "plugin": found.plugin.name,
            "null": getattr(found.value, "linear_form", None) is not None,
            "baseline_split": getattr(found.value, "baseline_split", None),
            "gradient": bool(getattr(found.value, "gradient", False)),
            "description": ((getattr(found.value, "__doc__", None) or "").strip().splitlines() or [""])[0],
        }
        for name, found in sorted(registry.attributions.items())
    ]


def _graders(registry: Registry, told: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "version": found.value.version,
            "synthetic": found.value.synthetic,
            "options": dict(found.value.options),
            "description": found.value.description,
            "plugin": found.plugin.name,
            "file": found.plugin.file,
        }
        for name, found in sorted(registry.graders.items())
    ]


def _models(registry: Registry, told: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": "pocket", "description": "the embedded model"},
        {"name": "pocket-small", "description": "a smaller one, trained by the same script from another seed"},
        {"name": "HUB/ID", "description": "any causal LM of the hub, such as Qwen/Qwen1.5-1.8B"},
        {"name": "DIR", "description": "any folder saved by save_pretrained"},
    ]


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as left-aligned text columns."""
    cells = [[("" if row[c] is None else str(row[c])) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)
