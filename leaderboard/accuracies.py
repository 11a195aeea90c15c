"""How well each model does each task, before and after tuning: held-out, mean over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.rows import graded_by, mean
from skillneurons.leaderboard.settings import prompt_settings_key
from skillneurons.results import Result
from skillneurons.types import SPLITS


def make_accuracies(cells: Iterable[Result]) -> list[dict[str, Any]]:
    """Return one entry per model, task and prompt settings; metrics of one prompt share it."""
    groups: dict[str, list[Result]] = {}
    for cell in sorted(cells, key=lambda cell: cell.key):
        if cell.status == "ok":
            groups.setdefault(prompt_settings_key(cell), []).append(cell)
    entries = [_entry(group) for group in groups.values()]
    return sorted(entries, key=accuracy_order)


def accuracy_order(entry: Mapping[str, Any]) -> list[str]:
    """Return what entries are sorted by; entries alike in it keep the order of their cells' keys."""
    return [str(entry[name]) for name in ("model", "revision", "task", "version")]


def _entry(cells: list[Result]) -> dict[str, Any]:
    first = cells[0]
    by_seed = list({cell.seed: cell for cell in cells}.values())
    return {
        "model": first.model["name"],
        "revision": first.model["revision"],
        "task": first.task["name"],
        "version": first.task["version"],
        "chance": first.task.get("chance"),
        "seeds": len(by_seed),
        "n": {split: first.n.get(split) for split in SPLITS},
        "n_neurons": first.n_neurons,
        **{name: mean(cell.accuracy.get(name) for cell in by_seed) for name in ("untuned", "tuned", "stderr")},
        "tuned_on": first.task.get("tuned_on") or "",
        "graded_by": graded_by(first) or "",
        "scores": _scores(by_seed),
    }


def _scores(cells: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the task's own figures, the mean over seeds; those of small parts stand in the cells only."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for score in cell.scores:
            if not score.get("detail"):
                found.setdefault((score["name"], score["part"]), []).append(score)
    return [
        {"name": name, "part": part, "value": mean(one["value"] for one in group), "n": group[0]["n"]}
        for (name, part), group in found.items()
    ]
