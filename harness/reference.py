"""What neurons normally do, measured on examples apart from those that an ablation is measured on.

Three stages of a sequence are told apart: ``input`` (the question's tokens), ``prompt`` (the m virtual tokens, each
position by itself) and ``answer`` (the tokens of the target, or of every choice, as the model reads them; a one-token
answer has none, and where all are of one token there is no such stage). Of each
stage: mean and sd of every neuron's activation, shape (positions, n_neurons), positions = m for ``prompt`` and 1 (all
tokens pooled) otherwise; its mean |activation|; and, for resampling, the activations of ``donors``: single examples
whose values another example can be given, the same examples for all stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.errors import UserError
from skillneurons.inputs import EncodedExample, equal_length_batches
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.prefix import Prefix, copied_cache, run_prefix
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
    fitting: MicroBatches | None = None,
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
    run = dict.fromkeys(wanted, 0)
    kept: dict[str, dict[int, Floats]] = {stage: {} for stage in wanted}
    givers = {row.index for row in encoded[:DONORS]} if donors else set()
    fitting = fitting or MicroBatches(batch_size)
    parts = (
        part
        for batch in equal_length_batches(encoded, fitting.limit)
        for part in fitting.run(batch, lambda rows: _seen(lm, rows, prompt, wanted))
    )
    for rows, stages in parts:
        for stage, (seen, real) in stages.items():
            flat = seen.reshape(len(rows), -1) if stage == "prompt" else seen[real]  # pooled: (tokens, n)
            if len(flat):
                sums[stage].update(np.zeros((len(flat), 1)), flat)
                run[stage] += len(flat)
            tokens = seen.reshape(-1, n) if stage == "prompt" else flat
            sizes += np.abs(tokens).sum(axis=0, dtype=np.float64)
            counts += len(tokens)
            for i, row in enumerate(rows):
                if row.index in givers and real[i].any():
                    last = int(np.flatnonzero(real[i])[-1])
                    kept[stage][row.index] = seen[i] if stage == "prompt" else seen[i, last : last + 1]
        if progress:
            progress(len(rows))
    if not counts:
        raise UserError(
            f"causal.positions {positions!r}: no position of that kind is run, because every answer is one token, "
            "which is read off the last prompt token; use prompt or everywhere"
        )
    mean, sd = {}, {}
    measured = [stage for stage in wanted if run[stage]]
    for stage in measured:
        mean[stage], sd[stage] = (part.reshape(-1, n) for part in sums[stage].mean_and_sd())
    common = sorted(set.intersection(*(set(kept[stage]) for stage in measured)))
    given = {stage: np.stack([kept[stage][index] for index in common]) for stage in measured} if common else {}
    return Reference(mean, sd, sizes / counts, given)


def _seen(
    lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt | None, wanted: Sequence[str]
) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return each stage's activations (rows, positions, n_neurons) and which of them are of real tokens."""
    length, m = len(rows[0].ids), prompt.num_virtual_tokens if prompt is not None else 0
    found: dict[str, tuple[Floats, npt.NDArray[np.bool_]]] = {}
    after = prompt is not None and prompt.placement == "append"
    last = m if after and "input" not in wanted else length + m
    with ActivationRecorder(lm, last, reduce="each") as recorder:
        recorder.enabled = wanted != ("answer",)
        prefix = run_prefix(lm, rows, prompt)
        if recorder.enabled:
            whole = recorder.take().reshape(len(rows), last, lm.n_neurons).cpu().numpy()
            at = {
                "input": slice(0, last - m) if after else slice(m, None),
                "prompt": slice(last - m, None) if after else slice(0, m),
            }
            for stage in ("input", "prompt"):
                if stage in wanted:
                    part = whole[:, at[stage]]
                    found[stage] = part, np.ones(part.shape[:2], dtype=bool)
        if "answer" in wanted:
            recorder.enabled = True
            parts = [_answers(lm, recorder, prefix, answers) for answers in _each_choice(rows)]
            if any(real.size for _, real in parts):
                seen, real = zip(*parts, strict=True)
                found["answer"] = np.concatenate(seen, axis=1), np.concatenate(real, axis=1)
    return found


def _each_choice(rows: Sequence[EncodedExample]) -> list[list[Sequence[int]]]:
    """Return the answers that are run: one list per choice, one answer per row (empty where a row has fewer choices)."""
    every = [row.choices or (row.target,) for row in rows]
    return [[choices[c] if c < len(choices) else () for choices in every] for c in range(max(map(len, every)))]


def _answers(
    lm: LanguageModel, recorder: ActivationRecorder, prefix: Prefix, answers: Sequence[Sequence[int]]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the activations of one answer per row (rows, positions, n_neurons), all its tokens but the last, and which are real."""
    longest = max(map(len, answers))
    if longest < 2:
        return np.empty((len(answers), 0, lm.n_neurons), np.float32), np.empty((len(answers), 0), bool)
    ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=lm.device)
    recorder.last_positions = longest - 1
    cache = copied_cache(prefix.cache)
    lm.model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=lm.last_logits(0))
    seen = recorder.take().reshape(len(answers), longest - 1, lm.n_neurons).cpu().numpy()
    return seen, np.arange(longest - 1)[None] < np.array([len(answer) - 1 for answer in answers])[:, None]
