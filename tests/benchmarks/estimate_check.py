"""Do estimates hold? ``run --dry-run`` beside the run itself: wall time of the whole command and its peak resident memory.

    python tests/benchmarks/estimate_check.py [--case NAME]...

On one core, because a machine that others use gives no two of them for sure; beside wall time stands the processor's time, which
is what the run takes alone.

Every case runs in a process of its own: first its dry run on an empty folder (the speed is measured for a moment), then the run,
then the dry run of a larger one in the same folder (the speed is that of the finished cells), and that run. Ratios are
measured / estimated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTINGS = ["prompt.steps=40", "causal.k=[10]", "causal.random_sets=5"]
QWEN2 = {
    "narrow": {"hidden_size": 384, "intermediate_size": 1408, "num_hidden_layers": 12, "num_attention_heads": 6},
    "wide": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 8},
}
CASES: dict[str, tuple[str, list[str], list[str], list[str]]] = {  # model, tasks, first run, larger run
    "pocket": ("pocket", [], ["--limit", "32"], ["--limit", "64"]),
    "pocket-small": ("pocket-small", ["arithmetic", "hans"], ["--limit", "32"], ["--limit", "64"]),
    "narrow": ("narrow", ["arithmetic", "hans"], ["--limit", "16"], ["--limit", "32"]),
    "wide": ("wide", ["arithmetic-open"], ["--limit", "16"], ["--limit", "24"]),
}


def made(name: str, folder: Path) -> str:
    """Return a model's name, or the folder where one of random weights and 8,192 words was made."""
    if name not in QWEN2:
        return name
    import torch
    from skillneurons.model_source import pocket_folder
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    place = folder / name
    config = Qwen2Config(
        **QWEN2[name],
        num_key_value_heads=QWEN2[name]["num_attention_heads"],
        vocab_size=32768 if name == "wide" else 8192,
        max_position_embeddings=1024,
    )
    Qwen2ForCausalLM(config).save_pretrained(place)
    AutoTokenizer.from_pretrained(pocket_folder()).save_pretrained(place)
    return str(place)


def command(model: str, tasks: Sequence[str], out: Path, more: Sequence[str]) -> list[str]:
    """Return the arguments of a run."""
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return ["run", "-m", model, *[p for task in tasks for p in ("-t", task)], "-o", str(out), *settings, *more]


def estimated(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the dry run says of the whole."""
    done = subprocess.run(
        [sys.executable, "-m", "skillneurons", *arguments, "--dry-run", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)["whole"]
    return found


PROBE = """
import sys
from skillneurons.cli import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
print("PEAK", next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
sys.exit(code)
"""


def processor() -> float:
    """Return the processor's seconds of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(arguments: Sequence[str]) -> tuple[float, float, float]:
    """Run and return wall and processor time in seconds, and peak resident memory in bytes."""
    began, before = time.perf_counter(), processor()
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return took, processor() - before, 1024 * float(done.stdout.rsplit("PEAK ", 1)[1].split()[0])


def main() -> None:
    """Print one line per run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", action="append", choices=CASES)
    chosen = parser.parse_args().case or list(CASES)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(
        "| case | speed from | estimated s | processor s | ratio | wall s | ratio | estimated MB | measured MB | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in chosen:
        model, tasks, first, larger = CASES[name]
        with tempfile.TemporaryDirectory() as place:
            model = made(model, Path(place))
            for source, more in (("a moment", first), ("finished cells", larger)):
                arguments = command(model, tasks, Path(place) / "runs", more)
                guess = estimated(arguments)
                seconds, used, peak = measured(arguments)
                low, likely, high = (guess[one] for one in ("low", "likely", "high"))
                memory = guess["memory"]["host"]
                print(
                    f"| {name} {' '.join(more)} | {source} | {likely:.0f} ({low:.0f} to {high:.0f}) | {used:.0f} "
                    f"| {used / likely:.2f} | {seconds:.0f} | {seconds / likely:.2f} | {memory / 1e6:.0f} | {peak / 1e6:.0f} | {peak / memory:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
