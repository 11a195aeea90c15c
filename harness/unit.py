"""The work of one unit (model, task, seed): its prompt, its pass, its baselines."""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.attribution import Attribution, Measured, accuracy, attribution_of, measure
from skillneurons.cell_columns import column_figures
from skillneurons.config import Config
from skillneurons.errors import CellError, ResultsError, SkillNeuronsError
from skillneurons.inputs import encode_examples
from skillneurons.model import LanguageModel
from skillneurons.passes import write_pass
from skillneurons.plan import Unit, settings_of
from skillneurons.progress import Progress
from skillneurons.prompt import SoftPrompt, initial_prompt
from skillneurons.registry import Registry
from skillneurons.results import ResultsFolder, content_key
from skillneurons.tuning import tune_prompt
from skillneurons.types import Metric, Split

Applied = Mapping[str, tuple[Metric, Sequence[str]]]
MEASURED: tuple[Split, ...] = ("discovery", "heldout")


@dataclass(frozen=True)
class UnitResult:
    """What a unit found: accuracies, the pass with its baseline, and the metrics that failed."""

    accuracy: Mapping[str, float | None]
    attribution: Attribution
    baseline: Attribution | None
    pass_key: str
    failures: Mapping[str, SkillNeuronsError]
    top_k: int

    def columns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the figures of the named columns."""
        order = list(self.attribution.scores)
        return {
            name: column_figures(self.attribution, self.baseline, name, order.index(name), self.top_k)
            for name in names
        }


def measure_unit(
    config: Config, registry: Registry, folder: ResultsFolder, unit: Unit, lm: LanguageModel, display: Progress
) -> UnitResult:
    """Tune or load the prompt, run the pass of the pending metrics and its baselines, and save the pass."""
    label = f"{unit.model} {unit.data.task.name} seed {unit.seed}"
    applied: Applied = {cell.metric.name: (cell.metric, cell.columns) for cell in unit.pending}
    prompt = _prompt(config, folder, unit, lm, display, label) if unit.prompt_key else None
    tuned = _pass(config, registry, unit, lm, applied, prompt, display, f"{label}: attribution")
    baseline, untuned = None, None
    if prompt is not None:
        bare = _pass(config, registry, unit, lm, applied, None, display, f"{label}: no-prompt baseline")
        baseline = attribution_of(lm, applied, bare)
        start = _initial(config, unit, lm)
        untuned = _heldout_accuracy(config, unit, lm, start, display, f"{label}: untuned prompt")
    attribution = attribution_of(lm, applied, tuned)
    failures = {**tuned["discovery"].failures, **tuned["heldout"].failures}
    value, stderr = accuracy(tuned["heldout"].encoded, tuned["heldout"].outputs)
    payload = {"cells": [cell.key for cell in unit.pending], "settings": settings_of(config), "prompt": unit.prompt_key}
    pass_key = content_key(unit.data.task.name, f"s{unit.seed}", payload=payload)
    write_pass(folder, pass_key, attribution)
    figures = {"untuned": value if prompt is None else untuned, "tuned": None if prompt is None else value, "stderr": stderr}
    return UnitResult(
        accuracy={name: None if number is None or math.isnan(number) else number for name, number in figures.items()},
        attribution=attribution,
        baseline=baseline,
        pass_key=pass_key,
        failures=failures,
        top_k=config.attribution.top_k,
    )


def _initial(config: Config, unit: Unit, lm: LanguageModel) -> SoftPrompt:
    return initial_prompt(
        lm,
        config.prompt.num_virtual_tokens,
        init=config.prompt.prompt_tuning_init,
        text=config.prompt.prompt_tuning_init_text,
        seed=unit.seed,
        placement=config.prompt.placement,
    )


def _prompt(
    config: Config, folder: ResultsFolder, unit: Unit, lm: LanguageModel, display: Progress, label: str
) -> SoftPrompt:
    """Return the saved prompt of this unit, or tune it and save it whole."""
    place = folder.prompts / str(unit.prompt_key)
    if place.exists():
        try:
            return SoftPrompt.from_pretrained(place)
        except ResultsError as error:
            display.say(f"{error}: tuning it again")
    settings = config.prompt
    with display.work(f"{label}: prompt tuning", settings.steps) as step:
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
            too_long=config.model.too_long,
            progress=lambda done, total, loss: step(1),
            steps=settings.steps,
            lr=settings.lr,
            betas=tuple(settings.betas),
            weight_decay=settings.weight_decay,
            batch_size=settings.batch_size,
            eval_every=settings.eval_every,
            patience=settings.patience,
        )
    if not prompt.embeddings.isfinite().all():
        raise CellError(f"prompt tuning diverged on {unit.data.task.name!r}; lower prompt.lr (now {settings.lr})")
    draft = folder.prompts / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        prompt.save_pretrained(draft, lm)
        if place.exists():
            shutil.rmtree(place)
        draft.rename(place)
    except OSError as error:
        raise ResultsError(f"cannot write {place}: {error.strerror}; give another folder with -o DIR") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return prompt


def _pass(
    config: Config,
    registry: Registry,
    unit: Unit,
    lm: LanguageModel,
    applied: Applied,
    prompt: SoftPrompt | None,
    display: Progress,
    label: str,
) -> dict[Split, Measured]:
    measured: dict[Split, Measured] = {}
    with display.work(label, sum(len(unit.data.splits[split]) for split in MEASURED)) as step:
        for split in MEASURED:
            encoded = encode_examples(
                lm,
                unit.data.task,
                unit.data.splits[split],
                num_virtual_tokens=prompt.num_virtual_tokens if prompt else 0,
                too_long=config.model.too_long,
            )
            measured[split] = measure(
                lm,
                unit.data.task,
                encoded,
                applied,
                prompt,
                position=config.attribution.position if prompt else "input_last",
                batch_size=config.attribution.batch_size,
                accumulator=registry.attribution(config.attribution.statistic),
                progress=step,
            )
    return measured


def _heldout_accuracy(
    config: Config, unit: Unit, lm: LanguageModel, prompt: SoftPrompt, display: Progress, label: str
) -> float:
    encoded = encode_examples(
        lm,
        unit.data.task,
        unit.data.splits["heldout"],
        num_virtual_tokens=prompt.num_virtual_tokens,
        too_long=config.model.too_long,
    )
    with display.work(label, len(encoded)) as step:
        measured = measure(
            lm,
            unit.data.task,
            encoded,
            {},
            prompt,
            batch_size=config.attribution.batch_size,
            accumulator=None,
            progress=step,
        )
    return measured.accuracy
