"""Can the behaviour be switched on? Activations pushed along their correlation, and what that costs elsewhere.

    a <- a + alpha * sign(r) * sd(a)        for every neuron of a set, at the chosen positions

over a sweep of alpha through zero. The dose curve is the mean of the metric (of the target's log-probability for an
external label, which no change can move). Trend: Page's test for ordered alternatives over the groups' means, in
both directions, at p <= 0.025 (0.05 for the two together): ``rising`` or ``falling`` where the mean at alpha = 0 lies
between those of the ends too, ``bent`` where both ends lie on one side of it (ranks may rise on average while the curve turns
back), else ``none`` (the ends run against the ranks). A group whose means differ by
less than 1e-6 of their size counts as one that does not change. A factor that makes the logits non-finite is left out
of the curve and stands in ``refused`` with the reason. The price is the language-model loss (nats per token) of
neutral text (``neutral``) whose every position is pushed by the same amounts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.changes import Change
from skillneurons.errors import CellError, UserError
from skillneurons.interventions import Intervention, LayerEdit
from skillneurons.model import LanguageModel
from skillneurons.neutral import neutral_text
from skillneurons.testbed import Testbed

ALPHA = 0.05
MOST_GROUPS = 1000  # rows of the trend test
SAME = 1e-6  # means of a float32 model that differ by less differ by rounding

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SteeringCurve:
    """By alpha: the metric's mean, the target's mean log-probability (nats), accuracy, loss of neutral text (nats).

    ``followed`` is metric or log_prob: what ``trend`` (rising, falling, bent, none) and its p-values are about.
    """

    alphas: tuple[float, ...]
    metric: tuple[float | None, ...]
    log_prob: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    neutral_loss: tuple[float, ...]
    followed: str
    trend: str
    p_rising: float | None
    p_falling: float | None
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain types for a cell."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def steering_curve(
    bed: Testbed,
    neurons: Sequence[int],
    signs: Sequence[float],
    column: str,
    alphas: Sequence[float],
    neutral: str = "english",
) -> SteeringCurve:
    """Steer a set of neurons (flat indices) along ``signs`` by every alpha; 0 is added where it is missing.

    ``neutral`` is ``english``, ``pocket`` or the path of a file of neutral text.
    """
    if not all(math.isfinite(alpha) for alpha in alphas):
        raise UserError(f"causal.steering {list(alphas)}: every factor must be finite")
    sweep = sorted({0.0, *map(float, alphas)})
    order = np.argsort(np.asarray(neurons))
    flat = tuple(int(neurons[i]) for i in order)
    pushes = {a: tuple(a * float(np.sign(signs[i])) for i in order) for a in sweep}
    changes = {a: Change(flat, "steer", pushes[a]) if a else Change() for a in sweep}
    refused: dict[str, str] = {}
    try:
        bed.behaviours(list(changes.values()))
    except CellError:  # one factor must not cost the others
        for a in sweep:
            try:
                bed.behaviours([changes[a]])
            except CellError as error:
                refused[f"{a:g}"] = str(error)
        sweep = [a for a in sweep if f"{a:g}" not in refused]
        if sweep in ([], [0.0]):
            raise
    seen = bed.behaviours([changes[a] for a in sweep])
    index = bed.columns.index(column)
    followed = "metric" if bed.outcome_of(column) == "moved" else "log_prob"
    values = np.stack([one.values[:, index] if followed == "metric" else one.log_prob for one in seen], axis=1)
    rising, falling = page_trend(values, seen[0].groups)
    # an amount is in units of sd at the prompt (or else of the first stage that is changed)
    stage = "prompt" if "prompt" in bed.reference.sd else next(iter(bed.reference.sd))
    sd = bed.reference.sd[stage].mean(axis=0)
    return SteeringCurve(
        alphas=tuple(sweep),
        metric=tuple(_mean(one.values[:, index]) for one in seen),
        log_prob=tuple(_mean(one.log_prob) for one in seen),
        accuracy=tuple(_finite(one.accuracy) for one in seen),
        neutral_loss=tuple(neutral_loss(bed.lm, flat, np.array(pushes[a]) * sd[list(flat)], neutral) for a in sweep),
        followed=followed,
        trend=trend_of(rising, falling, sweep, [_mean(column) for column in values.T]),
        p_rising=_finite(rising),
        p_falling=_finite(falling),
        refused=refused,
    )


def page_trend(values: Doubles, groups: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return one-sided p-values that columns (examples, alphas) rise, and that they fall, by Page's L over group means.

    Groups with a value missing at some alpha are left out; NaN with fewer than 2 groups or 3 alphas, or where nothing changes.
    """
    from scipy.stats import page_trend_test

    means = [values[groups == group].mean(axis=0) for group in np.unique(groups)]
    rows = np.array([row for row in means if np.isfinite(row).all()][:MOST_GROUPS])
    for row in rows:
        if np.ptp(row) <= SAME * max(1.0, float(np.abs(row).max())):
            row[:] = row[0]
    if len(rows) < 2 or rows.shape[1] < 3 or np.ptp(rows, axis=1).max() == 0:
        return float("nan"), float("nan")
    found = [page_trend_test(part, method="asymptotic").pvalue for part in (rows, rows[:, ::-1])]
    return float(found[0]), float(found[1])


def trend_of(rising: float, falling: float, alphas: Sequence[float], means: Sequence[float | None]) -> str:
    """Return rising, falling, bent or none, from the two p-values and the curve's means by alpha."""
    if not (rising <= ALPHA / 2 or falling <= ALPHA / 2):
        return "none"
    first, middle, last = (means[alphas.index(a)] for a in (min(alphas), 0.0, max(alphas)))
    if first is None or middle is None or last is None:
        return "none"
    direction = 1.0 if rising <= ALPHA / 2 else -1.0
    if direction * first <= direction * middle <= direction * last:
        return "rising" if direction > 0 else "falling"
    return "bent" if (first - middle) * (last - middle) > 0 else "none"


@torch.inference_mode()
def neutral_loss(lm: LanguageModel, neurons: Sequence[int], amounts: Doubles, neutral: str = "english") -> float:
    """Return the loss (nats per token) of neutral text with ``amounts`` added to the neurons at every position."""
    edits: dict[int, LayerEdit] = {}
    flat = np.asarray(neurons, dtype=np.int64)
    for layer in np.unique(flat // lm.d_ff) if np.any(amounts) else ():
        mine = flat // lm.d_ff == layer
        edits[int(layer)] = LayerEdit(
            torch.from_numpy(flat[mine] % lm.d_ff).to(lm.device),
            torch.from_numpy(amounts[mine].astype(np.float32)).to(lm.device),
            add=True,
        )
    total, count = 0.0, 0
    with Intervention(lm, edits):
        for context, continuation in neutral_text(neutral):
            first = lm.encode(context)
            tail = lm.encode_answer(continuation)
            ids = torch.tensor([[*first, *tail][: lm.context_length]], device=lm.device)
            logits = lm.model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
            known = logits.gather(2, ids[:, 1:, None])[0, :, 0].double()
            scored = known[max(len(first) - 1, 0) :] if tail else known
            total, count = total - float(scored.sum()), count + len(scored)
    if not count:
        raise UserError(
            f"causal.neutral_text {neutral!r}: no token to score; lines need two tokens or more that fit the context"
        )
    return total / count


def _mean(values: Doubles) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
