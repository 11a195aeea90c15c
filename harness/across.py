"""What concerns several skills of one model and seed: specificity, interactions, skills on demand.

A task's skill set is the ten strongest neurons of the foremost of its primary columns that was tested.

- Specificity: the K strongest neurons of each task (row), for every K of ``causal.across_k``, are ablated at the prompt of
  every task (column): drop in accuracy and in the target's log-probability, and how far the column's own metric moves,
  beside random sets matched to the row's set.
- Interactions: the overlap of the tasks' sets and of the metrics' sets within a task, and their joint ablation.
- Skills on demand (``gating``).

Half of ``causal.examples`` (``causal.generated``) is measured here. What cannot be measured stands there with its reason; an
error that no rule of ours gives is kept in ``errors``, and the next run measures the whole again.

All rests on finished cells; the file is ``across/<key>.json``, its key made of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skillneurons.ablation import compare, sets_of
from skillneurons.across_file import SCHEMA_VERSION
from skillneurons.across_state import Side
from skillneurons.causal import TABLE_K, spread
from skillneurons.changes import Change
from skillneurons.effects import first_failure
from skillneurons.errors import SkillNeuronsError
from skillneurons.gating import Skill, skills_on_demand
from skillneurons.inputs import encode_examples
from skillneurons.interaction import joint_ablation, overlaps
from skillneurons.micro_batches import MicroBatches
from skillneurons.pass_scores import discovery_scores
from skillneurons.results import write_json_atomic
from skillneurons.statistics import ranking
from skillneurons.testbed import Testbed, testbed
from skillneurons.unit_prompt import prompt_of_unit

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.prompt import SoftPrompt
    from skillneurons.run_context import RunContext

Strongest = tuple[tuple[int, ...], tuple[float, ...]]  # flat indices, signs
OUTCOMES = ("accuracy", "log_prob", "metric", "moved")


def measure_across(
    context: RunContext, lm: LanguageModel, sides: Sequence[Side], key: str, absent: Mapping[str, str]
) -> None:
    """Measure and save what concerns these tasks together; what fails stands there with its reason."""
    settings = context.config.causal
    label = f"{sides[0].unit.model} seed {sides[0].unit.seed}: across {len(sides)} tasks"
    parts = _Parts()
    with context.display.work(label, 3 * len(sides) + 1) as step:
        beds: dict[str, Testbed] = {}
        outcomes: dict[str, str] = {}  # what the foremost column is judged by
        for side in sides:
            with parts.guard(f"on {side.name}"):
                bed = _bed(context, lm, side, _prompt(context, lm, side))
                outcomes[side.name] = bed.outcome_of(side.foremost)
                beds[side.name] = bed
            step(1)
        sets = {side.name: {column: _strongest(context, side, column) for column in side.columns} for side in sides}
        found: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "model": sides[0].unit.model,
            "revision": sides[0].unit.revision,
            "seed": sides[0].unit.seed,
            "cells": sorted(cell.key for side in sides for cell in side.cells),
            "tasks": [side.name for side in sides],
            "absent": dict(absent),
            "columns": {side.name: side.foremost for side in sides},
            "outcomes": outcomes,
            "settings": settings.model_dump(mode="json", exclude={"enabled", "across"}),
            "mode": settings.mode,
            "positions": settings.positions,
            "k": TABLE_K,
            "n_heldout": {name: len(bed.replay.encoded) for name, bed in beds.items()},
            "specificity": [],
            "interactions": {"within": {}, "between": {}},
        }
        for side in sides:
            with parts.guard(f"specificity of {side.name}"):
                if side.name in beds:
                    columns = found["columns"]
                    found["specificity"] += _specificity(context, beds, side, columns, parts)
            step(1)
        skill = {side.name: sets[side.name][side.foremost] for side in sides}
        flat = {name: neurons for name, (neurons, _) in skill.items()}
        found["interactions"] = _interactions(context, lm, beds, sets, flat, parts, step)
        found["on_demand"] = {"reason": "not measured"}
        with parts.guard("skills on demand"):
            found["on_demand"] = _on_demand(context, lm, sides, beds, skill)
        step(1)
    found["failures"], found["errors"] = parts.failures, parts.errors
    path = context.folder.across / f"{key}.json"
    write_json_atomic(path, found)
    context.folder.publish(path)
    context.notes.extend(f"{label}: {what}: {reason}" for what, reason in {**parts.failures, **parts.errors}.items())


class _Parts:
    """Parts that may fail without the others: ``failures`` by a rule of ours, ``errors`` by any other cause."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            known = self.failures if isinstance(error, SkillNeuronsError) else self.errors
            known[what] = first_failure(error)


def _interactions(
    context: RunContext,
    lm: LanguageModel,
    beds: Mapping[str, Testbed],
    sets: Mapping[str, Mapping[str, Strongest]],
    flat: Mapping[str, tuple[int, ...]],
    parts: _Parts,
    step: Callable[[int], None],
) -> dict[str, Any]:
    """Return overlaps and joint ablations of the sets of a task's columns, and of the tasks' foremost sets."""
    settings = context.config.causal
    shared: dict[str, Any] = {
        "mode": settings.mode,
        "resamples": context.config.attribution.bootstrap,
        "seed": settings.seed,
    }
    within: dict[str, Any] = {}
    joints: dict[str, Any] = {}
    for name, bed in beds.items():
        inside = {column: neurons for column, (neurons, _) in sets[name].items()}
        within[name] = {"overlaps": [vars(one) for one in overlaps(inside, lm.n_neurons)], "joints": []}
        with parts.guard(f"joint ablation on {name}"):
            within[name]["joints"] = [vars(one) for one in joint_ablation(bed, inside, **shared)]
            pairs = [(name, other) for other in flat if other != name]
            joints[name] = [vars(one) for one in joint_ablation(bed, flat, pairs=pairs, **shared)]
        step(1)
    between = {"overlaps": [vars(one) for one in overlaps(flat, lm.n_neurons)], "joints": joints}
    return {"within": within, "between": between}


def _prompt(context: RunContext, lm: LanguageModel, side: Side) -> SoftPrompt:
    """Return the prompt of a task; one that is gone, though its cells are finished, is tuned again."""
    label = f"{side.unit.model} {side.name} seed {side.unit.seed}"
    prompt, _ = prompt_of_unit(context, side.unit, lm, label, MicroBatches(context.config.prompt.batch_size))
    context.kept.clear()  # the inputs of a tuning
    return prompt


def _bed(context: RunContext, lm: LanguageModel, side: Side, prompt: SoftPrompt) -> Testbed:
    settings, config = context.config.causal, context.config
    whole = settings.examples if side.unit.data.task.kind == "choice" else settings.generated
    n = max(1, whole // 2)  # every set of neurons is measured on every task
    metric = context.registry.metric(side.foremost.partition(".")[0])
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
        {metric.name: (metric, metric.columns_for(side.unit.data.task))},
        mode=settings.mode,
        positions=settings.positions,
        batch_size=config.attribution.at_once,
        seed=settings.seed,
    )


def _strongest(context: RunContext, side: Side, column: str, k: int = TABLE_K) -> Strongest:
    """Return the K strongest neurons of a column (flat indices) and their signs, from the saved scores."""
    scores = discovery_scores(context.folder, side.columns[column])[column]
    chosen = ranking(scores, k)
    return tuple(int(n) for n in chosen), tuple(float(scores.flat[n]) for n in chosen)


def _specificity(
    context: RunContext, beds: Mapping[str, Testbed], side: Side, columns: Mapping[str, str], parts: _Parts
) -> list[dict[str, Any]]:
    """Return the effect of one task's sets, beside their random sets, on every task and on its column."""
    settings, row = context.config.causal, side.name
    found: list[dict[str, Any]] = []
    for k in sorted(set(settings.across_k)):
        try:
            neurons, _ = _strongest(context, side, side.foremost, k)
            chosen, controls = sets_of(beds[row], neurons, k, settings.random_sets, settings.seed)
        except SkillNeuronsError as error:
            found += [{"set": row, "on": name, "k": k, "reason": first_failure(error)} for name in beds]
            continue
        changes = [Change(one, settings.mode) for one in (chosen, *controls)]
        for name, bed in beds.items():
            cell: dict[str, Any] = {"set": row, "on": name, "k": k, "reason": f"not measured on {name}"}
            with parts.guard(f"the {k} neurons of {row} on {name}"):
                bed.behaviours(changes)
                cell |= {"accuracy_intact": bed.intact.accuracy, "random_sets": len(controls)}
                for outcome in OUTCOMES:
                    mine, *rest = bed.effects(changes, columns[name], outcome)
                    cell[outcome] = vars(compare(mine, rest))
                del cell["reason"]
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
            bed = beds.get(side.name)
            if bed is None:
                return {"reason": f"{side.name} could not be made ready; skills are compared on all tasks"}
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
        return skills_on_demand(lm, skills, batch_size=config.attribution.at_once, seed=config.causal.seed).to_json()
    except SkillNeuronsError as error:
        return {"reason": first_failure(error)}
