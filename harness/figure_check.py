"""Consistency without the model, from scores: every figure of a cell that follows from the scores of its pass.

Of a column with scores s (n_layers, d_ff) and held-out scores h: the strongest neurons in their order, ``top1_r``, ``top10_r``,
``top10_mean_r``, ``heldout_top10_r``, ``partial_r`` (of the neurons listed), ``n_constant``, ``above``, the interval (from the resamples
that the cell keeps), and how many neurons pass the threshold. Tolerance: 2e-6, what rounding leaves; of resamples 2e-4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from skillneurons.cell_columns import DECIMALS, RESAMPLE_UNIT, signed_heldout_mean
from skillneurons.file_faults import told
from skillneurons.finding import CONSISTENCY, Ledger
from skillneurons.kept_pass import SPLITS, KeptPass

if TYPE_CHECKING:
    import numpy.typing as npt

CLOSE = 2e-6
_RESAMPLED = 2 * RESAMPLE_UNIT
_ALPHA = 0.05
_FLOAT32 = 1e-5  # a product of the null is rounded otherwise than a score


def check_figures(kept: KeptPass, ledger: Ledger) -> None:
    """Check every column of a cell against its scores."""
    cell = kept.cell
    k = int(cell.config["attribution"].get("top_k", 10))
    for name, figures in cell.columns.items():
        if figures["status"] != "ok":
            _check_status(kept, name, figures, ledger)
            continue
        if name not in kept.scores:
            continue

        def say(what: str, name: str = name) -> None:
            where = f"columns.{told(name)}.{what}"
            ledger.say(CONSISTENCY, kept.path, where, "the figure does not follow from the files beside it", [cell.key])

        for what in [
            *_of_values(figures, kept.values(name, "discovery")),
            *_of_counts(figures, {split: kept.values(name, split) for split in SPLITS}),
        ]:
            say(what)
        for what in _faults(figures, kept.scores[name], kept.heldout.get(name), k, cell.n_neurons):
            say(what)
        for what in _of_the_null(figures, kept.scores[name], cell.config["attribution"]):
            say(what)
        for what in _of_the_interval(figures, cell.config["attribution"].get("bootstrap", 0)):
            say(what)


def _check_status(kept: KeptPass, name: str, figures: Mapping[str, Any], ledger: Ledger) -> None:
    """Find a column that is said to have no figures, and has what they are made from."""
    import numpy as np
    from skillneurons.statistics import FEWEST

    k = int(kept.cell.config["attribution"].get("top_k", 10))
    values, scores = kept.values(name, "discovery"), kept.scores.get(name)
    scored = values[~np.isnan(values)]
    if len(scored) < FEWEST or np.ptp(scored) == 0 or scores is None or (~np.isnan(scores)).sum() < k:
        return
    what = f"columns.{told(name)}.status is {figures['status']}, and its values vary and have scores"
    ledger.say(CONSISTENCY, kept.path, what, "a column was left out", [kept.cell.key])


def _of_values(figures: Mapping[str, Any], values: npt.NDArray[Any]) -> Iterator[str]:
    import numpy as np

    scored = values[~np.isnan(values)]
    if len(scored):
        for name, value in (("mean", float(scored.mean())), ("sd", float(scored.std()))):
            if differs(figures.get(name), value, 1e-9 * max(1.0, abs(value))):
                yield f"{name} is {figures.get(name)}, the values on discovery give {value:.6f}"


def _of_counts(figures: Mapping[str, Any], values: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    import numpy as np

    for split, listed in values.items():
        n = int((~np.isnan(listed)).sum())
        if figures.get(f"n_{split}") != n:
            yield f"n_{split} is {figures.get(f'n_{split}')}, the examples with a score are {n}"


def _faults(
    figures: Mapping[str, Any],
    scores: npt.NDArray[Any],
    heldout: npt.NDArray[Any] | None,
    k: int,
    n_neurons: int,
) -> Iterator[str]:
    import numpy as np
    from skillneurons.attribution import top_neurons
    from skillneurons.inference import KEPT

    if scores.size != n_neurons:
        yield f"n_neurons is {n_neurons}, its scores are of {scores.size}"
    top = top_neurons(scores, scores if heldout is None else heldout, max(KEPT, k))
    listed = figures.get("top") or []
    for i, (mine, theirs) in enumerate(zip(top, listed, strict=False)):
        places = [f"L{one['layer']:02d}.N{one['neuron']:04d}" for one in (theirs, mine)]
        if places[0] != places[1]:
            yield f"top[{i}] is {places[0]}, by the scores {places[1]}"
            break
        for r in ("r", "r_heldout")[: 1 + (heldout is not None)]:
            if differs(theirs.get(r), mine[r], 10**-DECIMALS):
                yield f"top[{i}].{r} is {theirs.get(r)}, the scores say {mine[r]:.6f}"
    if len(listed) != len(top):
        yield f"top has {len(listed)} neurons, by the scores {len(top)}"
        return
    if heldout is None:  # then the cell's own list says what there is, to six decimals
        top = [{**one, "r_heldout": _number(row.get("r_heldout"))} for one, row in zip(top, listed, strict=True)]
    best = top[:k]
    computed = {
        "top1_r": abs(best[0]["r"]),
        "top10_r": abs(best[-1]["r"]),
        "top10_mean_r": float(np.mean([abs(row["r"]) for row in best])),
        "heldout_top10_r": signed_heldout_mean(best),
        "n_constant": int(np.isnan(scores).sum()),
    }
    partial = [_number(row.get("partial_r")) for row in listed[:k]]
    if "partial_r" in listed[0]:
        signed = [math.copysign(1.0, row["r"]) * one for row, one in zip(best, partial, strict=True)]
        computed["partial_r"] = float(np.mean(signed))
    for name, value in computed.items():
        if differs(figures.get(name), value):
            yield f"{name} is {figures.get(name)}, {_from(name)} {_shown(value)}"
    for level in figures.get("above") or []:
        yield from _above(level, scores, heldout)


def _above(level: Mapping[str, Any], scores: npt.NDArray[Any], heldout: npt.NDArray[Any] | None) -> Iterator[str]:
    import numpy as np

    chosen = np.abs(scores) >= level["threshold"]
    n = int(chosen.sum())
    if level["n"] != n or differs(level["share"], n / scores.size):
        yield f"above[{level['threshold']:g}] counts {level['n']} neurons ({level['share']:.4f}), by the scores {n}"
    if heldout is not None and n:
        held = float(np.mean(np.sign(scores[chosen]) * heldout[chosen], dtype=np.float64))
        if differs(level.get("heldout"), held):
            yield f"above[{level['threshold']:g}].heldout is {level.get('heldout')}, by the scores {held:.6f}"


def _of_the_null(figures: Mapping[str, Any], scores: npt.NDArray[Any], attribution: Mapping[str, Any]) -> Iterator[str]:
    """Yield where threshold, counts and p-values of the null do not fit each other."""
    import numpy as np

    n, threshold, listed = figures.get("n_fwer"), figures.get("null95_r"), figures.get("top") or []
    asked, levels = attribution.get("thresholds") or [], [one["threshold"] for one in figures.get("above") or []]
    if attribution.get("permutations") and levels != asked:
        yield f"above is of the levels {told(levels)}, the config says {told(asked)}"
    if attribution.get("permutations") and not figures.get("null_reason"):
        absent = [name for name in ("null95_r", "n_fwer", "n_fdr", "n_replicated") if figures.get(name) is None]
        if absent:
            yield f"{absent[0]} is absent, the config says {attribution['permutations']} permutations"
    if n is None or threshold is None:
        return
    known = [row["p_adjusted"] for row in listed if row.get("p_adjusted") is not None]
    passed = sum(p <= _ALPHA + 10**-DECIMALS for p in known)
    if known and passed != min(n, len(known)):
        yield f"n_fwer is {n}, and {passed} of the {len(known)} neurons listed have p_adjusted <= {_ALPHA}"
    if any(one > other + 10**-DECIMALS for one, other in pairwise(known)):
        yield "top has p_adjusted that fall while |r| falls"
    permutations = int(attribution.get("permutations", 0))
    if figures.get("n_permutations") != permutations:
        yield f"n_permutations is {figures.get('n_permutations')}, the config says {permutations}"
    if attribution["statistic"] != "pearson" or permutations < 1:
        return
    size = np.abs(scores[~np.isnan(scores)].astype(np.float64))
    most, least = int((size > threshold - _FLOAT32).sum()), int((size > threshold + _FLOAT32).sum())
    exact = math.ceil((1 - _ALPHA) * (permutations - 1)) == permutations - 1 - int(
        _ALPHA * (permutations + 1) - 1 + 1e-9
    )
    if n > most or (exact and n < least):
        yield f"n_fwer is {n}, and {most} neurons have |r| above null95_r = {threshold:.6f}"


def _of_the_interval(figures: Mapping[str, Any], bootstrap: int) -> Iterator[str]:
    import numpy as np
    from skillneurons.intervals import percentiles

    written = str(figures.get("resamples") or "").split()
    if not written:
        if figures.get("heldout_top10_r_low") is not None or figures.get("heldout_top10_r_high") is not None:
            yield "heldout_top10_r_low and _high are there, and no resamples"
        return
    if len(written) != bootstrap:
        yield f"resamples are {len(written)}, the config says {bootstrap}"
        return
    try:
        numbers = np.array([np.nan if one == "x" else int(one) * RESAMPLE_UNIT for one in written])
    except (ValueError, OverflowError):
        yield "resamples hold what is no whole number"
        return
    ends = [float(end[0]) for end in percentiles(numbers[None])]
    for name, end in zip(("heldout_top10_r_low", "heldout_top10_r_high"), ends, strict=True):
        if differs(figures.get(name), end, _RESAMPLED):
            yield f"{name} is {figures.get(name)}, its resamples give {_shown(end)}"


def differs(said: Any, value: float, tolerance: float = CLOSE) -> bool:
    """Return whether a number of a cell (None: NaN) is another than was computed."""
    if said is None or math.isnan(value):
        return not (said is None and math.isnan(value))
    return not abs(float(said) - value) <= tolerance * (1 + 1e-6)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def _from(name: str) -> str:
    return "the neurons listed give" if name == "partial_r" else "the scores give"


def places_of(neurons: Iterable[Sequence[int]]) -> list[str]:
    """Return neurons by their printed names."""
    return [f"L{int(layer):02d}.N{int(neuron):04d}" for layer, neuron in neurons]
