"""A step of prompt tuning: ours on cached inputs, ours over whole sequences, and peft's, alternating in one process.

    python tests/benchmarks/tuning_step.py [--vocabulary 8192 151936] [--inputs 64 256] [--repeats 7]

Qwen2 shape (hidden 256, 8 layers, d_ff 1408), random weights, batch 16, 20 virtual tokens, 2 answer tokens. Prints the
median seconds of a step (forward, backward, AdamW) and their ratios, the largest difference between the gradients of our
two ways, and what three steps add to the memory of a fresh process. The inputs of the cached way have run before. Then the
cost of an epoch (160 examples) on cached inputs, by their length: lengths alternate, each with examples of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import skillneurons as sn
import torch
import transformers
from memory import peak_of_script, peak_while
from shapes import SHAPES, qwen2, rows
from skillneurons.answer_loss import answer_loss, cached_answer_loss
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample

M, ANSWER, BATCH, EPOCH = 20, 2, 16, 160


def step_of(
    loss: Callable[[torch.Tensor], tuple[torch.Tensor, int]], d_model: int, device: torch.device
) -> Callable[[], Any]:
    """Return a step that tunes a prompt of its own."""
    torch.manual_seed(1)
    virtual = (0.02 * torch.randn(M, d_model)).to(device).requires_grad_(True)
    optimizer = torch.optim.AdamW([virtual], lr=1e-3)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        summed, count = loss(virtual)
        (summed / count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert virtual.grad is not None
        return virtual.grad

    return step


def peft_step(model: Any, batch: list[EncodedExample]) -> Callable[[], Any]:
    """Return peft's step on the same tokens: its prompt before the input, labels on the answer."""
    import peft

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=M)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = peft.get_peft_model(model, config)
    ids = torch.tensor([[*row.ids, *row.target] for row in batch], device=model.device)
    labels = ids.clone()
    labels[:, : len(batch[0].ids)] = -100
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        tuned(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
        optimizer.step()

    return step


def ways_of(lm: sn.LanguageModel, vocabulary: int, length: int) -> dict[str, Callable[[], Any]]:
    """Return a step of each way on the same batch."""
    batch = rows(BATCH, vocabulary, length, length, ANSWER)
    inputs = InputCache(lm, room=M + ANSWER).fill(batch)
    return {
        "cached": step_of(lambda v: cached_answer_loss(lm, batch, v, inputs), lm.d_model, lm.device),
        "whole": step_of(lambda v: answer_loss(lm, batch, v, "append"), lm.d_model, lm.device),
        "peft": peft_step(lm.model, batch),
    }


def epochs(lm: sn.LanguageModel, vocabulary: int, lengths: list[int], repeats: int) -> dict[int, float]:
    """Return the median seconds of an epoch on cached inputs by input length."""
    ways = {}
    for length in lengths:
        examples = rows(EPOCH, vocabulary, length, length, ANSWER)
        inputs = InputCache(lm, room=M + ANSWER).fill(examples)
        batches = [examples[i : i + BATCH] for i in range(0, EPOCH, BATCH)]
        left = itertools.cycle(batches)

        def loss(virtual: torch.Tensor, left: Any = left, inputs: InputCache = inputs) -> tuple[torch.Tensor, int]:
            return cached_answer_loss(lm, next(left), virtual, inputs)

        ways[length] = step_of(loss, lm.d_model, lm.device)
        ways[length]()
    taken: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(repeats):
        for length, step in ways.items():
            began = time.perf_counter()
            for _ in range(0, EPOCH, BATCH):
                step()
            if lm.device.type == "cuda":
                torch.cuda.synchronize()
            taken[length].append(time.perf_counter() - began)
    return {length: statistics.median(times) for length, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[8192, 151936])
    parser.add_argument("--inputs", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--peak", help="one way's memory as JSON, for the table")
    arguments = parser.parse_args()
    own = ["--device", arguments.device, "--dtype", arguments.dtype, "--shape", arguments.shape]
    if arguments.peak:
        lm = qwen2(arguments.vocabulary[0], device=arguments.device, dtype=arguments.dtype, **SHAPES[arguments.shape])
        step = ways_of(lm, arguments.vocabulary[0], arguments.inputs[0])[arguments.peak]
        print(json.dumps(peak_while(lambda: [step() for _ in range(3)], lm.device)))
        return
    print(
        f"{platform.machine()}, {arguments.device}, {torch.get_num_threads()} threads, {arguments.dtype}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; medians of {arguments.repeats} alternated repeats\n"
    )
    print(
        "| vocabulary | input | cached s | whole s | peft s | whole / cached | peft / cached | gradients differ by | "
        "MB added: cached, whole, peft |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for vocabulary in arguments.vocabulary:
        lm = qwen2(vocabulary, device=arguments.device, dtype=arguments.dtype, **SHAPES[arguments.shape])
        for length in arguments.inputs:
            ways = ways_of(lm, vocabulary, length)
            first = {name: step() for name, step in ways.items()}  # warm, and the same prompt for both of ours
            scale = float(first["whole"].abs().max())
            apart = float((first["cached"] - first["whole"]).abs().max()) / scale
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(arguments.repeats):
                for name, step in ways.items():
                    began = time.perf_counter()
                    step()
                    if lm.device.type == "cuda":
                        torch.cuda.synchronize()
                    taken[name].append(time.perf_counter() - began)
            added = [
                peak_of_script(
                    __file__, [*own, "--peak", way, "--vocabulary", str(vocabulary), "--inputs", str(length)]
                )
                for way in ways
            ]
            memory = ", ".join(f"{one['added']:.0f}" for one in added)
            cached, whole, peft = (statistics.median(taken[name]) for name in ("cached", "whole", "peft"))
            print(
                f"| {vocabulary} | {length} | {cached:.4f} | {whole:.4f} | {peft:.4f} | {whole / cached:.2f} | "
                f"{peft / cached:.2f} | {apart:.1e} | {memory} |",
                flush=True,
            )
    print("\n| vocabulary | epoch at input | s | beside the shortest |\n|---|---|---|---|")
    for vocabulary in arguments.vocabulary:
        lm = qwen2(vocabulary, device=arguments.device, dtype=arguments.dtype, **SHAPES[arguments.shape])
        found = epochs(lm, vocabulary, sorted(arguments.inputs), arguments.repeats)
        for length, seconds in found.items():
            print(f"| {vocabulary} | {length} | {seconds:.3f} | {seconds / min(found.values()):.2f} |", flush=True)


if __name__ == "__main__":
    main()
