"""What neurons normally do, measured on examples apart from those that an ablation is measured on.

Three stages of a sequence are told apart: ``input`` (the question's tokens), ``prompt`` (the m virtual tokens, each
position by itself) and ``answer`` (the target's tokens as the model reads them; a one-token answer has none). Of each
stage: mean and sd of every neuron's activation, shape (positions, n_neurons), positions = m for ``prompt`` and 1 (all
tokens pooled) otherwise; its mean |activation|; and, for resampling, the activations of ``donors``: single examples
whose values another example can be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.errors import UserError
from skillneurons.generation import run_prefix
from skillneurons.inputs import EncodedExample, equal_length_batches
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt
from skillneurons.statistics import PearsonAccumulator

STAGES = ("input", "prompt", "answer")
POSITIONS = ("prompt", "answer", "everywhere")
DONORS = 256

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reference:
    """Means, sds and donors by stage. ``size`` (n_neurons,) is the mean |activation| over the stages' positions."""

    mean: Mapping[str, Doubles]
    sd: Mapping[str, Doubles]
    size: Doubles
    donors: Mapping[str, Floats] = field(default_factory=dict)  # (donors, positions, n_neurons)


def stages_of(positions: str, prompt: SoftPrompt | None) -> tuple[str, ...]:
    """Return the stages that a choice of positions stands for; raise UserError where it has none."""
    if positions not in POSITIONS:
        raise UserError(f"causal.positions {positions!r}: must be one of {', '.join(POSITIONS)}")
    if positions == "prompt":
        if prompt is None:
            raise UserError(
                "causal.positions 'prompt' changes activations at prompt tokens, but there is no prompt "
                "(attribution.position input_last); use causal.positions: everywhere"
            )
        return ("prompt",)
    if positions == "answer":
        return ("answer",)
    return STAGES if prompt is not None else ("input", "answer")


@torch.inference_mode()
def measure_reference(
    lm: LanguageModel,
    encoded: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    *,
    positions: str = "prompt",
    donors: bool = False,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Reference:
    """Run examples (of discovery) once and return what every neuron does at the chosen positions.

    ``donors`` keeps up to 256 examples' activations (of pooled stages: those of the last token); float32.
    """
    wanted = stages_of(positions, prompt)
    if not encoded:
        raise UserError("no example to measure normal activations on; discovery is empty")
    m = prompt.num_virtual_tokens if prompt is not None else 0
    n = lm.n_neurons
    sums = {stage: PearsonAccumulator(1, (m if stage == "prompt" else 1) * n) for stage in wanted}  # of "values" alone
    sizes, counts = np.zeros(n), 0
    kept: dict[str, dict[int, Floats]] = {stage: {} for stage in wanted}
    givers = {row.index for row in encoded[:DONORS]} if donors else set()
    for rows in equal_length_batches(encoded, batch_size):
        for stage, (seen, real) in _seen(lm, rows, prompt, wanted).items():
            flat = seen.reshape(len(rows), -1) if stage == "prompt" else seen[real]  # pooled: (tokens, n)
            if len(flat):
                sums[stage].update(np.zeros((len(flat), 1)), flat)
            tokens = seen.reshape(-1, n) if stage == "prompt" else flat
            sizes += np.abs(tokens).sum(axis=0, dtype=np.float64)
            counts += len(tokens)
            for i, row in enumerate(rows):
                if row.index in givers and real[i].any():
                    last = max(int(real[i].sum()) - 1, 0)
                    kept[stage][row.index] = seen[i] if stage == "prompt" else seen[i, last : last + 1]
        if progress:
            progress(len(rows))
    if not counts:
        raise UserError(
            f"causal.positions {positions!r}: no position of that kind is run, because every answer is one token, "
            "which is read off the last prompt token; use prompt or everywhere"
        )
    mean, sd = {}, {}
    for stage, one in sums.items():
        mean[stage], sd[stage] = (np.nan_to_num(part).reshape(-1, n) for part in one.mean_and_sd())
    return Reference(mean, sd, sizes / counts, {s: _stacked(k, m if s == "prompt" else 1, n) for s, k in kept.items()})


def _stacked(kept: Mapping[int, Floats], positions: int, n: int) -> Floats:
    rows = [kept[index] for index in sorted(kept) if len(kept[index])]
    return np.stack(rows) if rows else np.empty((0, positions, n), dtype=np.float32)


def _seen(
    lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt | None, wanted: Sequence[str]
) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return each stage's activations (rows, positions, n_neurons) and which of them are of real tokens."""
    length, m = len(rows[0].ids), prompt.num_virtual_tokens if prompt is not None else 0
    found: dict[str, tuple[Floats, npt.NDArray[np.bool_]]] = {}
    with ActivationRecorder(lm, length + m, reduce="each") as recorder:
        prefix = run_prefix(lm, rows, prompt)
        whole = recorder.take().reshape(len(rows), -1, lm.n_neurons).cpu().numpy()
        after = prompt is not None and prompt.placement == "append"
        at = {
            "input": slice(0, length) if after else slice(m, None),
            "prompt": slice(length, None) if after else slice(0, m),
        }
        for stage in ("input", "prompt"):
            if stage in wanted:
                part = whole[:, at[stage]]
                found[stage] = part, np.ones(part.shape[:2], dtype=bool)
        longest = max(len(row.target) for row in rows)
        if "answer" in wanted and longest > 1:
            ids = torch.tensor([[*row.target, *[0] * (longest - len(row.target))] for row in rows], device=lm.device)
            recorder.last_positions = longest - 1
            lm.model(input_ids=ids[:, :-1], past_key_values=prefix.cache, use_cache=True, logits_to_keep=1)
            answer = recorder.take().reshape(len(rows), longest - 1, lm.n_neurons).cpu().numpy()
            lengths = np.array([len(row.target) - 1 for row in rows])
            found["answer"] = answer, np.arange(longest - 1)[None] < lengths[:, None]
    return found
