"""The work of one unit (model, task, seed): its prompt, its pass, its baselines."""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillneurons.attribution import Attribution, Measured, accuracy, attribution_of, measure
from skillneurons.cell_columns import column_figures
from skillneurons.errors import CellError, ResultsError, SkillNeuronsError
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.model import LanguageModel
from skillneurons.passes import write_pass
from skillneurons.plan import Unit
from skillneurons.prompt import SoftPrompt, initial_prompt
from skillneurons.run_context import RunContext
from skillneurons.tuning import TuningSettings, tune_prompt
from skillneurons.types import Metric, Score, Split, Task

Applied = Mapping[str, tuple[Metric, Sequence[str]]]
MEASURED: tuple[Split, ...] = ("discovery", "heldout")


@dataclass(frozen=True)
class UnitResult:
    """What a unit found: accuracies, the scores with their baseline, and the metrics that failed."""

    accuracy: Mapping[str, float | None]
    attribution: Attribution
    baseline: Attribution | None
    failures: Mapping[str, SkillNeuronsError]
    top_k: int
    scores: Sequence[Score] = ()
    truncated: Mapping[str, int] = field(default_factory=dict)

    def columns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the figures of the named columns."""
        order = list(self.attribution.scores)
        return {
            name: column_figures(self.attribution, self.baseline, name, order.index(name), self.top_k) for name in names
        }


def measure_unit(context: RunContext, unit: Unit, lm: LanguageModel) -> UnitResult:
    """Tune or load the prompt, run the pass of the pending metrics and its baselines, and save the pass."""
    label = f"{unit.model} {unit.data.task.name} seed {unit.seed}"
    applied: Applied = {cell.metric.name: (cell.metric, cell.columns) for cell in unit.pending}
    prompt = _prompt(context, unit, lm, label) if unit.prompt_key else None
    tuned = _pass(context, unit, lm, applied, prompt, f"{label}: attribution")
    baseline, untuned = None, None
    if prompt is not None:
        bare = _pass(context, unit, lm, applied, None, f"{label}: no-prompt baseline")
        baseline = attribution_of(lm, applied, bare)
        untuned = _untuned_accuracy(context, unit, lm, f"{label}: untuned prompt")
    attribution = attribution_of(lm, applied, tuned)
    value, stderr = accuracy(tuned["heldout"].encoded, tuned["heldout"].outputs)
    failures = {**tuned["discovery"].failures, **tuned["heldout"].failures}
    for cell in unit.pending:
        if cell.metric.name not in failures:
            write_pass(context.folder, cell.key, attribution, cell.columns)
    figures = {"untuned": value, "tuned": None} if prompt is None else {"untuned": untuned, "tuned": value}
    return UnitResult(
        accuracy={name: _scored(number) for name, number in {**figures, "stderr": stderr}.items()},
        attribution=attribution,
        baseline=baseline,
        failures=failures,
        top_k=context.config.attribution.top_k,
        scores=scores_of(unit.data.task, tuned),
        truncated={split: sum(row.truncated for row in one.encoded) for split, one in tuned.items()},
    )


def scores_of(task: Task, measured: Mapping[Split, Measured]) -> Sequence[Score]:
    """Return the task's own figures over all measured examples; none of them was tuned on."""
    if task.score is None:
        return ()
    pairs = [
        (row.example, output) for one in measured.values() for row, output in zip(one.encoded, one.outputs, strict=True)
    ]
    try:
        return task.score(pairs)
    except SkillNeuronsError:
        raise
    except Exception as error:
        raise CellError(f"task {task.name!r}: score failed: {type(error).__name__}: {error}") from error


def _scored(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else number


def _prompt(context: RunContext, unit: Unit, lm: LanguageModel, label: str) -> SoftPrompt:
    """Return the saved prompt of this unit, or tune it and save it whole."""
    place = context.folder.prompts / str(unit.prompt_key)
    if place.exists():
        try:
            return SoftPrompt.from_pretrained(place)
        except ResultsError as error:
            context.notes.append(f"{error} (tuned again)")
    settings = context.config.prompt
    with context.display.work(f"{label}: prompt tuning", settings.steps) as step:
        prompt = tune_prompt(
            lm,
            unit.data.task,
            num_virtual_tokens=settings.num_virtual_tokens,
            seed=unit.seed,
            init=settings.prompt_tuning_init,
            init_text=settings.prompt_tuning_init_text,
            placement=settings.placement,
            train=unit.data.splits["train"],
            validation=unit.data.splits["validation"],
            too_long=context.config.model.too_long,
            progress=lambda done, total, loss: step(1),
            **{name: getattr(settings, name) for name in TuningSettings.__dataclass_fields__},
        )
    if not prompt.embeddings.isfinite().all():
        raise CellError(f"prompt tuning diverged on {unit.data.task.name!r}; lower prompt.lr (now {settings.lr})")
    _save_whole(prompt, place, lm)
    return prompt


def _save_whole(prompt: SoftPrompt, place: Path, lm: LanguageModel) -> None:
    """Save a prompt's folder so that nobody ever sees a part of it."""
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        prompt.save_pretrained(draft, lm)
        if place.exists():
            shutil.rmtree(place)
        draft.rename(place)
    except OSError as error:
        raise ResultsError(f"cannot write {place}: {error.strerror}; give another folder with -o DIR") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _pass(
    context: RunContext, unit: Unit, lm: LanguageModel, applied: Applied, prompt: SoftPrompt | None, label: str
) -> dict[Split, Measured]:
    """Run discovery and heldout once each, with a prompt or without."""
    settings = context.config.attribution
    measured: dict[Split, Measured] = {}
    with context.display.work(label, sum(len(unit.data.splits[split]) for split in MEASURED)) as step:
        for split in MEASURED:
            measured[split] = measure(
                lm,
                unit.data.task,
                _encoded(context, unit, lm, split, prompt),
                applied,
                prompt,
                position=settings.position if prompt else "input_last",
                batch_size=settings.batch_size,
                accumulator=context.registry.attribution(settings.statistic),
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


def _untuned_accuracy(context: RunContext, unit: Unit, lm: LanguageModel, label: str) -> float:
    """Return the held-out accuracy of the prompt before any step of tuning."""
    settings = context.config.prompt
    prompt = initial_prompt(
        lm,
        settings.num_virtual_tokens,
        init=settings.prompt_tuning_init,
        text=settings.prompt_tuning_init_text,
        seed=unit.seed,
        placement=settings.placement,
    )
    encoded = _encoded(context, unit, lm, "heldout", prompt)
    batch_size = context.config.attribution.batch_size
    with context.display.work(label, len(encoded)) as step:
        measured = measure(
            lm, unit.data.task, encoded, {}, prompt, batch_size=batch_size, accumulator=None, progress=step
        )
    return measured.accuracy
