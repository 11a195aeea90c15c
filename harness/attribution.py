"""Every neuron of every layer against every column of every metric, and how sure each figure is.

Neurons are chosen on ``discovery``; their figure on ``heldout`` is sign(effect on discovery) * effect on heldout,
because the mean of |effect| would be biased upwards. With ``position: max`` a neuron's score is that of its
strongest prompt position on discovery, and the same position is read on heldout.

Shapes: scores (n_layers, d_ff) float32 per column, NaN where neuron or column has no variance. A score is the
statistic's effect: r for pearson, 0 where there is no relation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError, unknown_name
from skillneurons.examples import load_splits
from skillneurons.html_table import table_html
from skillneurons.inference import ColumnInference, InferenceSettings, infer_columns
from skillneurons.inputs import encode_examples
from skillneurons.measurement import Applied, Measured, mean_activations, measure
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt
from skillneurons.registry import get_attribution, get_metric
from skillneurons.sites import SITES
from skillneurons.statistics import effect_of, ranking
from skillneurons.task_setup import with_options
from skillneurons.types import Metric, Split, Task

if TYPE_CHECKING:
    import pandas as pd

POSITIONS = ("last", "max", "mean", "input_last")


def check_position(position: str, prompt: SoftPrompt | None) -> None:
    """Refuse a read position that has nothing to read."""
    if position not in POSITIONS:
        raise UserError(f"attribution.position {position!r} is not available; use one of {', '.join(POSITIONS)}")
    if prompt is None and position != "input_last":
        raise UserError(
            f"attribution.position {position!r} reads at prompt tokens, but there is no prompt; use input_last"
        )
    if prompt is not None and position == "input_last":
        raise UserError(
            "attribution.position 'input_last' reads the input without any prompt, but a prompt is given; leave the prompt "
            "out, or read at last, mean or max"
        )
    if prompt is not None and prompt.placement == "prepend":
        raise UserError(
            "attribution at prompt tokens needs prompt.placement: append; a prompt placed before the input never sees it, "
            "so its activations are the same for every example and no correlation is defined"
        )


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores of every neuron: ``scores[column]`` and ``heldout[column]`` are float32 (n_layers, d_ff).

    ``positions[column]`` is the prompt position that was read for each neuron (``position: max`` alone);
    ``inference[column]`` holds the null and the intervals where they were asked for.
    """

    scores: Mapping[str, npt.NDArray[np.float32]]
    heldout: Mapping[str, npt.NDArray[np.float32]]
    splits: Mapping[Split, Measured] = field(repr=False)
    positions: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    inference: Mapping[str, ColumnInference] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        n_layers, d_ff = next(iter(self.scores.values())).shape if self.scores else (0, 0)
        return f"<Attribution of {n_layers} x {d_ff} neurons: {', '.join(self.scores) or 'no columns'}>"

    def _repr_html_(self) -> str:
        rows = []
        for column, scores in self.scores.items():
            known = self.inference.get(column)
            threshold = known.null.threshold if known is not None else None
            for best in top_neurons(scores, self.heldout[column], 1) or [{}]:
                neuron = f"L{best['layer']:02d}.N{best['neuron']:04d}" if best else "none: nothing varies"
                rows.append([column, neuron, best.get("r"), best.get("r_heldout"), threshold])
        return table_html(repr(self).strip("<>"), ["column", "strongest", "r", "r_heldout", "null95_r"], rows)

    def top(self, k: int, column: str) -> pd.DataFrame:
        """Return the ``k`` neurons of largest |r| on discovery, their r there and on heldout.

        ``ci_low`` and ``ci_high`` are the 95 % interval of the held-out r, ``p_adjusted`` the max-T p-value on
        discovery; NaN where they were not computed (beyond the kept neurons, or see ``inference``).
        """
        import pandas as pd

        if column not in self.scores:
            raise unknown_name("column", column, self.scores)
        if not 1 <= k <= self.scores[column].size:
            raise UserError(f"top {k}: there are {self.scores[column].size} neurons; ask for 1 to that many")
        rows = top_neurons(self.scores[column], self.heldout[column], k)
        known = self.inference.get(column)
        more = known.of_neurons() if known else {}
        empty = {"ci_low": np.nan, "ci_high": np.nan, "p_adjusted": np.nan}
        full = [{**row, **empty, **more.get((row["layer"], row["neuron"]), {})} for row in rows]
        return pd.DataFrame(full, columns=["layer", "neuron", "r", "r_heldout", *empty])


def top_neurons(scores: npt.NDArray[Any], heldout: npt.NDArray[Any], k: int) -> list[dict[str, Any]]:
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
    site: str = "product",
    statistic: str = "pearson",
    discovery: int = 1000,
    heldout: int = 500,
    data_seed: int = 0,
    batch_size: int = 64,
    permutations: int = 200,
    bootstrap: int = 1000,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    too_long: str = "refuse",
) -> Attribution:
    """Relate every neuron to every column of the metrics, on discovery and on heldout.

    ``position``: ``last`` (default with a prompt), ``max`` or ``mean`` over prompt tokens, or ``input_last``
    (without a prompt). ``statistic`` is a registered one. ``permutations`` and ``bootstrap`` (0: none) are drawn
    with ``seed``.
    """
    where = position or ("last" if prompt is not None else "input_last")
    check_position(where, prompt)
    if site not in SITES:
        raise UserError(f"attribution.site {site!r}: must be one of {', '.join(SITES)}")
    task = with_options(task, options)
    chosen = [get_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
    applied: Applied = {m.name: (m, columns) for m in chosen if (columns := m.columns_for(task))}
    if not applied:
        raise UserError(f"none of the metrics {[m.name for m in chosen]} has a column for task {task.name!r}")
    factory = get_attribution(statistic)
    needs = getattr(factory, "baseline_split", None)
    train = 1000 if needs == "train" else 1
    sizes: dict[Split, int] = {"train": train, "validation": 1, "discovery": discovery, "heldout": heldout}
    data = load_splits(task, sizes, seed=data_seed, options=dict(options or {}))
    m = prompt.num_virtual_tokens if prompt is not None else 0
    reading: dict[str, Any] = {"position": where, "site": site, "batch_size": batch_size}

    def encoded(split: Split) -> Any:
        return encode_examples(lm, task, data[split], num_virtual_tokens=m, too_long=too_long)

    baseline = mean_activations(lm, encoded(needs), prompt, **reading) if needs else None
    measured: dict[Split, Measured] = {}
    for split in ("discovery", "heldout"):
        measured[split] = measure(
            lm, task, encoded(split), applied, prompt, **reading, accumulator=factory, baseline=baseline, keep_rows=True
        )
        for failure in measured[split].failures.values():
            raise failure
    settings = InferenceSettings(permutations=permutations, bootstrap=bootstrap, seed=seed)
    return attribution_of(lm, applied, measured, factory, settings, baseline)


def attribution_of(
    lm: LanguageModel,
    metrics: Applied,
    measured: Mapping[Split, Measured],
    factory: Callable[..., Any],
    settings: InferenceSettings | None = None,
    baseline: npt.NDArray[np.float64] | None = None,
    *,
    only: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Attribution:
    """Name the scores of measured splits by column; with ``settings`` their null and intervals too (``only`` those)."""
    columns = [column for _, names in metrics.values() for column in names]
    discovery, heldout = (
        effect_of(measured[split].accumulator).reshape(len(columns), -1, lm.n_neurons)
        for split in ("discovery", "heldout")
    )
    positions = _strongest(discovery)
    at = positions[:, None, :]
    flat = [np.take_along_axis(effects, at, axis=1)[:, 0].astype(np.float32) for effects in (discovery, heldout)]
    shape = (lm.n_layers, lm.d_ff)
    scores, held = (dict(zip(columns, (row.reshape(shape) for row in rows), strict=True)) for rows in flat)
    several = discovery.shape[1] > 1
    read = dict(zip(columns, (row.reshape(shape) for row in positions), strict=True)) if several else {}
    inference: Mapping[str, ColumnInference] = {}
    if settings is not None:
        inference = infer_columns(measured, scores, held, read, factory, settings, baseline, only, progress)
    return Attribution(scores=scores, heldout=held, splits=measured, positions=read, inference=inference)


def _strongest(effects: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the position of the largest |effect| of each column and neuron; 0 where none is defined."""
    size = np.abs(effects)
    size[np.isnan(size)] = -1.0
    strongest: npt.NDArray[np.int64] = size.argmax(axis=1)
    return strongest
