"""Search made smaller: choose a fraction of the neurons on a small pilot, and measure those alone.

The pilot is of the ``train`` split, never of discovery, so that nothing is chosen on what it is measured on.

    layers     whole layers, by the mean over columns of their ten largest pilot |r|; the last one in part, by pilot |r|
    pilot      the neurons themselves, by their best rank of pilot |r| over the columns
    gradient   by the pilot mean of |a * d log p(target) / da| at the read position (``gradients``): one backward pass,
               and no metric is needed

What a screen misses is gone: ``recall`` says how much of the true top K it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.attribution import Attribution, check_position
from skillneurons.errors import UserError, unknown_name
from skillneurons.examples import load_splits
from skillneurons.gradients import activation_times_gradient
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.measurement import Applied, Measured, measure, recorder_for
from skillneurons.model import LanguageModel
from skillneurons.planting import Plant
from skillneurons.prompt import SoftPrompt
from skillneurons.registry import get_attribution, get_metric
from skillneurons.statistics import effect_of
from skillneurons.task_setup import with_options
from skillneurons.types import Metric, Split, Task

METHODS = ("layers", "pilot", "gradient")
FEWEST = 10

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Screen:
    """Which neurons are kept, ``keep`` (n_layers, d_ff), by what method and from how many pilot examples."""

    keep: Bools
    method: str
    n_pilot: int

    @property
    def fraction(self) -> float:
        """The share of the neurons that is kept."""
        return float(self.keep.mean())


def screen(
    lm: LanguageModel,
    task: Task,
    *,
    metrics: Sequence[str | Metric] = ("confidence", "labels", "heuristics"),
    columns: Sequence[str] | None = None,
    prompt: SoftPrompt | None = None,
    method: str = "pilot",
    fraction: float = 0.25,
    pilot: int = 100,
    position: str | None = None,
    site: str = "product",
    data_seed: int = 0,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
    plant: Plant | None = None,
) -> Screen:
    """Run ``pilot`` examples of train and keep ``fraction`` of the neurons (at least one).

    ``columns`` are the columns searched (default: all of the metrics; one screen for many columns keeps less of each).
    """
    if method not in METHODS:
        raise unknown_name("screening method", method, METHODS)
    if not 0 < fraction <= 1:
        raise UserError(f"fraction {fraction:g}: must be above 0 and at most 1")
    if pilot < FEWEST:
        raise UserError(f"pilot {pilot}: a screen needs at least {FEWEST} examples")
    where = position or ("last" if prompt is not None else "input_last")
    check_position(where, prompt)
    if where == "max":
        raise UserError(
            "position 'max' reads a prompt token per neuron, which a screen does not know; use last or mean"
        )
    task = with_options(task, options)
    sizes: dict[Split, int] = {"train": pilot, "validation": 1, "discovery": 1, "heldout": 1}
    examples = load_splits(task, sizes, seed=data_seed, options=dict(options or {}))["train"]
    if len(examples) < FEWEST:
        raise UserError(f"task {task.name!r} gives {len(examples)} training examples; a screen needs at least {FEWEST}")
    m = prompt.num_virtual_tokens if prompt is not None else 0
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=m)
    if method == "gradient":
        size = _gradient_size(lm, encoded, prompt, where, site, batch_size)
        return Screen(_largest(size, fraction).reshape(lm.n_layers, lm.d_ff), method, len(encoded))
    applied = _applied(task, metrics)
    measured = measure(
        lm,
        task,
        encoded,
        applied,
        prompt,
        position=where,
        site=site,
        batch_size=batch_size,
        plant=plant,
        accumulator=get_attribution("pearson"),
    )
    for failure in measured.failures.values():
        raise failure
    names = [column for _, own in applied.values() for column in own]
    asked = names if columns is None else list(columns)
    for column in asked:
        if column not in names:
            raise unknown_name("column", column, names)
    where_asked = [names.index(column) for column in asked]
    r = np.nan_to_num(np.abs(effect_of(measured.accumulator)))[where_asked]  # (columns, n_neurons)
    ranks = (-r).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    best = -ranks.min(axis=0).astype(np.float64) + r.max(axis=0) / 2  # by rank, ties by size
    if method == "layers":
        in_layers = np.sort(r.reshape(len(r), lm.n_layers, lm.d_ff), axis=2)[:, :, -10:].mean(axis=(0, 2))
        place = (-in_layers).argsort(kind="stable").argsort(kind="stable")
        best = best - (lm.n_neurons + 1.0) * np.repeat(place, lm.d_ff)
    return Screen(_largest(best, fraction).reshape(lm.n_layers, lm.d_ff), method, len(encoded))


def attribute_kept(
    lm: LanguageModel,
    task: Task,
    found: Screen,
    *,
    metrics: Sequence[str | Metric] = ("confidence", "labels", "heuristics"),
    prompt: SoftPrompt | None = None,
    position: str | None = None,
    site: str = "product",
    discovery: int = 1000,
    heldout: int = 500,
    data_seed: int = 0,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
    plant: Plant | None = None,
) -> Attribution:
    """Correlate the kept neurons alone with every column; scores are NaN elsewhere, and carry no null or interval."""
    where = position or ("last" if prompt is not None else "input_last")
    check_position(where, prompt)
    if where == "max":
        raise UserError(
            "position 'max' reads a prompt token per neuron, which a screen does not know; use last or mean"
        )
    if found.keep.shape != (lm.n_layers, lm.d_ff):
        raise UserError(
            f"the screen is of a model of {found.keep.shape} neurons, this one has {(lm.n_layers, lm.d_ff)}"
        )
    task = with_options(task, options)
    applied = _applied(task, metrics)
    sizes: dict[Split, int] = {"train": 1, "validation": 1, "discovery": discovery, "heldout": heldout}
    data = load_splits(task, sizes, seed=data_seed, options=dict(options or {}))
    m = prompt.num_virtual_tokens if prompt is not None else 0
    columns = [column for _, names in applied.values() for column in names]
    measured: dict[Split, Measured] = {}
    scores: dict[Split, dict[str, npt.NDArray[np.float32]]] = {}
    for split in ("discovery", "heldout"):
        encoded = encode_examples(lm, task, data[split], num_virtual_tokens=m)
        measured[split] = measure(
            lm,
            task,
            encoded,
            applied,
            prompt,
            position=where,
            site=site,
            batch_size=batch_size,
            accumulator=get_attribution("pearson"),
            keep=found.keep,
            plant=plant,
        )
        for failure in measured[split].failures.values():
            raise failure
        scores[split] = {}
        for column, effects in zip(columns, effect_of(measured[split].accumulator), strict=True):
            full = np.full(found.keep.shape, np.nan, dtype=np.float32)
            full[found.keep] = effects
            scores[split][column] = full
    return Attribution(scores=scores["discovery"], heldout=scores["heldout"], splits=measured)


def recall(true: npt.NDArray[Any], keep: Bools, k: int = 100) -> float:
    """Return the share of the ``k`` neurons of largest |true| that are kept; both (n_layers, d_ff)."""
    size = np.abs(true).ravel()
    order = np.argsort(-np.nan_to_num(size, nan=-1.0), kind="stable")[: min(k, int((~np.isnan(size)).sum()))]
    if not len(order):
        raise UserError("no neuron has a score, so there is no top to recall")
    return float(keep.ravel()[order].mean())


def _applied(task: Task, metrics: Sequence[str | Metric]) -> Applied:
    chosen = [get_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
    applied: Applied = {m.name: (m, columns) for m in chosen if (columns := m.columns_for(task))}
    if not applied:
        raise UserError(f"none of the metrics {[m.name for m in chosen]} has a column for task {task.name!r}")
    return applied


def _gradient_size(
    lm: LanguageModel,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    position: str,
    site: str,
    batch_size: int,
) -> npt.NDArray[np.float64]:
    total = np.zeros(lm.n_neurons)
    with recorder_for(lm, prompt, position, site) as recorder:
        for rows in equal_length_batches(encoded, batch_size):
            products = activation_times_gradient(lm, rows, prompt, recorder)
            total += np.abs(products.cpu().numpy()).sum(axis=0, dtype=np.float64)
    return total / len(encoded)


def _largest(size: npt.NDArray[np.float64], fraction: float) -> Bools:
    keep = np.zeros(len(size), dtype=bool)
    keep[np.argsort(-size, kind="stable")[: max(1, round(fraction * len(size)))]] = True
    return keep
