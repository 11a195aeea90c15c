"""What concerns several skills of one model and seed: specificity, interactions, skills on demand.

A task's skill set is the ten strongest neurons of the foremost of its primary columns that was tested.

- Specificity: the set of each task (row) is ablated at the prompt of every task (column): drop in accuracy and in the
  target's log-probability, beside random sets matched to the row's set.
- Interactions: the overlap of the tasks' sets and of the metrics' sets within a task, and their joint ablation.
- Skills on demand (``gating``).

Half of ``causal.examples`` (``causal.generated``) is measured here.

All rests on finished cells; the file is ``across/<key>.json``, its key made of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skillneurons.ablation import compare, sets_of
from skillneurons.causal import TABLE_K, spread
from skillneurons.changes import Change
from skillneurons.effects import first_failure
from skillneurons.errors import SkillNeuronsError
from skillneurons.gating import Skill, skills_on_demand
from skillneurons.inputs import encode_examples
from skillneurons.interaction import joint_ablation, overlaps
from skillneurons.passes import read_scores
from skillneurons.prompt import SoftPrompt
from skillneurons.results import Result, content_key, write_json_atomic
from skillneurons.statistics import ranking
from skillneurons.testbed import Testbed, testbed

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.plan import Unit
    from skillneurons.run_context import RunContext

SCHEMA_VERSION = 1
OUTCOMES = ("accuracy", "log_prob")
SPLITS = ("train", "discovery", "heldout")


@dataclass(frozen=True, eq=False)
class Side:
    """One task of the comparison: its unit, its finished cells, and the columns that were tested, foremost first."""

    unit: Unit
    cells: Sequence[Result]
    columns: Mapping[str, str] = field(default_factory=dict)  # column -> key of its cell

    @property
    def name(self) -> str:
        return self.unit.data.task.name


def sides_of(context: RunContext, units: Sequence[Unit]) -> list[Side]:
    """Return the tasks of one model and seed whose cells are finished and tested."""
    sides = []
    for unit in units:
        found = [context.folder.read_cell(cell.key) for cell in unit.cells]
        cells = [cell for cell in found if cell is not None and cell.status == "ok"]
        tested = {
            column: cell.key
            for cell in cells
            for column, figures in ((cell.causal or {}).get("columns") or {}).items()
            if figures.get("doses")
        }
        foremost = [name for name in unit.data.task.primary if name in tested]
        ordered = {name: tested[name] for name in dict.fromkeys([*foremost, *sorted(tested)])}
        if ordered and unit.prompt_key is not None:
            sides.append(Side(unit, cells, ordered))
    return sides


def across_key(context: RunContext, sides: Sequence[Side]) -> str:
    """Return the key of what is measured on these cells."""
    config = context.config
    payload = {
        "schema_version": SCHEMA_VERSION,
        "cells": sorted(cell.key for side in sides for cell in side.cells),
        "causal": config.causal.model_dump(mode="json"),
    }
    return content_key("across", f"s{sides[0].unit.seed}", payload=payload)


def measure_across(context: RunContext, lm: LanguageModel, sides: Sequence[Side], key: str) -> None:
    """Measure and save what concerns these tasks together; what fails stands there with its reason."""
    settings = context.config.causal
    n = len(sides)
    label = f"{sides[0].unit.model} seed {sides[0].unit.seed}: across {n} tasks"
    with context.display.work(label, 2 * n + 1) as step:
        beds = {side.name: _bed(context, lm, side) for side in sides}
        sets = {side.name: {column: _strongest(context, side, column) for column in side.columns} for side in sides}
        skill = {name: next(iter(columns.values())) for name, columns in sets.items()}
        found: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "model": sides[0].unit.model,
            "revision": sides[0].unit.revision,
            "seed": sides[0].unit.seed,
            "cells": sorted(cell.key for side in sides for cell in side.cells),
            "tasks": [side.name for side in sides],
            "columns": {side.name: next(iter(side.columns)) for side in sides},
            "mode": settings.mode,
            "positions": settings.positions,
            "k": TABLE_K,
            "n_heldout": {name: len(bed.replay.encoded) for name, bed in beds.items()},
            "specificity": [],
            "interactions": {"within": {}, "between": {}},
        }
        for row in skill:
            found["specificity"] += _specificity(context, beds, row, skill[row][0])
            step(1)
        shared: dict[str, Any] = {
            "mode": settings.mode,
            "resamples": context.config.attribution.bootstrap,
            "seed": settings.seed,
        }
        flat = {name: neurons for name, (neurons, _) in skill.items()}
        found["interactions"]["between"]["overlaps"] = [vars(one) for one in overlaps(flat, lm.n_neurons)]
        joints: dict[str, Any] = found["interactions"]["between"].setdefault("joints", {})
        for name, bed in beds.items():
            inside = {column: neurons for column, (neurons, _) in sets[name].items()}
            found["interactions"]["within"][name] = {
                "overlaps": [vars(one) for one in overlaps(inside, lm.n_neurons)],
                "joints": [vars(one) for one in joint_ablation(bed, inside, **shared)],
            }
            pairs = [(name, other) for other in flat if other != name]
            joints[name] = [vars(one) for one in joint_ablation(bed, flat, pairs=pairs, **shared)]
            step(1)
        found["on_demand"] = _on_demand(context, lm, sides, beds, skill)
        step(1)
    write_json_atomic(context.folder.across / f"{key}.json", found)


def _bed(context: RunContext, lm: LanguageModel, side: Side) -> Testbed:
    settings, config = context.config.causal, context.config
    whole = settings.examples if side.unit.data.task.kind == "choice" else settings.generated
    n = max(1, whole // 2)  # every set of neurons is measured on every task
    prompt = SoftPrompt.from_pretrained(context.folder.prompts / str(side.unit.prompt_key))
    encoded = {
        split: encode_examples(
            lm,
            side.unit.data.task,
            side.unit.data.splits[split],
            num_virtual_tokens=config.prompt.num_virtual_tokens,
            too_long=config.model.too_long,
        )
        for split in ("discovery", "heldout")
    }
    return testbed(
        lm,
        side.unit.data.task,
        spread(encoded["discovery"], n),
        spread(encoded["heldout"], n),
        prompt,
        {},
        mode=settings.mode,
        positions=settings.positions,
        batch_size=config.attribution.batch_size,
        seed=settings.seed,
    )


def _strongest(context: RunContext, side: Side, column: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the ten strongest neurons of a column (flat indices) and their signs, from the saved scores."""
    scores = read_scores(context.folder, side.columns[column])[0][column]
    chosen = ranking(scores, TABLE_K)
    return tuple(int(n) for n in chosen), tuple(float(scores.flat[n]) for n in chosen)


def _specificity(
    context: RunContext, beds: Mapping[str, Testbed], row: str, neurons: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the effect of one task's set, beside its random sets, on every task."""
    settings = context.config.causal
    try:
        chosen, controls = sets_of(beds[row], neurons, len(neurons), settings.random_sets, settings.seed)
    except SkillNeuronsError as error:
        return [{"set": row, "on": name, "reason": first_failure(error)} for name in beds]
    changes = [Change(one, settings.mode) for one in (chosen, *controls)]
    found = []
    for name, bed in beds.items():
        bed.behaviours(changes)
        cell: dict[str, Any] = {"set": row, "on": name, "accuracy_intact": bed.intact.accuracy}
        for outcome in OUTCOMES:
            mine, *rest = bed.effects(changes, None, outcome)
            cell[outcome] = vars(compare(mine, rest))
        found.append(cell)
    return found


def _on_demand(
    context: RunContext,
    lm: LanguageModel,
    sides: Sequence[Side],
    beds: Mapping[str, Testbed],
    skill: Mapping[str, tuple[tuple[int, ...], tuple[float, ...]]],
) -> dict[str, Any]:
    """Return how the gate's policies compare, or the reason why they were not."""
    config = context.config
    try:
        skills = {}
        for side in sides:
            bed = beds[side.name]
            if bed.replay.prompt is None or config.causal.positions != "prompt":
                return {
                    "reason": "skills are switched on by prompts and pushes at prompt tokens (causal.positions: prompt)"
                }
            train = encode_examples(
                lm,
                side.unit.data.task,
                side.unit.data.splits["train"],
                num_virtual_tokens=bed.replay.prompt.num_virtual_tokens,
                too_long=config.model.too_long,
            )
            neurons, signs = skill[side.name]
            skills[side.name] = Skill(
                side.unit.data.task,
                bed.replay.prompt,
                spread(train, 200),
                bed.replay.encoded,
                bed.reference,
                neurons,
                signs,
            )
        return skills_on_demand(lm, skills, batch_size=config.attribution.batch_size, seed=config.causal.seed).to_json()
    except SkillNeuronsError as error:
        return {"reason": first_failure(error)}
