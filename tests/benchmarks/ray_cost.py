"""What the Ray executor costs: per cell beside a local run, and the whole built-in demo with two workers beside two threads.

    python tests/benchmarks/ray_cost.py [--cells 40] [--repeats 5] [--demo-repeats 3]

Scheduling: a run whose cells cost next to nothing (each a job of its own: no prompt, eight examples, no null), by one worker and by this
process, alternated; the time from the first cell to the last that observers hear of, per cell. Bar: 50 ms a cell more than locally.

The demo: `skillneurons run` with two threads, and with two workers of one CPU each in a cluster of its own, the start of everything
included; alternated. Bar: no longer than locally. ``--demo-repeats 0`` leaves it out.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PLUGIN = """
import time
from pathlib import Path
import skillneurons as sn

def examples(split, *, limit=None, seed=0):
    return [sn.Example(f"{split}{i}", f"Is {i} even?", "yes" if i % 2 == 0 else "no", ("yes", "no")) for i in range(8)]

@sn.hookimpl
def register_tasks(register):
    register(sn.Task("cheap", "1", examples, kind="choice", chance=0.5))

@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("length", lambda example, output: float(len(example.prompt))))

@sn.hookimpl
def cell_finished(result):
    with (Path(__file__).parent / "times").open("a") as log:
        log.write(f"{time.time()}\\n")
"""
CHEAP = ["attribution={position: input_last, permutations: 0, bootstrap: 0, nuisance: []}", "causal.enabled=false"]
BAR = 0.05


def per_cell(place: Path, n: int, cluster: dict[str, Any], name: str) -> float:
    """Run ``n`` cells that cost next to nothing; return the seconds from one to the next."""
    from skillneurons.config import load_config
    from skillneurons.registry import load_registry
    from skillneurons.runner import run_config

    plugin = place / "cheap.py"
    plugin.write_text(PLUGIN)
    (place / "times").unlink(missing_ok=True)
    config = load_config(
        blank=True,
        overrides=[*CHEAP, "executor.workers=1"],
        models=["pocket-small"],
        tasks=["cheap"],
        metrics=["length"],
        seeds=list(range(n)),
        device="cpu",
        output=str(place / name),
        plugins=[str(plugin)],
        **cluster,
    )
    outcome = run_config(config, load_registry(config.plugins), progress=False)
    times = [float(line) for line in (place / "times").read_text().split()]
    if outcome.failed or len(times) != n:
        raise RuntimeError(f"{outcome.failed} of {n} cells failed, {len(times)} were told of")
    return (times[-1] - times[0]) / (n - 1)


def scheduling(n: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per cell of alternated runs by one worker and by this process."""
    import ray
    import torch

    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"local": [], "ray": []}
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    try:
        for repeat in range(repeats):
            for name, given in (("local", {}), ("ray", {"executor": "ray"})):
                with tempfile.TemporaryDirectory() as place:
                    found[name].append(per_cell(Path(place), n, given, f"{name}{repeat}"))
    finally:
        ray.shutdown()
    return found


def demo(place: Path, threads: int, *more: str) -> float:
    """Return the seconds of the built-in demo as a command."""
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "skillneurons", "run", "-o", str(place), "--device", "cpu", *more]
    began = time.perf_counter()
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return time.perf_counter() - began


def spread(values: list[float], scale: float, digits: int) -> str:
    low, high = min(values) * scale, max(values) * scale
    return f"{statistics.median(values) * scale:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--demo-repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import ray

    print(
        f"ray {ray.__version__}, python {platform.python_version()}, {os.cpu_count()} cores; medians of alternated repeats\n"
    )
    cost = scheduling(given.cells, given.repeats)
    more = statistics.median(b - a for a, b in zip(cost["local"], cost["ray"], strict=True))
    print(f"| {given.cells} cells that cost next to nothing | ms a cell, median (range) |\n|---|---|")
    print(f"| this process | {spread(cost['local'], 1e3, 1)} |\n| one worker | {spread(cost['ray'], 1e3, 1)} |")
    print(f"\n{more * 1e3:.1f} ms a cell more than locally (the bar: {BAR * 1e3:.0f})\n", flush=True)
    if not given.demo_repeats:
        return
    took: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(given.demo_repeats):
        with tempfile.TemporaryDirectory() as place:
            took["local"].append(demo(Path(place) / "local", 2))
            took["ray"].append(demo(Path(place) / "ray", 1, "--executor", "ray", "--set", "executor.workers=2"))
    ratio = statistics.median(b / a for a, b in zip(took["local"], took["ray"], strict=True))
    print("| the demo | seconds, median (range) |\n|---|---|")
    print(f"| two threads | {spread(took['local'], 1, 0)} |\n| two workers | {spread(took['ray'], 1, 0)} |")
    print(f"\n{ratio:.2f} of the local run (the bar: 1)")


if __name__ == "__main__":
    main()
