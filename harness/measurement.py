"""One pass over a split: outputs, metric values, and every neuron's running statistic.

Each example runs once: its output gives the metric values, its activations are read at the chosen
position, and both go into a streaming accumulator, so memory does not grow with the data; where more is to be
computed once all values are known (the null, intervals), the rows are kept too (``spool``). A ``share`` of the
batches can be run alone (``shards``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.activations import ActivationRecorder, Rows
from skillneurons.device_sums import DeviceSums
from skillneurons.errors import SkillNeuronsError, UserError
from skillneurons.gradients import activation_times_gradient
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample, equal_length_batches, in_order_batches, near_length_batches
from skillneurons.metric_row import metric_row
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.outputs import answer, read_inputs
from skillneurons.partial import PartialCorrelationAccumulator
from skillneurons.planting import Plant
from skillneurons.prefix import keeps_every_position
from skillneurons.prompt import SoftPrompt
from skillneurons.sharded_rows import ShardedRows
from skillneurons.shares import Batch, Share
from skillneurons.spool import IN_MEMORY, ActivationRows
from skillneurons.statistics import PearsonAccumulator
from skillneurons.types import Example, Metric, Output, Task

Accumulators = Callable[[int, int], Any]
Applied = Mapping[str, tuple[Metric, Sequence[str]]]


@dataclass(frozen=True, eq=False)
class Measured:
    """One split after its pass, rows in the examples' order."""

    encoded: Sequence[EncodedExample]
    outputs: Sequence[Output]
    values: npt.NDArray[np.float64]  # (examples, columns)
    accumulator: Any
    failures: Mapping[str, SkillNeuronsError] = field(default_factory=dict)  # by metric
    rows: ActivationRows | ShardedRows | None = None  # where they are kept

    @property
    def groups(self) -> list[str]:
        """Return the group of each example; one without a partner is its own."""
        return [row.example.group or row.example.id for row in self.encoded]

    @property
    def accuracy(self) -> float:
        """Return the mean of ``correct`` over the scored examples, balanced over targets for a choice."""
        return accuracy(self.encoded, self.outputs)[0]


def accuracy(encoded: Sequence[EncodedExample], outputs: Sequence[Output]) -> tuple[float, float]:
    """Return accuracy and its standard error; balanced over the targets where all examples have the same choices."""
    balanced = len({row.example.choices for row in encoded}) == 1
    by_class: dict[str, list[float]] = {}
    for row, output in zip(encoded, outputs, strict=True):
        if not math.isnan(output.correct):
            name = row.example.target if row.example.choices and balanced else ""
            by_class.setdefault(name, []).append(output.correct)
    if not by_class:
        return math.nan, math.nan
    means = [float(np.mean(values)) for values in by_class.values()]
    variance = sum(np.var(values) / len(values) for values in by_class.values()) / len(means) ** 2
    return float(np.mean(means)), float(np.sqrt(variance))


def measure(
    lm: LanguageModel,
    task: Task,
    encoded: Sequence[EncodedExample],
    metrics: Applied,
    prompt: SoftPrompt | None,
    *,
    position: str = "last",
    site: str = "product",
    batch_size: int = 64,
    accumulator: Accumulators | None = PearsonAccumulator,
    baseline: npt.NDArray[np.float64] | None = None,
    keep_rows: bool = False,
    bucket: bool = True,
    plant: Plant | None = None,
    keep: npt.NDArray[np.bool_] | None = None,
    partial: PartialCorrelationAccumulator | None = None,
    inputs: InputCache | None = None,
    fitting: MicroBatches | None = None,
    share: Share | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Run one split once and relate all its columns to every neuron together.

    ``metrics`` maps a name to (metric, its full column names); columns stand in that order.
    ``accumulator`` None measures outputs alone; ``baseline`` goes to one that needs it; ``keep_rows`` keeps the
    activations. Rows come back in the examples' order whatever the batching was: inputs of one length together
    (``bucket``; texts are then written for several lengths at once), or in order with padding on the left. ``keep`` (n_layers, d_ff) measures some neurons alone. ``plant`` replaces recorded activations; ``partial`` sees the same rows. A pass
    without a prompt keeps its keys and values in ``inputs``, and one with a prompt after the input begins there. ``fitting`` says how many run at once instead of
    ``batch_size``. With a ``share`` of the split's batches those alone are run, and what comes back is about their rows. A metric that raises,
    or returns another shape, is not asked again: its columns are NaN and its error stands in ``failures``; the other
    metrics go on.
    """
    fitting = fitting or MicroBatches(batch_size)
    failures: dict[str, SkillNeuronsError] = {}
    n_columns = sum(len(columns) for _, columns in metrics.values())
    n_positions = positions_read(prompt, position)
    n_neurons = lm.n_neurons if keep is None else int(keep.sum())
    sums = None
    if accumulator and n_columns:
        sums = sums_of(accumulator, lm, n_positions * n_neurons, n_columns)
        if baseline is not None:
            sums.set_baseline(baseline)
    gradient, on_device = (bool(getattr(accumulator, name, False)) for name in ("gradient", "on_device"))
    encoded, planned, apart, in_memory = _planned(lm, task, encoded, prompt, bucket, gradient, fitting, share)
    outputs: list[Output | None] = [None] * len(encoded)
    values = np.full((len(encoded), n_columns), np.nan)
    kept = None
    if keep_rows and sums is not None:
        kept = ActivationRows(len(encoded), n_positions, n_neurons, in_memory=in_memory)
    place = {row.index: i for i, row in enumerate(encoded)}
    with recorder_for(lm, prompt, position, site, keep) as recorder:
        recorder.enabled = sums is not None

        def run(part: Sequence[EncodedExample]) -> tuple[list[Output], Rows | None]:
            if not gradient or sums is None:
                reading = recorder if sums is not None else None
                return answer(lm, task, part, prompt, reading, inputs=inputs, apart=apart)
            activations = activation_times_gradient(lm, part, prompt, recorder)
            recorder.enabled = False
            try:
                return answer(lm, task, part, prompt)[0], activations
            finally:
                recorder.enabled = True

        for rows in planned:
            for part, (answered, activations) in fitting.run(rows, run):
                where = [place[row.index] for row in part]
                for i, row, output in zip(where, part, answered, strict=True):
                    outputs[i] = output
                    values[i] = _values(metrics, row.example, output, failures)
                if sums is not None and activations is not None:
                    taken: Any = activations
                    if not (on_device and plant is None and partial is None and kept is None):
                        taken = activations.cpu().numpy()
                    if plant is not None:
                        taken = plant.into(taken, [row.example.id for row in part], keep)
                    where_they_are = isinstance(activations, torch.Tensor) or isinstance(sums, DeviceSums)
                    given = activations if on_device and plant is None and where_they_are else _host(taken)
                    sums.update(given, values[where])
                    _keep_beside(partial, kept, where, taken, values[where])
                if progress:
                    progress(len(part))
    if isinstance(sums, DeviceSums):
        sums = sums.joined()
    return Measured(encoded, [output for output in outputs if output is not None], values, sums, failures, kept)


def batches_of(
    lm: LanguageModel,
    task: Task,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    fitting: MicroBatches,
    *,
    gradient: bool = False,
) -> Share:
    """Return what ``measure`` runs at once, one after another, as long as batches neither grow nor run out of memory."""
    batches, apart = _batches(lm, task, encoded, prompt, True, gradient)
    return Share(_cut(batches(encoded, fitting.limit), fitting.size), apart)


def batches_of_inputs(lm: LanguageModel, encoded: Sequence[EncodedExample], fitting: MicroBatches) -> Share:
    """Return what ``mean_activations`` runs at once, one after another."""
    return Share(_cut(equal_length_batches(encoded, fitting.limit, lm.tokens_at_once), fitting.size))


def _planned(
    lm: LanguageModel,
    task: Task,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    bucket: bool,
    gradient: bool,
    fitting: MicroBatches,
    share: Share | None,
) -> tuple[Sequence[EncodedExample], Iterable[Batch], bool, int]:
    """Return the examples, their batches, whether lengths run apart in them, and how many bytes of rows stay in memory."""
    if share is not None:
        own = sorted((row for rows in share.batches for row in rows), key=lambda row: row.index)
        return own, share.batches, share.apart, share.in_memory
    batches, apart = _batches(lm, task, encoded, prompt, bucket, gradient)
    return encoded, batches(encoded, fitting.limit), apart, IN_MEMORY


def _cut(batches: Iterable[Batch], size: int) -> list[Batch]:
    return [rows[start : start + size] for rows in batches for start in range(0, len(rows), size)]


def _keep_beside(
    partial: PartialCorrelationAccumulator | None,
    kept: ActivationRows | None,
    where: Sequence[int],
    activations: Any,
    values: npt.NDArray[np.float64],
) -> None:
    """Give rows to what stands beside the sums, where it is there."""
    if partial is not None:
        partial.update(activations, values)
    if kept is not None:
        kept.put(where, activations)


def _host(rows: Any) -> Any:
    """Return rows of activations in one place, whatever they came as."""
    return rows if isinstance(rows, np.ndarray | torch.Tensor) else rows.cpu()


def _batches(
    lm: LanguageModel,
    task: Task,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    bucket: bool,
    gradient: bool,
) -> tuple[Callable[[Sequence[EncodedExample], int], Iterator[list[EncodedExample]]], bool]:
    """Return how examples are put together, and whether those of several lengths run side by side."""
    if bucket and not gradient and task.kind != "choice" and encoded:
        m = prompt.num_virtual_tokens if prompt is not None else 0
        if keeps_every_position(lm, max(len(row.ids) for row in encoded) + m + task.max_new_tokens):
            return near_length_batches, True
    if bucket or gradient:
        return functools.partial(equal_length_batches, tokens=lm.tokens_at_once), False
    return in_order_batches, False


def sums_of(accumulator: Accumulators, lm: LanguageModel, n_neurons: int, n_columns: int) -> Any:
    """Return a statistic's accumulator, on the model's device, or on each of its devices, where it can be there.

    Raise UserError where the model's neurons do not always fire and the statistic needs them to.
    """
    if getattr(accumulator, "on_device", False) and len(lm.devices) > 1 and hasattr(accumulator, "beside"):
        return DeviceSums(accumulator, n_neurons, n_columns, missing=lm.has_experts)
    if getattr(accumulator, "on_device", False):
        return accumulator(n_neurons, n_columns, missing=lm.has_experts, device=lm.device)  # type: ignore[call-arg]
    if lm.has_experts:
        raise UserError(
            f"model {lm.name!r} is a mixture of experts, whose neurons do not fire on every example; of the statistics only "
            "pearson takes that into account (attribution.statistic)"
        )
    return accumulator(n_neurons, n_columns)


def positions_read(prompt: SoftPrompt | None, position: str) -> int:
    """Return how many read positions a row of activations keeps apart: all prompt tokens for ``max``, else one."""
    return prompt.num_virtual_tokens if prompt is not None and position == "max" else 1


def recorder_for(
    lm: LanguageModel, prompt: SoftPrompt | None, position: str, site: str, keep: npt.NDArray[np.bool_] | None = None
) -> ActivationRecorder:
    """Return the recorder of a read position: the last token, or all prompt tokens averaged or each."""
    several = prompt is not None and position in ("mean", "max")
    read = prompt.num_virtual_tokens if prompt is not None and several else 1
    reduce = "each" if position == "max" and several else "mean"
    return ActivationRecorder(lm, read, site=site, reduce=reduce, keep=keep)


def mean_activations(
    lm: LanguageModel,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    *,
    position: str = "last",
    site: str = "product",
    batch_size: int = 64,
    fitting: MicroBatches | None = None,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Return every neuron's mean activation over a split, shape (n_positions * n_neurons,); no answer is run."""
    fitting = fitting or MicroBatches(batch_size)
    batches = equal_length_batches(encoded, fitting.limit, lm.tokens_at_once)
    reading = {"position": position, "site": site}
    return activation_sums(lm, batches, prompt, fitting, **reading, progress=progress) / len(encoded)


def activation_sums(
    lm: LanguageModel,
    batches: Iterable[Batch],
    prompt: SoftPrompt | None,
    fitting: MicroBatches,
    *,
    position: str = "last",
    site: str = "product",
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the sum of every neuron's activations over batches, shape (n_positions * n_neurons,)."""
    total = np.zeros(positions_read(prompt, position) * lm.n_neurons)
    with recorder_for(lm, prompt, position, site) as recorder:
        for rows in batches:
            for part, read in fitting.run(rows, lambda part: read_inputs(lm, part, prompt, recorder)):
                total += read.cpu().numpy().sum(axis=0, dtype=np.float64)
                if progress:
                    progress(len(part))
    return total


def _values(
    metrics: Applied,
    example: Example,
    output: Output,
    failures: dict[str, SkillNeuronsError],
) -> list[float]:
    row: list[float] = []
    for name, (metric, columns) in metrics.items():
        if name not in failures:
            try:
                row += metric_row(metric, columns, example, output)
                continue
            except SkillNeuronsError as error:
                failures[name] = error
        row += [math.nan] * len(columns)
    return row
