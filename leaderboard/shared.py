"""What several models have in common: cells that differ in nothing but the model and the seed.

Cells may be set beside each other where the task (version, source, data, options), the metric (version, source) and
the settings are the same, byte for byte. Settings of the model itself (dtype, chat template) and of the causal part
do not count: they say nothing about what was asked. Seeds are prompt seeds; two models are paired on those both have.
What reaches one model alone (a task and metric, or one setting of them) is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from skillneurons.leaderboard.models import Identity, identity, model_labels
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

    @property
    def name(self) -> str:
        """``sums sure``, with the setting where there are several."""
        return f"{self.task} {self.metric}{f' ({self.setting})' if self.setting else ''}"

    def columns(self) -> list[str]:
        """Return the columns that at least two models have, in the metric's order."""
        counts: dict[str, int] = {}
        for by_seed in self.cells.values():
            for name in dict.fromkeys(name for _, cell in sorted(by_seed.items()) for name in cell.columns):
                counts[name] = counts.get(name, 0) + 1
        return [name for name, n in counts.items() if n > 1]


class Apart(NamedTuple):
    """``what`` (``sums sure``) is not set side by side, or not in full, and ``why``."""

    what: str
    why: str


def told_once(found: Iterable[Apart]) -> list[str]:
    """Return one line for every reason, with all that it concerns, in the order of their first."""
    whats: dict[str, list[str]] = {}
    for what, why in found:
        whats.setdefault(why, []).append(what)
    return [f"{', '.join(dict.fromkeys(listed))}: {why}" for why, listed in whats.items()]


def asked(cell: Result, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a cell was asked, whatever model answered: task, metric, settings."""
    config = {name: value for name, value in cell.config.items() if name not in (*_NOT_ASKED, *without)}
    return {"task": cell.task, "metric": cell.metric, "config": config}


def shared(cells: Iterable[Result], labels: Mapping[Identity, str] | None = None) -> tuple[list[Shared], list[str]]:
    """Return ``side_by_side`` with what stands apart as lines."""
    found, apart = side_by_side(cells, labels)
    return found, told_once(apart)


def side_by_side(
    cells: Iterable[Result], labels: Mapping[Identity, str] | None = None
) -> tuple[list[Shared], list[Apart]]:
    """Return what at least two models have in common, and all that cannot be set side by side.

    Failed cells count as absent. Sorted by task, metric and setting; the order of ``cells`` does not show. ``labels`` are
    what the models are called, beside others that have none of these cells.
    """
    kept = sorted((cell for cell in cells if cell.status == "ok"), key=lambda cell: cell.key)
    labels = model_labels(kept) if labels is None else labels
    named: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for cell in kept:
        settings = named.setdefault((cell.task["name"], cell.metric["name"]), {})
        settings.setdefault(plain_json(asked(cell)), []).append(cell)
    found: list[Shared] = []
    apart: list[Apart] = []
    for (task, metric), settings in sorted(named.items()):
        one, told = _of_skill(task, metric, list(settings.values()), labels)
        found += one
        apart += [Apart(f"{task} {metric}", line) for line in told]
    return found, apart


def _of_skill(
    task: str, metric: str, settings: Sequence[Sequence[Result]], labels: Mapping[Identity, str]
) -> tuple[list[Shared], list[str]]:
    """Return what models have in common on one task and metric, whose cells are given by setting, and what they have not."""
    models = [{identity(cell) for cell in group} for group in settings]
    every = set().union(*models)
    if len(every) < 2:
        return [], [f"finished by {_names(every, labels)} alone"]
    found, refused = [], []
    named = differences([asked(group[0]) for group in settings])
    for setting, group in zip(named, settings, strict=True):
        by_model, twice = _by_model(group, labels)
        refused += twice
        if len(by_model) > 1:
            found.append(Shared(task, metric, setting, by_model))
    paired = {model for one in found for model in one.cells}
    told = [f"{_names(own, labels)} with {setting}" for setting, own in zip(named, models, strict=True) if own - paired]
    if told and len(settings) > 1:
        refused.append(f"run under different settings: {'; '.join(sorted(told))}")
    alone = [(setting, own) for setting, own in zip(named, models, strict=True) if len(own) < 2 and own <= paired]
    refused += sorted(f"finished by {_names(own, labels)} alone with {setting}" for setting, own in alone)
    return sorted(found, key=lambda one: one.setting), refused


def _names(models: Iterable[Identity], labels: Mapping[Identity, str]) -> str:
    return ", ".join(sorted(labels[model] for model in models))


def _by_model(
    group: Sequence[Result], labels: Mapping[Identity, str]
) -> tuple[dict[Identity, dict[int, Result]], list[str]]:
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
                twice.append(f"seed {seed} of {labels[model]} is there {len(same)} times ({keys}); delete all but one")
    return kept, twice
