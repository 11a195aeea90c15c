"""Do estimates hold for the shapes of Qwen1.5? Random weights, the published widths and vocabulary, few layers: run on this CPU.

    python tests/benchmarks/large_models.py [--case NAME]...

A case is a size and how many of its layers are kept, as ``0.5B/4``. Time and peak memory of a run beside its dry run, as in
``estimate_check``, on one core; ratios are measured / estimated. What is true of 2, 4 and 8 layers of a size is extended to all of them by
the same formula: weights, keys and values, neurons and time are sums over layers, and the rest does not depend on their number.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from estimate_check import command, estimated, measured

CASES = ("0.5B/2", "0.5B/4", "0.5B/8", "1.8B/2")
TASK = "arithmetic"
SMALL = ["--limit", "8", "--set", "prompt.steps=10", "--set", "causal.cards=0", "--set", "causal.steering=[2.0]"]


def made(case: str, folder: Path) -> str:
    """Return the folder of a model of random weights in the shape of a size, cut to some layers."""
    import torch
    from skillneurons.known_shapes import known_config
    from skillneurons.model_source import pocket_folder
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    size, _, layers = case.partition("/")
    sizes = dict(known_config(f"Qwen/Qwen1.5-{size}") or {}) | {"num_hidden_layers": int(layers)}
    sizes.pop("model_type")
    torch.manual_seed(0)
    place = folder / case.replace("/", "-")
    Qwen2ForCausalLM(Qwen2Config(**sizes)).save_pretrained(place)
    AutoTokenizer.from_pretrained(pocket_folder()).save_pretrained(place)
    return str(place)


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", action="append", help=f"a size and its layers, as in {', '.join(CASES)}")
    chosen = parser.parse_args().case or CASES
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(
        "| case | estimated s | processor s | ratio | estimated MB | measured MB | ratio |\n|---|---|---|---|---|---|---|"
    )
    for case in chosen:
        with tempfile.TemporaryDirectory() as place:
            arguments = command(made(case, Path(place)), [TASK], Path(place) / "runs", SMALL)
            guess = estimated(arguments)
            _, used, peak = measured(arguments)
            likely, memory = guess["likely"], guess["memory"]["host"]
            print(
                f"| {case} | {likely:.0f} ({guess['low']:.0f} to {guess['high']:.0f}) | {used:.0f} | {used / likely:.2f} "
                f"| {memory / 1e6:.0f} | {peak / 1e6:.0f} | {peak / memory:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
