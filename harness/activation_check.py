"""Consistency without the model, from the activations that are kept of each column's strongest neurons.

Their r on both splits again in float64, their held-out intervals and that of their mean (the same groups are drawn by the same seed),
and bounds on the null: the largest |r| of all neurons under a permutation is at least that of the kept ones under the same
permutation, so ``null95_r`` and each ``p_adjusted`` have lower bounds that no honest cell falls below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from skillneurons.cell_columns import DECIMALS
from skillneurons.figure_check import differs, places_of
from skillneurons.file_faults import told
from skillneurons.finding import CONSISTENCY, Ledger
from skillneurons.kept_pass import SPLITS, KeptPass

if TYPE_CHECKING:
    import numpy.typing as npt

R_CLOSE = 2e-5  # scores are sums over float32 activations in batches
INTERVAL_CLOSE = 2e-5
NULL_CLOSE = 1e-5
MOST = 200_000_000  # rows times draws; more are not drawn for a stranger


def check_activations(kept: KeptPass, factory: Callable[..., Any], ledger: Ledger) -> None:
    """Check what follows from the kept activations, for a statistic that needs nothing but them."""
    if getattr(factory, "baseline_split", None) is not None:
        return
    attribution, rows = kept.cell.config["attribution"], len(kept.table.get("split", ()))
    if rows * max(int(attribution.get(name, 0)) for name in ("permutations", "bootstrap")) > MOST:
        ledger.cannot(kept.path, "its permutations and resamples are too many to draw again here", [kept.cell.key])
        return
    for name, figures in kept.cell.columns.items():
        if figures["status"] != "ok" or f"{name}/neurons" not in kept.kept:
            continue
        for path, what in _faults(kept, name, figures, factory):
            meaning = "the figure does not follow from the activations and values beside it"
            ledger.say(CONSISTENCY, path, f"{told(name)}: {what}", meaning, [kept.cell.key])


def _faults(
    kept: KeptPass, name: str, figures: Mapping[str, Any], factory: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    import numpy as np
    from skillneurons.statistics import ranking

    neurons, scores = kept.kept[f"{name}/neurons"], kept.scores[name]
    d_ff = scores.shape[1]
    strongest = ranking(scores, len(neurons))
    flat = neurons[:, 0] * d_ff + neurons[:, 1]
    here = f"{kept.place}/neurons.safetensors"
    if list(flat) != list(strongest):
        yield here, f"it keeps {', '.join(places_of(neurons[:3].tolist()))} ..., the strongest are others by the scores"
        return
    for split, told_scores in zip(SPLITS, (scores, kept.heldout.get(name)), strict=True):
        x = kept.kept.get(f"{name}/{split}")
        y = kept.values(name, split)
        if x is None or told_scores is None or len(x) != len(y) or np.isnan(x).any():
            continue
        both = ~np.isnan(y)
        if both.sum() < 3 or np.ptp(y[both]) == 0:
            continue
        again = _effects(factory, x[both].astype(np.float64), y[both])
        for i, place in enumerate(places_of(neurons.tolist())):
            known = float(told_scores.flat[flat[i]])
            if differs(None if math.isnan(known) else known, float(again[i]), R_CLOSE):
                yield here, f"r of {place} on {split} is {known:.6f}, its activations and values give {again[i]:.6f}"
                break
    yield from _interval(kept, name, figures, factory)
    yield from _null(kept, name, figures, factory)


def _effects(factory: Callable[..., Any], x: Any, y: Any) -> Any:
    from skillneurons.statistics import effect_of

    sums = factory(x.shape[1], 1)
    sums.update(x, y[:, None])
    return effect_of(sums)[0]


def _interval(
    kept: KeptPass, name: str, figures: Mapping[str, Any], factory: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    import numpy as np
    from skillneurons.intervals import bootstrap_effects, percentiles

    attribution, x, y = kept.cell.config["attribution"], kept.kept.get(f"{name}/heldout"), kept.values(name, "heldout")
    listed = figures.get("top") or []
    scored = y[~np.isnan(y)]
    if x is None or len(scored) < 2 or np.ptp(scored) == 0 or not attribution.get("bootstrap"):
        return
    groups = [str(one) for one in kept.of("group", "heldout")]
    drawn = bootstrap_effects(
        x, y, groups, factory, n_resamples=int(attribution["bootstrap"]), seed=int(attribution["seed"])
    )
    if drawn.reason:
        return
    for i, row in enumerate(listed[: len(drawn.low)]):
        for end, value in (("ci_low", drawn.low[i]), ("ci_high", drawn.high[i])):
            if differs(row.get(end), float(value), INTERVAL_CLOSE):
                yield kept.path, f"top[{i}].{end} is {row.get(end)}, its activations give {value:.6f}"
                return
    k = int(attribution.get("top_k", 10))
    if k <= len(drawn.low):
        signs = np.sign(kept.scores[name].astype(np.float64).ravel()[_flat(kept, name)[:k]])
        ends = percentiles((signs[:, None] * drawn.resamples[:k]).mean(axis=0)[None])
        for end, value in zip(("heldout_top10_r_low", "heldout_top10_r_high"), ends, strict=True):
            if differs(figures.get(end), float(value[0]), INTERVAL_CLOSE):
                yield kept.path, f"{end} is {figures.get(end)}, its activations give {float(value[0]):.6f}"


def _null(
    kept: KeptPass, name: str, figures: Mapping[str, Any], factory: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    import numpy as np
    from skillneurons.exchange import exchange
    from skillneurons.null import ALPHA, ROUNDING
    from skillneurons.statistics import products

    attribution, x, y = (
        kept.cell.config["attribution"],
        kept.kept.get(f"{name}/discovery"),
        kept.values(name, "discovery"),
    )
    form = getattr(factory, "linear_form", None)
    threshold = figures.get("null95_r")
    if form is None or threshold is None or x is None or np.isnan(x).any():
        return
    scored = ~np.isnan(y)
    groups = [str(group) for group, used in zip(kept.of("group", "discovery"), scored, strict=True) if used]
    drawn = exchange(y[scored], groups, int(attribution["permutations"]), int(attribution["seed"]))
    if drawn.reason:
        return
    if figures.get("null_scheme") != drawn.scheme:
        yield (
            kept.path,
            f"null_scheme is {told(figures.get('null_scheme'))}, its groups and values allow {drawn.scheme}",
        )
        return
    linear = form(x[scored], y[scored], None)
    permuted = np.concatenate([linear.y[None], linear.y[drawn.orders]]).astype(np.float32)
    size = np.abs(products(permuted, linear.x.astype(np.float32), linear.fired))
    largest = size[1:].max(axis=1)
    least = float(linear.link(np.quantile(largest, 1 - ALPHA, method="higher")))
    if threshold < least - NULL_CLOSE:
        few = len(size[0])
        yield (
            kept.path,
            f"null95_r is {threshold:.6f}, and by its {few} strongest neurons alone it is at least {least:.6f}",
        )
    for i, row in enumerate((figures.get("top") or [])[: size.shape[1]]):
        p = float((1 + (largest >= size[0, i] + ROUNDING).sum()) / (len(largest) + 1))
        if row.get("p_adjusted") is not None and row["p_adjusted"] < p - 10**-DECIMALS:
            yield (
                kept.path,
                f"top[{i}].p_adjusted is {row['p_adjusted']}, by the kept neurons alone it is at least {p:.6f}",
            )
            return


def _flat(kept: KeptPass, name: str) -> npt.NDArray[Any]:
    neurons = kept.kept[f"{name}/neurons"]
    flat: npt.NDArray[Any] = neurons[:, 0] * kept.scores[name].shape[1] + neurons[:, 1]
    return flat
