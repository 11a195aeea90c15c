"""What several models have in common: cells that differ in nothing but the model and the seed.

Cells may be set beside each other where the task (version, source, data, options), the metric (version, source) and
the settings are the same, byte for byte. Settings of the model itself (dtype, chat template) and of the causal part
do not count: they say nothing about what was asked. Seeds are prompt seeds; two models are paired on those both have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.leaderboard.models import Identity, identity
from skillneurons.leaderboard.settings import differences, plain_json
from skillneurons.results import Result

_NOT_ASKED = ("seed", "seeds", "model", "metrics", "causal")


@dataclass(frozen=True)
class Shared:
    """One task and metric under one setting: ``cells`` by model, then by seed.

    ``setting`` says what sets it apart from other settings of the same task and metric, ``""`` where there is one alone.
    """

    task: str
    metric: str
    setting: str
    cells: Mapping[Identity, Mapping[int, Result]]

    def columns(self) -> list[str]:
        """Return the columns that at least two models have, in the metric's order."""
        counts: dict[str, int] = {}
        for by_seed in self.cells.values():
            for name in dict.fromkeys(name for _, cell in sorted(by_seed.items()) for name in cell.columns):
                counts[name] = counts.get(name, 0) + 1
        return [name for name, n in counts.items() if n > 1]


def asked(cell: Result, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a cell was asked, whatever model answered: task, metric, settings."""
    config = {name: value for name, value in cell.config.items() if name not in (*_NOT_ASKED, *without)}
    return {"task": cell.task, "metric": cell.metric, "config": config}


def shared(cells: Iterable[Result]) -> tuple[list[Shared], list[str]]:
    """Return what at least two models have in common, and one line for everything that cannot be set side by side.

    Failed cells count as absent. Sorted by task, metric and setting; the order of ``cells`` does not show.
    """
    named: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for cell in sorted(cells, key=lambda cell: cell.key):
        if cell.status == "ok":
            settings = named.setdefault((cell.task["name"], cell.metric["name"]), {})
            settings.setdefault(plain_json(asked(cell)), []).append(cell)
    found: list[Shared] = []
    refused: list[str] = []
    for (task, metric), settings in sorted(named.items()):
        models = {identity(cell) for group in settings.values() for cell in group}
        if len(models) < 2:
            continue
        apart = differences([asked(group[0]) for group in settings.values()])
        kept = []
        for setting, group in zip(apart, settings.values(), strict=True):
            by_model, twice = _by_model(group)
            refused += [f"{task} {metric}: {line}" for line in twice]
            if len(by_model) > 1:
                kept.append(Shared(task, metric, setting, by_model))
        found += sorted(kept, key=lambda one: one.setting)
        paired = {model for one in kept for model in one.cells}
        if models - paired:
            told = sorted(
                f"{_names(group)} with {setting}"
                for setting, group in zip(apart, settings.values(), strict=True)
                if {identity(cell) for cell in group} - paired
            )
            if told and len(settings) > 1:
                refused.append(f"{task} {metric}: run under different settings: {'; '.join(told)}")
    return found, refused


def _names(group: Sequence[Result]) -> str:
    return ", ".join(sorted({cell.model["name"] for cell in group}))


def _by_model(group: Sequence[Result]) -> tuple[dict[Identity, dict[int, Result]], list[str]]:
    """Return the cells by model and seed, and what is there twice (left out)."""
    by_model: dict[Identity, dict[int, list[Result]]] = {}
    for cell in group:
        by_model.setdefault(identity(cell), {}).setdefault(cell.seed, []).append(cell)
    kept: dict[Identity, dict[int, Result]] = {}
    twice = []
    for model, by_seed in sorted(by_model.items()):
        for seed, same in sorted(by_seed.items()):
            if len(same) == 1:
                kept.setdefault(model, {})[seed] = same[0]
            else:
                keys = ", ".join(cell.key for cell in same)
                twice.append(f"seed {seed} of {model[0]} is there {len(same)} times ({keys}); delete all but one")
    return kept, twice
