"""The work of one unit (model, task, seed): its prompt, its pass, its baselines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.attribution import Attribution, attribution_of
from skillneurons.cards import make_cards
from skillneurons.causal import spread
from skillneurons.cell_columns import Beside, column_figures
from skillneurons.errors import SkillNeuronsError, UserError
from skillneurons.inference import InferenceSettings
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.measurement import Applied, Measured, accuracy, mean_activations, measure, positions_read
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.partial import PartialCorrelationAccumulator
from skillneurons.passes import write_pass
from skillneurons.plan import Unit, nuisances_of, rivals_of
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.prompt import SoftPrompt
from skillneurons.run_context import RunContext
from skillneurons.shard_runner import UnitShardRunner
from skillneurons.sharded_passes import ShardedPasses, sharded_passes
from skillneurons.shortcuts import shortcut_report
from skillneurons.testbed import Testbed, testbed
from skillneurons.types import Score, Split, Task
from skillneurons.unit_prompt import half_budget, initial_of_unit, prompt_of_unit

MEASURED: tuple[Split, ...] = ("discovery", "heldout")


@dataclass(frozen=True)
class UnitResult:
    """What a unit found: accuracies, the scores with what stands beside them, and the metrics that failed.

    ``seconds`` says what tuning, the passes and the inference on their rows took, ``batches`` how many examples ran at once.
    """

    accuracy: Mapping[str, float | None]
    attribution: Attribution
    beside: Beside
    failures: Mapping[str, SkillNeuronsError]
    top_k: int
    scores: Sequence[Score] = ()
    truncated: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)
    bed: Callable[[str], Testbed] | None = None  # by metric
    cards: Callable[[Sequence[str], int], dict[str, Any]] | None = None

    def columns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the figures of the named columns."""
        return {name: column_figures(self.attribution, self.beside, name, self.top_k) for name in names}


@dataclass(frozen=True)
class _Work:
    """What every pass of a unit needs."""

    context: RunContext
    unit: Unit
    lm: LanguageModel
    applied: Applied
    factory: Callable[..., Any]
    label: str
    fitting: MicroBatches
    shards: ShardedPasses | None = None

    @property
    def columns(self) -> list[str]:
        return [column for _, names in self.applied.values() for column in names]


def measure_unit(context: RunContext, unit: Unit, lm: LanguageModel) -> UnitResult:
    """Tune or load the prompt, run the pass of the pending metrics and its baselines, and save the pass."""
    label = f"{unit.model} {unit.data.task.name} seed {unit.seed}"
    settings = context.config.attribution
    if settings.top_k > lm.n_neurons:
        raise UserError(
            f"attribution.top_k {settings.top_k}: {unit.model!r} has {lm.n_neurons} feed-forward neurons; choose fewer"
        )
    applied = {cell.metric.name: (cell.metric, cell.columns) for cell in unit.pending}
    for metric in unit.support:
        applied.setdefault(metric.name, (metric, metric.columns_for(unit.data.task)))
    factory = context.registry.attribution(settings.statistic)
    fitting = MicroBatches(settings.at_once, settings.at_most)
    work = _Work(context, unit, lm, applied, factory, label, fitting, _shards(context, unit, lm))
    tuning = MicroBatches(context.config.prompt.batch_size)
    prompt, tuned_in = prompt_of_unit(context, unit, lm, label, tuning) if unit.prompt_key else (None, {})
    began = time.perf_counter()
    bare = _bare(work) if prompt is not None else None
    tuned, partial, means = _tuned_pass(work, prompt, bare.inputs if bare else None)
    passed = time.perf_counter()
    wanted = [column for cell in unit.pending for column in cell.columns]
    inference = InferenceSettings(
        settings.permutations, settings.bootstrap, settings.seed, tuple(settings.thresholds), settings.top_k
    )
    with context.display.work(f"{label}: null and intervals", len(wanted)) as step:
        attribution = attribution_of(lm, applied, tuned, factory, inference, means, only=wanted, progress=step)
        shortcuts = _shortcuts(work, attribution, wanted, _failures(tuned))
    inferred = time.perf_counter()
    baseline, bare_tuning, untuned = None, None, None
    if bare is not None:
        baseline = attribution_of(lm, applied, bare.measured, factory)
        first = initial_of_unit(context, unit, lm)
        before = _pass(work, first, f"{label}: untuned prompt", inputs=bare.inputs)
        bare_tuning = attribution_of(lm, applied, before, factory)
        untuned = before["heldout"].accuracy
    value, stderr = accuracy(tuned["heldout"].encoded, tuned["heldout"].outputs)
    failures = _failures(tuned)
    for cell in unit.pending:
        if cell.metric.name not in failures:
            write_pass(context.folder, cell.key, attribution, cell.columns)
    figures = {"untuned": value, "tuned": None} if prompt is None else {"untuned": untuned, "tuned": value}
    return UnitResult(
        accuracy={name: _scored(number) for name, number in {**figures, "stderr": stderr}.items()},
        attribution=attribution,
        beside=Beside(baseline, bare_tuning, partial, _why_no_partial(work, failures), shortcuts, settings.thresholds),
        failures={name: error for name, error in failures.items() if any(c.metric.name == name for c in unit.pending)},
        top_k=settings.top_k,
        scores=scores_of(unit.data.task, tuned),
        truncated={split: sum(row.truncated for row in one.encoded) for split, one in tuned.items()},
        seconds={**tuned_in, "passes": round(passed - began, 3), "inference": round(inferred - passed, 3)},
        batches=_batches(context, label, work.fitting, tuning),
        bed=_beds(work, prompt, tuned),
        cards=lambda columns, n: make_cards(
            lm,
            prompt,
            attribution,
            columns,
            n,
            site=settings.site,
            position=settings.position,
            gradient=bool(getattr(factory, "gradient", False)),
        ),
    )


def _shards(context: RunContext, unit: Unit, lm: LanguageModel) -> ShardedPasses | None:
    """Return who runs the unit's passes in shards, the same for every seed; None where a pass is run whole."""

    def make() -> ShardedPasses | None:
        runners = context.runners(unit, lm) if context.runners is not None else None
        return sharded_passes(
            context.config.executor.shards,
            lambda: UnitShardRunner(context.config, context.registry, unit, lm, context.plant),
            runners,
        )

    made: ShardedPasses | None = context.shared("shards", (unit.model, unit.data.task.name, unit.data.hash), make)
    return made


@dataclass(frozen=True)
class _Bare:
    """The pass without a prompt, and the inputs that it has run: the same for every seed of a task."""

    measured: Mapping[Split, Measured]
    inputs: Mapping[Split, InputCache]


def _bare(work: _Work) -> _Bare:
    """Run discovery and heldout without a prompt, once for all seeds of the task."""
    context, unit = work.context, work.unit
    task, m = unit.data.task, context.config.prompt.num_virtual_tokens

    def run() -> _Bare:
        inputs: dict[Split, InputCache] = {}
        left = half_budget(context)
        measured: dict[Split, Measured] = {}
        if work.shards is not None:  # whoever runs a shard keeps its inputs
            return _Bare(_pass(work, None, f"{work.label}: no-prompt baseline", inputs={}), {})
        for split in MEASURED:
            encoded = _encoded(context, unit, work.lm, split, None)
            answers = max(len(one) for row in encoded for one in (row.target, *(row.choices or ())))
            room = m + (answers if task.kind == "choice" else max(answers, task.max_new_tokens))
            inputs[split] = InputCache(work.lm, room=room, budget=left)
            measured |= _pass(work, None, f"{work.label}: no-prompt baseline", inputs=inputs, splits=(split,))
            left = inputs[split].left
        return _Bare(measured, inputs)

    made: _Bare = context.shared("no-prompt pass", (unit.model, task.name, unit.data.hash, tuple(work.applied)), run)
    return made


def _batches(context: RunContext, label: str, passes: MicroBatches, tuning: MicroBatches) -> dict[str, int]:
    """Return how many examples ran at once, and how often memory ran out, which is told."""
    halved = passes.halved + tuning.halved
    if halved:
        context.notes.append(
            f"{label}: out of memory {halved} times; went on with {passes.size} examples at once in passes, {tuning.size} in "
            "tuning (results are the same up to rounding)"
        )
    return {"passes": passes.size, "tuning": tuning.size, "out_of_memory": halved}


def _beds(work: _Work, prompt: SoftPrompt | None, tuned: Mapping[Split, Measured]) -> Callable[[str], Testbed]:
    """Return where the unit's neurons are changed, by the metric that watches: a metric that fails spoils no other's.

    Heldout as it was encoded, the reference from discovery, measured when the first metric asks.
    """
    settings = work.context.config.causal

    @cache
    def shared() -> Testbed:
        n = settings.examples if work.unit.data.task.kind == "choice" else settings.generated
        return testbed(
            work.lm,
            work.unit.data.task,
            spread(tuned["discovery"].encoded, n),
            spread(tuned["heldout"].encoded, n),
            prompt,
            {},
            mode=settings.mode,
            positions=settings.positions,
            batch_size=work.fitting.size,
            seed=settings.seed,
        )

    return lambda metric: shared().of({metric: work.applied[metric]})


def _tuned_pass(
    work: _Work, prompt: SoftPrompt | None, inputs: Mapping[Split, InputCache] | None
) -> tuple[dict[Split, Measured], Mapping[str, npt.NDArray[np.float64]], npt.NDArray[np.float64] | None]:
    """Run the pass that keeps its rows; return it, the held-out partial r by column, and the means a statistic needs."""
    settings, lm = work.context.config.attribution, work.lm
    means = None
    needs = getattr(work.factory, "baseline_split", None)
    if needs is not None:
        n = len(work.unit.data.splits[needs])
        with work.context.display.work(f"{work.label}: mean activations on {needs}", n) as step:
            means = _means(work, needs, prompt, step)
    controls = _controls(work)
    partial = None
    if any(controls) and not _why_no_partial(work, {}):
        partial = PartialCorrelationAccumulator(positions_read(prompt, settings.position) * lm.n_neurons, controls)
    measured = _pass(work, prompt, f"{work.label}: attribution", means, keep_rows=True, partial=partial, inputs=inputs)
    found: dict[str, npt.NDArray[np.float64]] = {}
    if partial is not None and not _why_no_partial(work, _failures(measured)):
        rows = partial.result().reshape(len(controls), -1, lm.n_neurons)
        found = {column: rows[i] for i, column in enumerate(work.columns) if controls[i]}
    return measured, found, means


def _controls(work: _Work) -> list[tuple[int, ...]]:
    """Return for each column the indices of the nuisance columns that are held constant."""
    columns = work.columns
    names = nuisances_of(work.context.config, work.context.registry, work.unit.data.task)
    return [tuple(columns.index(name) for name in names if name != column) for column in columns]


def _why_no_partial(work: _Work, failures: Mapping[str, SkillNeuronsError]) -> str:
    """Return why the unit has no partial r, or nothing where it has."""
    if work.context.config.attribution.statistic != "pearson":
        return "partial r is Pearson's; the statistic is another"
    if work.lm.has_experts:
        return "partial r needs neurons that fire on every example; the model is a mixture of experts"
    names = nuisances_of(work.context.config, work.context.registry, work.unit.data.task)
    if not names:
        return "the task has no column of attribution.nuisance"
    failed = sorted({name.partition(".")[0] for name in names} & set(failures))
    return f"metric {failed[0]!r} of attribution.nuisance failed: {failures[failed[0]]}" if failed else ""


def _failures(measured: Mapping[Split, Measured]) -> dict[str, SkillNeuronsError]:
    """Return the metrics that failed on either split, with the error of the first."""
    return {name: error for one in reversed(list(measured.values())) for name, error in one.failures.items()}


def _shortcuts(
    work: _Work, attribution: Attribution, wanted: Sequence[str], failures: Mapping[str, SkillNeuronsError]
) -> dict[str, dict[str, Any]]:
    """Return the report of each rival explanation among the wanted columns, on its ten strongest neurons."""
    settings, held = work.context.config.attribution, attribution.splits["heldout"]
    found: dict[str, dict[str, Any]] = {}
    columns = work.columns
    for target, rivals in rivals_of(work.context.registry, work.unit.data.task).items():
        for rival in rivals:
            if rival not in wanted or held.rows is None:
                continue
            if work.lm.has_experts:
                reason = "the model is a mixture of experts, whose neurons do not fire on every example"
                found[rival] = {"wanted": target, "reason": reason, "neurons": [], "verdicts": {}}
                continue
            failed = failures.get(target.partition(".")[0])
            if failed is not None:
                reason = f"{target} was not measured: {failed}"
                found[rival] = {"wanted": target, "reason": reason, "neurons": [], "verdicts": {}}
                continue
            known = attribution.inference[rival]
            chosen = known.chosen[: settings.top_k]
            at = attribution.positions[rival].ravel()[chosen] if attribution.positions else None
            report = shortcut_report(
                held.rows.of(chosen, at),
                held.values[:, columns.index(target)],
                held.values[:, columns.index(rival)],
                held.groups,
                n_permutations=settings.permutations,
                n_resamples=settings.bootstrap,
                seed=settings.seed,
            )
            for neuron, row in zip(chosen, report["neurons"], strict=False):
                row |= {"layer": int(neuron // work.lm.d_ff), "neuron": int(neuron % work.lm.d_ff)}
            found[rival] = {"wanted": target, **report}
    return found


def scores_of(task: Task, measured: Mapping[Split, Measured]) -> Sequence[Score]:
    """Return the task's own figures over all measured examples; none of them was tuned on."""
    if task.score is None:
        return ()
    pairs = [
        (row.example, output) for one in measured.values() for row, output in zip(one.encoded, one.outputs, strict=True)
    ]
    return call_plugin(PluginCall("task", task.name, "score"), task.score, pairs)


def _scored(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else number


def _reading(work: _Work, prompt: SoftPrompt | None) -> dict[str, Any]:
    return {"position": _position(work, prompt), "site": work.context.config.attribution.site, "fitting": work.fitting}


def _position(work: _Work, prompt: SoftPrompt | None) -> str:
    return work.context.config.attribution.position if prompt else "input_last"


def _means(
    work: _Work, split: Split, prompt: SoftPrompt | None, progress: Callable[[int], None] | None = None
) -> npt.NDArray[np.float64]:
    """Return every neuron's mean activation over a split."""
    if work.shards is not None:
        position = _position(work, prompt)
        return work.shards.mean_activations(split, prompt, work.fitting, position=position, progress=progress)
    encoded = _encoded(work.context, work.unit, work.lm, split, prompt)
    return mean_activations(work.lm, encoded, prompt, **_reading(work, prompt), progress=progress)


def _pass(
    work: _Work,
    prompt: SoftPrompt | None,
    label: str,
    means: npt.NDArray[np.float64] | None = None,
    *,
    keep_rows: bool = False,
    partial: PartialCorrelationAccumulator | None = None,
    inputs: Mapping[Split, InputCache] | None = None,
    splits: Sequence[Split] = MEASURED,
) -> dict[Split, Measured]:
    """Run discovery and heldout (``splits``) once each, with a prompt or without; ``partial`` sees heldout.

    A pass without a prompt fills ``inputs``, one with a prompt begins there.
    """
    measured: dict[Split, Measured] = {}
    unit = work.unit
    factory = work.factory
    if getattr(factory, "baseline_split", None) and means is None:
        means = _means(work, factory.baseline_split, prompt)  # type: ignore[attr-defined]
    with work.context.display.work(label, sum(len(unit.data.splits[split]) for split in splits)) as step:
        for split in splits:
            if work.shards is not None:
                measured[split] = work.shards.measure(
                    split,
                    work.applied,
                    prompt,
                    work.fitting,
                    position=_position(work, prompt),
                    means=means,
                    keep_rows=keep_rows,
                    partial=partial if split == "heldout" else None,
                    with_inputs=inputs is not None,
                    progress=step,
                )
                continue
            measured[split] = measure(
                work.lm,
                unit.data.task,
                _encoded(work.context, unit, work.lm, split, prompt),
                work.applied,
                prompt,
                **_reading(work, prompt),
                accumulator=factory,
                baseline=means,
                keep_rows=keep_rows,
                plant=work.context.plant if keep_rows else None,
                partial=partial if split == "heldout" else None,
                inputs=inputs[split] if inputs else None,
                progress=step,
            )
    return measured


def _encoded(
    context: RunContext, unit: Unit, lm: LanguageModel, split: Split, prompt: SoftPrompt | None
) -> list[EncodedExample]:
    return encode_examples(
        lm,
        unit.data.task,
        unit.data.splits[split],
        num_virtual_tokens=prompt.num_virtual_tokens if prompt else 0,
        too_long=context.config.model.too_long,
    )
