"""One pass over a task: every neuron of every layer against every column of every metric.

Each example runs once: its output gives the metric values, its activations are read at the chosen
position, and both go into a streaming accumulator, so memory does not grow with the data. Neurons are
chosen on ``discovery``; their figure on ``heldout`` is sign(r_discovery) * r_heldout, because the mean
of |r| would be biased upwards.

Shapes: scores (n_layers, d_ff) float32 per column, NaN where neuron or column has no variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skillneurons.activations import ActivationRecorder
from skillneurons.errors import CellError, SkillNeuronsError, UserError, unknown_name
from skillneurons.examples import load_splits
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.model import LanguageModel
from skillneurons.outputs import answer
from skillneurons.prompt import SoftPrompt
from skillneurons.registry import get_metric
from skillneurons.statistics import PearsonAccumulator, ranking
from skillneurons.task_setup import with_options
from skillneurons.types import Example, Metric, Output, Split, Task

if TYPE_CHECKING:
    import pandas as pd

Accumulators = Callable[[int, int], Any]
POSITIONS = ("last", "mean", "input_last")


@dataclass(frozen=True, eq=False)
class Measured:
    """One split after its pass, rows in the examples' order."""

    encoded: Sequence[EncodedExample]
    outputs: Sequence[Output]
    values: npt.NDArray[np.float64]  # (examples, columns)
    accumulator: Any
    failures: Mapping[str, SkillNeuronsError] = field(default_factory=dict)  # by metric

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


def metric_row(metric: Metric, columns: Sequence[str], example: Example, output: Output) -> list[float]:
    """Return one metric's values of one example in the order of ``columns`` (full names).

    Raise CellError naming the metric and the example when it raises, or returns another shape.
    """
    missing = [name for name in metric.needs if getattr(output, name, None) is None]
    if missing:
        return [math.nan] * len(columns)
    where = f"metric {metric.name!r}, example {example.id!r}"
    try:
        result = metric.per_example(example, output)
    except SkillNeuronsError:
        raise
    except Exception as error:
        raise CellError(f"{where}: raised {type(error).__name__}: {error}") from error
    if isinstance(result, Mapping):
        named = {f"{metric.name}.{name}": value for name, value in result.items()}
        if metric.columns is None:
            raise CellError(f"{where}: returned a mapping, but the metric declares no columns (Metric.columns)")
        if callable(metric.columns):  # columns that depend on the task: what an example lacks is not scored
            return [_number(where, column, named.get(column, math.nan)) for column in columns]
        if set(named) != set(columns):
            extra, absent = sorted(set(named) - set(columns)), sorted(set(columns) - set(named))
            raise CellError(f"{where}: returned other columns than declared (unexpected {extra}, missing {absent})")
        values = [named[column] for column in columns]
    elif len(columns) == 1:
        values = [result]
    else:
        raise CellError(f"{where}: returned {type(result).__name__}, but {len(columns)} columns are declared")
    return [_number(where, column, value) for column, value in zip(columns, values, strict=True)]


def _number(where: str, column: str, value: Any) -> float:
    scalar = value.item() if getattr(value, "shape", None) == () else value  # numpy and torch scalars
    if not isinstance(scalar, int | float) or math.isinf(scalar):
        raise CellError(f"{where}: {column} must be one finite number or NaN, got {value!r}")
    return float(scalar)


def measure(
    lm: LanguageModel,
    task: Task,
    encoded: Sequence[EncodedExample],
    metrics: Mapping[str, tuple[Metric, Sequence[str]]],
    prompt: SoftPrompt | None,
    *,
    position: str = "last",
    batch_size: int = 64,
    accumulator: Accumulators | None = PearsonAccumulator,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Run one split once and correlate all its columns together.

    ``metrics`` maps a name to (metric, its full column names); columns stand in that order.
    ``accumulator`` None measures outputs alone. Rows come back in the examples' order whatever the
    batching was. A metric that raises, or returns another shape, is not asked again: its columns are
    NaN and its error stands in ``failures``; the other metrics go on.
    """
    failures: dict[str, SkillNeuronsError] = {}
    n_columns = sum(len(columns) for _, columns in metrics.values())
    sums = accumulator(lm.n_neurons, n_columns) if accumulator and n_columns else None
    outputs: list[Output | None] = [None] * len(encoded)
    values = np.full((len(encoded), n_columns), np.nan)
    read = prompt.num_virtual_tokens if prompt is not None and position == "mean" else 1
    place = {row.index: i for i, row in enumerate(encoded)}
    with ActivationRecorder(lm, read) as recorder:
        recorder.enabled = sums is not None
        for rows in equal_length_batches(encoded, batch_size):
            answered, activations = answer(lm, task, rows, prompt, recorder if sums is not None else None)
            where = [place[row.index] for row in rows]
            for i, row, output in zip(where, rows, answered, strict=True):
                outputs[i] = output
                values[i] = _values(metrics, row.example, output, failures)
            if sums is not None and activations is not None:
                sums.update(activations.cpu().numpy(), values[where])
            if progress:
                progress(len(rows))
    return Measured(encoded, [output for output in outputs if output is not None], values, sums, failures)


def _values(
    metrics: Mapping[str, tuple[Metric, Sequence[str]]],
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


def check_position(position: str, prompt: SoftPrompt | None) -> None:
    """Refuse a read position that has nothing to read."""
    if position not in POSITIONS:
        raise UserError(f"attribution.position {position!r} is not available; use one of {', '.join(POSITIONS)}")
    if prompt is None and position != "input_last":
        raise UserError(
            f"attribution.position {position!r} reads at prompt tokens, but there is no prompt; use input_last"
        )
    if prompt is not None and prompt.placement == "prepend":
        raise UserError(
            "attribution at prompt tokens needs prompt.placement: append; a prompt placed before the input never sees it, "
            "so its activations are the same for every example and no correlation is defined"
        )


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores of every neuron: ``scores[column]`` and ``heldout[column]`` are float32 (n_layers, d_ff)."""

    scores: Mapping[str, npt.NDArray[np.float32]]
    heldout: Mapping[str, npt.NDArray[np.float32]]
    splits: Mapping[Split, Measured] = field(repr=False)

    def top(self, k: int, column: str) -> pd.DataFrame:
        """Return the ``k`` neurons of largest |r| on discovery, their r there and on heldout.

        ``ci_low``, ``ci_high`` and ``p_adjusted`` are NaN until intervals and the null are computed.
        """
        import pandas as pd

        if column not in self.scores:
            raise unknown_name("column", column, self.scores)
        rows = top_neurons(self.scores[column], self.heldout[column], k)
        table = pd.DataFrame(rows, columns=["layer", "neuron", "r", "r_heldout"])
        return table.assign(ci_low=np.nan, ci_high=np.nan, p_adjusted=np.nan)


def top_neurons(scores: npt.NDArray[Any], heldout: npt.NDArray[Any], k: int) -> list[dict[str, float]]:
    """Return the ``k`` neurons of largest |r| on discovery as dicts of layer, neuron, r, r_heldout."""
    d_ff = scores.shape[1]
    return [
        {
            "layer": int(index // d_ff),
            "neuron": int(index % d_ff),
            "r": float(scores.flat[index]),
            "r_heldout": float(heldout.flat[index]),
        }
        for index in ranking(scores, k)
    ]


def attribute(
    lm: LanguageModel,
    task: Task,
    *,
    metrics: Sequence[str | Metric] = ("confidence", "labels", "heuristics"),
    prompt: SoftPrompt | None = None,
    position: str | None = None,
    discovery: int = 1000,
    heldout: int = 500,
    data_seed: int = 0,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
    too_long: str = "refuse",
) -> Attribution:
    """Correlate every neuron with every column of the metrics, on discovery and on heldout.

    ``position``: ``last`` (default with a prompt), ``mean`` over prompt tokens, or ``input_last``
    (without a prompt).
    """
    where = position or ("last" if prompt is not None else "input_last")
    check_position(where, prompt)
    task = with_options(task, options)
    chosen = [get_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
    applied = {m.name: (m, columns) for m in chosen if (columns := m.columns_for(task))}
    if not applied:
        raise UserError(f"none of the metrics {[m.name for m in chosen]} has a column for task {task.name!r}")
    sizes: dict[Split, int] = {"train": 1, "validation": 1, "discovery": discovery, "heldout": heldout}
    data = load_splits(task, sizes, seed=data_seed, options=dict(options or {}))
    m = prompt.num_virtual_tokens if prompt is not None else 0
    measured: dict[Split, Measured] = {}
    for split in ("discovery", "heldout"):
        encoded = encode_examples(lm, task, data[split], num_virtual_tokens=m, too_long=too_long)
        measured[split] = measure(lm, task, encoded, applied, prompt, position=where, batch_size=batch_size)
        for failure in measured[split].failures.values():
            raise failure
    return attribution_of(lm, applied, measured)


def attribution_of(
    lm: LanguageModel,
    metrics: Mapping[str, tuple[Metric, Sequence[str]]],
    measured: Mapping[Split, Measured],
) -> Attribution:
    """Name the scores of measured splits by column."""
    columns = [column for _, names in metrics.values() for column in names]
    shape = (len(columns), lm.n_layers, lm.d_ff)
    scores, heldout = (
        measured[split].accumulator.result().reshape(shape).astype(np.float32) for split in ("discovery", "heldout")
    )
    return Attribution(
        scores=dict(zip(columns, scores, strict=True)),
        heldout=dict(zip(columns, heldout, strict=True)),
        splits=measured,
    )
