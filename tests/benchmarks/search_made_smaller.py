"""What a screen keeps of the true top neurons, and the time it saves.

    python tests/benchmarks/search_made_smaller.py [--examples 1000] [--repeats 3]

For each model, method and fraction: recall of the true top-100 (the hundred neurons of largest |r| on discovery in the full
pass) over all columns, median and smallest, beside what a random choice keeps; how many of the planted neurons of |r| >= 0.3 are
kept; and the time of screen and restricted pass over that of the full pass (medians of alternated repeats).
Planted activations are replaced in the record and not propagated, so no gradient can know them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from typing import Any

import numpy as np
import skillneurons as sn
import torch
import transformers
from skillneurons.planting import Plant, plant_strengths
from skillneurons.prompt import initial_prompt
from skillneurons.screening import METHODS, Screen, recall
from skillneurons.selftest import _model_folder
from tabulate import tabulate

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
STRENGTHS = (0.3, 0.5, 0.7, 0.9)


def full(lm: sn.LanguageModel, task: sn.Task, options: dict[str, Any]) -> sn.Attribution:
    """Return the pass over all neurons, by the same door as the restricted one."""
    every = Screen(np.ones((lm.n_layers, lm.d_ff), dtype=bool), "all", 0)
    return sn.attribute_kept(lm, task, every, **options)


def compare(name: str, n: int, repeats: int) -> list[list[str]]:
    with _model_folder(name, 0) as folder:
        lm = sn.load_model(folder, device="cpu")
        task = sn.get_task("arithmetic")
        plant: Plant = plant_strengths(lm.n_layers, lm.d_ff, STRENGTHS, seed=0)
        planted = sn.Metric("planted", lambda example, output: plant.metric(example.id))
        shared: dict[str, Any] = {
            "metrics": ["confidence", "labels", "heuristics", planted],
            "prompt": initial_prompt(lm, 5),
            "plant": plant,
        }
        sizes = {"discovery": n, "heldout": n // 2}
        truth = full(lm, task, {**shared, **sizes})
        columns = [
            column for column, scores in truth.scores.items() if not np.isnan(scores).all() and column != "planted"
        ]
        rows = []
        for method in METHODS:
            for fraction in FRACTIONS:
                times: dict[str, list[float]] = {"full": [], "screened": []}
                for _ in range(repeats):
                    began = time.perf_counter()
                    full(lm, task, {**shared, **sizes})
                    middle = time.perf_counter()
                    found = sn.screen(lm, task, method=method, fraction=fraction, pilot=100, **shared)
                    sn.attribute_kept(lm, task, found, **shared, **sizes)
                    times["full"].append(middle - began)
                    times["screened"].append(time.perf_counter() - middle)
                recalls = [recall(truth.scores[column], found.keep) for column in columns]
                kept = int(found.keep.ravel()[plant.neurons].sum())
                ratio = statistics.median(times["screened"]) / statistics.median(times["full"])
                rows.append(
                    [
                        f"{name} ({lm.n_neurons})",
                        method,
                        f"{fraction:.2f}",
                        f"{np.median(recalls):.2f}",
                        f"{min(recalls):.2f}",
                        f"{fraction:.2f}",
                        f"{kept} of {len(plant.neurons)}",
                        f"{ratio:.2f}",
                    ]
                )
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = [
        row
        for name in ("pocket", "random Llama", "random GPT-2")
        for row in compare(name, arguments.examples, arguments.repeats)
    ]
    headers = (
        "model (neurons)",
        "method",
        "kept",
        "recall, median",
        "smallest",
        "random",
        "planted kept",
        "time / full",
    )
    print(
        f"arithmetic, N = {arguments.examples} + {arguments.examples // 2}, pilot 100 of train; cpu, {torch.get_num_threads()} "
        f"threads, {platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"numpy {np.__version__}; medians of {arguments.repeats}"
    )
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
