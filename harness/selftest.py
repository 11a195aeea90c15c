"""Does the harness find what is there, and nothing else? Planted neurons, and labels without any relation.

``recover`` plants neurons of known strength into a real forward pass and runs the whole pipeline on it (plan, prompt,
pass, null, intervals, files), then reads the files and compares. ``calibrate`` draws labels that have nothing to do
with the activations, many times, and counts how often the max-T threshold is passed by any neuron: 5 % is right. It
does so for labels of single examples, and for labels that whole groups share, where permuting single rows would be
wrong; how wrong is shown beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.config import load_config
from skillneurons.errors import UserError
from skillneurons.examples import load_split
from skillneurons.inputs import encode_examples
from skillneurons.loading import load_model
from skillneurons.measurement import measure
from skillneurons.model import LanguageModel
from skillneurons.model_source import pocket_folder
from skillneurons.null import ALPHA, permutation_null, smallest_useful
from skillneurons.pass_scores import read_scores
from skillneurons.planting import Plant, plant_strengths
from skillneurons.prompt import initial_prompt
from skillneurons.registry import Registered, Registry
from skillneurons.results import ResultsFolder
from skillneurons.runner import run_config
from skillneurons.statistics import PearsonAccumulator
from skillneurons.types import Metric

STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SURE = 0.3  # planted neurons of this realised |r| must rank above every other neuron
EXACT = 1e-4  # how far a found r may lie from the realised one
MODELS = ("pocket", "random Llama", "random GPT-2")
TASK = "arithmetic"
COLUMN = "planted"
VIRTUAL_TOKENS = 5


@dataclass(frozen=True)
class Recovered:
    """One planted neuron: where, the planted and the realised r, what was found, and its rank by |r| (from 1)."""

    layer: int
    neuron: int
    planted: float
    realised: float
    found: float
    rank: int
    p_adjusted: float
    heldout: float
    low: float
    high: float


@dataclass(frozen=True)
class Recovery:
    """What was recovered in one model; ``false_positives`` are unplanted neurons above the max-T threshold."""

    model: str
    n: int
    n_neurons: int
    null95: float
    neurons: tuple[Recovered, ...]
    false_positives: int

    @property
    def sure(self) -> list[Recovered]:
        return [one for one in self.neurons if abs(one.realised) >= SURE]

    @property
    def ok(self) -> bool:
        """Whether every sure neuron ranks above all unplanted ones, with its sign and its r."""
        planted_ranks = sorted(one.rank for one in self.sure)
        first = planted_ranks[: len(self.sure)] == list(range(1, len(self.sure) + 1))
        exact = all(abs(one.found - one.realised) <= EXACT for one in self.neurons)
        return first and exact and all(one.found * one.planted > 0 for one in self.sure)


@dataclass(frozen=True)
class Calibration:
    """How many of ``runs`` unrelated labels passed the threshold, with the 95 % interval of the rate (Clopper-Pearson).

    ``expected`` is what the threshold promises: a rate of at most floor(0.05 (B + 1)) / (B + 1).
    """

    what: str
    runs: int
    hits: int
    low: float
    high: float
    expected: float
    must_hold: bool = True

    @property
    def rate(self) -> float:
        return self.hits / self.runs

    @property
    def ok(self) -> bool:
        return not self.must_hold or self.low <= self.expected <= self.high


def recover(
    model: str, registry: Registry, *, n: int = 1000, permutations: int = 200, seed: int = 0, device: str = "cpu"
) -> Recovery:
    """Plant neurons into a model's pass over ``n`` examples, run the pipeline, and read from its files what it found."""
    if n < 100:
        raise UserError(f"selftest needs at least 100 examples to tell planted neurons from chance, got {n}")
    if permutations < smallest_useful():
        raise UserError(f"selftest needs at least {smallest_useful()} permutations, got {permutations}; 200 are usual")
    with _model_folder(model, seed) as name, tempfile.TemporaryDirectory(prefix="skillneurons-") as place:
        lm = load_model(name, device=device)
        plant = plant_strengths(lm.n_layers, lm.d_ff, STRENGTHS, seed)
        metric = Metric(COLUMN, lambda example, output: plant.metric(example.id))
        known = registry.metrics["confidence"]
        with_plant = Registry(
            **{**vars(registry), "metrics": {**registry.metrics, COLUMN: Registered(metric, known.plugin)}}
        )
        sizes = {"train": 32, "validation": 16, "discovery": n, "heldout": n // 2}
        settings = [f"data.{split}={size}" for split, size in sizes.items()]
        settings += [
            f"attribution.permutations={permutations}",
            f"attribution.seed={seed}",
            "attribution.nuisance=[]",
            "causal.enabled=false",
        ]
        settings += ["prompt.steps=4", f"prompt.num_virtual_tokens={VIRTUAL_TOKENS}", "prompt.batch_size=8"]
        config = load_config(
            overrides=settings, models=[name], tasks=[TASK], metrics=[COLUMN], output=place, device=device, blank=True
        )
        outcome = run_config(config, with_plant, progress=False, plant=plant)
        (cell,) = outcome.results
        if cell.status != "ok":
            raise UserError(f"selftest of {model}: {(cell.error or {})['message']}")
        names = [example.id for example in load_split(registry.task(TASK), "discovery", limit=n, seed=0, options={})]
        scores, heldout = (split[COLUMN].ravel() for split in read_scores(ResultsFolder(Path(place)), cell.key))
        return _compared(model, plant, names, scores, heldout, cell.columns[COLUMN], lm.d_ff)


def _compared(
    model: str,
    plant: Plant,
    names: Sequence[str],
    scores: npt.NDArray[np.float32],
    heldout: npt.NDArray[np.float32],
    figures: Any,
    d_ff: int,
) -> Recovery:
    z = np.array([plant.metric(name) for name in names])
    a = plant.activations(names)
    order = np.argsort(-np.nan_to_num(np.abs(scores)), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    shown = {(row["layer"], row["neuron"]): row for row in figures["top"]}
    found = []
    for i, flat in enumerate(plant.neurons):
        row = shown.get((int(flat // d_ff), int(flat % d_ff)), {})
        found.append(
            Recovered(
                layer=int(flat // d_ff),
                neuron=int(flat % d_ff),
                planted=float(plant.r[i]),
                realised=float(np.corrcoef(z, a[:, i])[0, 1]),
                found=float(scores[flat]),
                rank=int(rank[flat]),
                p_adjusted=row.get("p_adjusted", np.nan),
                heldout=float(heldout[flat]),
                low=row.get("ci_low", np.nan),
                high=row.get("ci_high", np.nan),
            )
        )
    others = np.setdiff1d(np.arange(len(scores)), plant.neurons)
    above = int((np.abs(scores[others]) > figures["null95_r"]).sum())
    return Recovery(model, len(names), len(scores), figures["null95_r"], tuple(found), above)


@contextmanager
def _model_folder(model: str, seed: int) -> Iterator[str]:
    """Give a name that ``load_model`` takes: a random model is saved as any hub model would be."""
    if model not in MODELS:
        yield model
        return
    if model == "pocket":
        yield model
        return
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(seed)
    built: Any
    if model == "random Llama":
        wide = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 4}
        built = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **wide, **ends))
    else:
        built = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=3, n_head=4, **ends))
    with tempfile.TemporaryDirectory(prefix="skillneurons-") as folder:
        built.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield folder


def calibrate(
    registry: Registry,
    *,
    runs: int = 200,
    n: int = 500,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Calibration]:
    """Return the false-positive rates on labels without relation: of rows, of whole groups, of both, and rows where groups share."""
    if runs < 1 or permutations < smallest_useful():
        raise UserError(
            f"calibration needs at least 1 run and {smallest_useful()} permutations, got {runs} and {permutations}"
        )
    lm = load_model("pocket", device="cpu")
    rng = np.random.default_rng(seed)
    activations, _ = _recorded(lm, registry, "arithmetic", n)
    alone = [str(row) for row in range(n)]
    single = rng.integers(0, 2, (n, runs)).astype(np.float64)
    results = [_rate("labels of single examples, rows permuted", activations, single, alone, permutations, seed)]
    if progress:
        progress(1)
    grouped, groups = _recorded(lm, registry, "hans", n)
    names = sorted(set(groups))
    shared = rng.integers(0, 2, (len(names), runs)).astype(np.float64)[[names.index(group) for group in groups]]
    what = f"labels shared by {len(names)} groups"
    results.append(_rate(f"{what}, whole groups permuted", grouped, shared, groups, permutations, seed))
    if progress:
        progress(1)
    leaning = np.where(rng.random(shared.shape) < 0.2, 1 - shared, shared)  # most rows of a group alike, some not
    what_leans = f"labels that {len(names)} groups share mostly"
    results.append(_rate(f"{what_leans}, groups and rows permuted", grouped, leaning, groups, permutations, seed))
    if progress:
        progress(1)
    rows = [str(row) for row in range(len(groups))]
    wrong = _rate(f"{what}, rows permuted (the wrong null)", grouped, shared, rows, permutations, seed, must_hold=False)
    if progress:
        progress(1)
    return [*results, wrong]


def _recorded(lm: LanguageModel, registry: Registry, task: str, n: int) -> tuple[Any, list[str]]:
    """Return the kept rows of a pass over ``n`` discovery examples with an untuned prompt, and their groups."""
    found = registry.task(task)
    examples = load_split(found, "discovery", limit=n, seed=0, options={})
    prompt = initial_prompt(lm, VIRTUAL_TOKENS, seed=0)
    encoded = encode_examples(lm, found, examples, num_virtual_tokens=VIRTUAL_TOKENS)
    none = Metric("none", lambda example, output: 0.0)
    measured = measure(
        lm, found, encoded, {"none": (none, ("none",))}, prompt, accumulator=PearsonAccumulator, keep_rows=True
    )
    return measured.rows, measured.groups


def _rate(
    what: str,
    rows: Any,
    labels: npt.NDArray[np.float64],
    groups: Sequence[str],
    permutations: int,
    seed: int,
    *,
    must_hold: bool = True,
) -> Calibration:
    from scipy.stats import binomtest

    nulls = permutation_null(
        rows, labels, groups, PearsonAccumulator.linear_form, n_permutations=permutations, seed=seed
    )
    ran = [null for null in nulls if null.n_fwer is not None]
    if not ran:
        raise UserError(f"calibration on {what}: {nulls[0].reason}; more examples are needed")
    hits = sum(bool(null.n_fwer) for null in ran)
    interval = binomtest(hits, len(ran)).proportion_ci(0.95, method="exact")
    expected = np.floor(ALPHA * (permutations + 1)) / (permutations + 1)
    return Calibration(what, len(ran), hits, float(interval.low), float(interval.high), float(expected), must_hold)


def report(recoveries: Sequence[Recovery], calibrations: Sequence[Calibration]) -> str:
    """Return what was recovered and calibrated as text tables."""
    from tabulate import tabulate

    lines: list[str] = []
    for one in recoveries:
        lines.append(
            f"{one.model}: {one.n} examples, {one.n_neurons} neurons, {len(one.neurons)} planted; "
            f"chance reaches |r| = {one.null95:.3f} (max-T, 95 %)"
        )
        rows = [
            (
                f"L{neuron.layer:02d}.N{neuron.neuron:04d}",
                f"{neuron.planted:+.1f}",
                f"{neuron.realised:+.5f}",
                f"{neuron.found:+.5f}",
                f"{abs(neuron.found - neuron.realised):.0e}",
                neuron.rank,
                f"{neuron.p_adjusted:.3f}",
                f"{neuron.heldout:+.3f} ({neuron.low:+.3f} to {neuron.high:+.3f})",
            )
            for neuron in sorted(one.neurons, key=lambda neuron: neuron.rank)
        ]
        headers = ("neuron", "planted r", "realised r", "found r", "off by", "rank", "p adjusted", "held-out r (95 %)")
        lines.append(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
        lines.append(
            f"{'ok' if one.ok else 'FAILED'}: {len(one.sure)} neurons of realised |r| >= {SURE} "
            f"{'rank above' if one.ok else 'must rank above'} all unplanted ones with their sign, r within {EXACT:g}; "
            f"false positives: {one.false_positives}"
        )
        lines.append("")
    for calibration in calibrations:
        verdict = ("ok" if calibration.ok else "FAILED") if calibration.must_hold else "for comparison"
        lines.append(
            f"{verdict}: {calibration.what}: {calibration.hits} of {calibration.runs} runs pass the threshold, "
            f"{100 * calibration.rate:.1f} % ({100 * calibration.low:.1f} to {100 * calibration.high:.1f} %), "
            f"{100 * calibration.expected:.1f} % is right"
        )
    return "\n".join(lines)
