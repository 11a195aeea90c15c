"""Recording and correlating every neuron: ours, a bare forward pass, and rivals, alternating in one process; peak memory apart.

    python tests/benchmarks/attribution_pass.py [--vocabulary 8192 151936] [--examples 2000] [--lengths 8 56] [--repeats 3]

Qwen2 shape (hidden 256, 8 layers, d_ff 1408), random weights, 8 metric columns known beforehand, activations at the last
token. Everything but ours runs batches of 64 in the examples' order, padded on the left, as a user of that library would. The
largest difference between each way's r and ours is printed beside its time: they measure the same thing. A way whose library is
not installed is left out and named. Then: how our cost grows with columns, permutations, layers and examples.

On a GPU: ``--device cuda --dtype bfloat16 --shape 1.8b --lengths 512 512 --examples 512`` adds tokens per second and the share of
the device's measured bf16 peak.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skillneurons as sn
import torch
import transformers
from memory import peak_of_script, peak_while
from shapes import SHAPES, qwen2, rows
from skillneurons.correlation import correlate_encoded
from skillneurons.inputs import EncodedExample
from skillneurons.null import permutation_null
from skillneurons.spool import ActivationRows
from skillneurons.statistics import PearsonAccumulator

BATCH, COLUMNS = 64, 8
NEEDS = {"TransformerLens": "transformer_lens", "nnsight": "nnsight", "captum": "captum"}
WAYS = ("bare forward", "ours", "store all + numpy", *NEEDS)
Padded = list[tuple[torch.Tensor, torch.Tensor]]


def padded(encoded: Sequence[EncodedExample], device: torch.device) -> Padded:
    """Return (ids, mask) of batches in order, padded on the left."""
    found = []
    for start in range(0, len(encoded), BATCH):
        part = encoded[start : start + BATCH]
        longest = max(len(row.ids) for row in part)
        ids = [[0] * (longest - len(row.ids)) + list(row.ids) for row in part]
        mask = [[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in part]
        found.append((torch.tensor(ids, device=device), torch.tensor(mask, device=device)))
    return found


def correlation(activations: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return r (columns, neurons) from all rows, as numpy has it."""
    a, v = activations.astype(np.float64), values - values.mean(axis=0)
    a -= a.mean(axis=0)
    return (v.T @ a) / np.outer(np.sqrt((v * v).sum(axis=0)), np.sqrt((a * a).sum(axis=0)))


def ways_of(
    lm: sn.LanguageModel, encoded: Sequence[EncodedExample], values: np.ndarray, chosen: Sequence[str]
) -> dict[str, Callable[[], np.ndarray | None]]:
    """Return what to run, by name."""
    batches = padded(encoded, lm.device)
    model = lm.model

    @torch.inference_mode()
    def bare() -> None:
        for ids, mask in batches:
            model(input_ids=ids, attention_mask=mask)

    def ours() -> np.ndarray:
        return correlate_encoded(lm, encoded, values, batch_size=BATCH).result()

    @torch.inference_mode()
    def store_all() -> np.ndarray:
        kept: list[list[torch.Tensor]] = [[] for _ in lm.layers]
        hooks = [
            layer.projection.register_forward_pre_hook(lambda _m, args, own=own: own.append(args[0].cpu()))
            for layer, own in zip(lm.layers, kept, strict=True)
        ]
        for ids, mask in batches:
            model(input_ids=ids, attention_mask=mask)
        for hook in hooks:
            hook.remove()
        last = [torch.cat([part[:, -1].float() for part in own]) for own in kept]
        return correlation(torch.cat(last, dim=1).numpy(), values)

    found: dict[str, Callable[[], np.ndarray | None]] = {
        "bare forward": bare,
        "ours": ours,
        "store all + numpy": store_all,
    }
    makers = {"TransformerLens": of_transformer_lens, "nnsight": of_nnsight, "captum": of_captum}
    for name, make in makers.items():
        if name in chosen and importlib.util.find_spec(NEEDS[name]) is not None:
            found[name] = make(lm, batches, values)
    return {name: found[name] for name in chosen if name in found}


def of_transformer_lens(lm: sn.LanguageModel, batches: Padded, values: np.ndarray) -> Callable[[], np.ndarray]:
    """Return TransformerLens with a cache filtered to the neurons; its bridge wraps a model of its own."""
    from skillneurons.model_source import pocket_folder
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    other = type(lm.model)(lm.model.config).to(lm.device, lm.dtype)
    other.load_state_dict(lm.model.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    bridge = TransformerBridge.boot_transformers(
        "Qwen/Qwen2-0.5B", hf_model=other.eval(), tokenizer=tokenizer, device=str(lm.device), dtype=lm.dtype
    )

    @torch.inference_mode()
    def run() -> np.ndarray:
        kept = []
        for ids, mask in batches:
            _, cache = bridge.run_with_cache(
                ids, attention_mask=mask, names_filter=lambda name: name.endswith("mlp.hook_post")
            )
            last = [cache[f"blocks.{layer}.mlp.hook_post"][:, -1].float().cpu() for layer in range(lm.n_layers)]
            kept.append(torch.cat(last, dim=1))
        return correlation(torch.cat(kept).numpy(), values)

    return run


def of_nnsight(lm: sn.LanguageModel, batches: Padded, values: np.ndarray) -> Callable[[], np.ndarray]:
    """Return nnsight with the last position of every projection's input saved."""
    from nnsight import NNsight

    traced, n_layers = NNsight(lm.model), lm.n_layers

    @torch.no_grad()
    def run() -> np.ndarray:
        kept = []
        for ids, mask in batches:
            with traced.trace(input_ids=ids, attention_mask=mask):
                saved = []
                for layer in range(n_layers):
                    saved.append(traced.model.layers[layer].mlp.down_proj.input[:, -1].save())
                saved.save()
            kept.append(torch.cat([one.float().cpu() for one in saved], dim=1))
        return correlation(torch.cat(kept).numpy(), values)

    return run


def of_captum(lm: sn.LanguageModel, batches: Padded, values: np.ndarray) -> Callable[[], np.ndarray]:
    """Return captum's LayerActivation over all projections."""
    from captum.attr import LayerActivation

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = lm.model(input_ids=ids, attention_mask=mask).logits
        return logits[:, -1]

    layers = LayerActivation(forward, [layer.projection for layer in lm.layers])

    @torch.no_grad()
    def run() -> np.ndarray:
        kept = []
        for ids, mask in batches:
            seen = layers.attribute(ids, additional_forward_args=mask, attribute_to_layer_input=True)
            kept.append(torch.cat([one[:, -1].float().cpu() for one in seen], dim=1))
        return correlation(torch.cat(kept).numpy(), values)

    return run


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return (seconds, result)."""
    began = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def peak_of(arguments: argparse.Namespace) -> dict[str, float]:
    """Run one way once and return what it added to the process's (on a GPU: the device's) peak memory, in MB."""
    lm, encoded, values = setting(arguments, arguments.vocabulary[0])
    run = ways_of(lm, encoded, values, [arguments.peak])[arguments.peak]
    return peak_while(run, lm.device)


def peak_in_a_process(way: str, vocabulary: int, examples: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Return ``peak_of`` in a process of its own."""
    own = ["--peak", way, "--vocabulary", str(vocabulary), "--examples", str(examples), "--shape", arguments.shape]
    own += ["--lengths", *map(str, arguments.lengths), "--device", arguments.device, "--dtype", arguments.dtype]
    return peak_of_script(__file__, own)


def setting(
    arguments: argparse.Namespace, vocabulary: int
) -> tuple[sn.LanguageModel, list[EncodedExample], np.ndarray]:
    lm = qwen2(vocabulary, device=arguments.device, dtype=arguments.dtype, **SHAPES[arguments.shape])
    encoded = rows(arguments.examples, vocabulary, *arguments.lengths, 2)
    return lm, encoded, np.random.default_rng(0).normal(size=(len(encoded), COLUMNS))


def bf16_peak() -> float:
    """Return the measured floating point operations per second of a large bf16 product on the GPU."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - began)


def operations(lm: sn.LanguageModel, encoded: Sequence[EncodedExample]) -> float:
    """Return the floating point operations of the blocks on all tokens (products with weights, and attention)."""
    blocks = sum(p.numel() for name, p in lm.model.named_parameters() if ".layers." in name and p.dim() == 2)
    attention = sum(4 * lm.n_layers * lm.d_model * len(row.ids) ** 2 / 2 for row in encoded)
    return 2.0 * blocks * sum(len(row.ids) for row in encoded) + attention


def compare(arguments: argparse.Namespace) -> None:
    print("| vocabulary | way | s | / bare | peak MB | added MB | r differs from ours by |")
    print("|---|---|---|---|---|---|---|")
    for vocabulary in arguments.vocabulary:
        lm, encoded, values = setting(arguments, vocabulary)
        ways = ways_of(lm, encoded, values, arguments.ways)
        small = ways_of(lm, encoded[:BATCH], values[:BATCH], arguments.ways)
        for run in small.values():  # warm
            run()
        taken: dict[str, list[float]] = {name: [] for name in ways}
        results: dict[str, Any] = {}
        for repeat in range(arguments.repeats):
            names = [*ways][repeat % len(ways) :] + [*ways][: repeat % len(ways)]  # nobody always follows the same one
            for name in names:
                seconds, results[name] = timed(ways[name], lm.device)
                taken[name].append(seconds)
        medians = {name: statistics.median(times) for name, times in taken.items()}
        for name, seconds in medians.items():
            memory = peak_in_a_process(name, vocabulary, arguments.examples, arguments)
            apart = "" if results[name] is None else f"{np.nanmax(np.abs(results[name] - results['ours'])):.0e}"
            print(
                f"| {vocabulary} | {name} | {seconds:.2f} | {seconds / medians['bare forward']:.2f} | {memory['peak']:.0f} | "
                f"{memory['added']:.0f} | {apart} |",
                flush=True,
            )
        if lm.device.type == "cuda":
            peak, tokens = bf16_peak(), sum(len(row.ids) for row in encoded)
            share = operations(lm, encoded) / medians["ours"] / peak
            print(
                f"\nours: {tokens / medians['ours']:.0f} tokens/s, {100 * share:.0f} % of the measured {peak / 1e12:.0f} TFLOP/s\n"
            )


def growth(arguments: argparse.Namespace) -> None:
    vocabulary = arguments.vocabulary[0]
    lm, encoded, _ = setting(arguments, vocabulary)
    rng = np.random.default_rng(1)

    def seconds(columns: int) -> float:
        values = rng.normal(size=(len(encoded), columns))
        return timed(lambda: correlate_encoded(lm, encoded, values, batch_size=BATCH).result(), lm.device)[0]

    times: dict[int, list[float]] = {1: [], 256: []}
    for _ in range(arguments.repeats):
        for columns, own in times.items():
            own.append(seconds(columns))
    one, many = (statistics.median(own) for own in times.values())
    print(f"\n256 columns / 1 column: {many / one:.3f} ({many:.2f} s, {one:.2f} s)")
    kept = ActivationRows(len(encoded), 1, lm.n_neurons)
    kept.put(range(len(encoded)), rng.normal(size=(len(encoded), lm.n_neurons)).astype(np.float32))
    groups = [str(i) for i in range(len(encoded))]
    column = rng.normal(size=(len(encoded), 1))

    def null() -> Any:
        form = PearsonAccumulator.linear_form
        return permutation_null(kept, column, groups, form, n_permutations=200, seed=0, t_distribution=True)

    null()
    permuted = statistics.median(timed(null, lm.device)[0] for _ in range(arguments.repeats))
    print(f"200 permutations of one column / the pass: {permuted / one:.3f} ({permuted:.2f} s)")
    for layers in (4, 16):
        other = qwen2(
            vocabulary, device=arguments.device, dtype=arguments.dtype, **SHAPES[arguments.shape] | {"layers": layers}
        )
        taken, _ = timed(lambda own=other: correlate_encoded(own, encoded, column, batch_size=BATCH), lm.device)
        print(f"{layers} layers: {taken:.2f} s, {taken / layers:.2f} s a layer")
    sizes = (500, 4000)
    peaks = {
        n: statistics.median(peak_in_a_process("ours", vocabulary, n, arguments)["peak"] for _ in range(3))
        for n in sizes
    }
    few, all_of_them = (peaks[n] for n in sizes)
    print(
        f"peak memory, {sizes[1]} examples / {sizes[0]}: {all_of_them / few:.3f} ({all_of_them:.0f} MB, {few:.0f} MB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[8192, 151936])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--lengths", type=int, nargs=2, default=[8, 56])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--peak", help="one way's peak memory as JSON, for the table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.peak:
        print(json.dumps(peak_of(arguments)))
        return
    print(
        f"{platform.machine()}, {arguments.device}, {torch.get_num_threads()} threads, {arguments.dtype}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {arguments.examples} examples of {arguments.lengths[0]} to "
        f"{arguments.lengths[1]} tokens; medians of {arguments.repeats} alternated repeats\n"
    )
    absent = [name for name in NEEDS if importlib.util.find_spec(NEEDS[name]) is None]
    if absent:
        print(f"not installed, left out: {', '.join(absent)} (pip install -e '.[bench]')\n")
    compare(arguments)
    if not arguments.no_growth:
        growth(arguments)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
