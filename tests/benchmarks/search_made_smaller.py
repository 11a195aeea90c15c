"""What a screen keeps of the true top neurons, and the time it saves.

    python tests/benchmarks/search_made_smaller.py [--examples 1000] [--repeats 1]

For each model, method and fraction, a screen per column: recall of the true top-100 (the hundred neurons of largest |r| on
discovery in the full pass), where a random choice recalls the fraction that it keeps; how many of the planted neurons of
|r| >= 0.3 are kept; and the time of screen and restricted pass over that of the full pass (medians, alternated).
Planted activations are replaced in the record and not propagated, so no gradient can know them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
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
COLUMNS = ("labels.correct", "confidence.p_target", "heuristics.magnitude", "planted")
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
        took = {"full": [_seconds(lambda: full(lm, task, {**shared, **sizes}))[0] for _ in range(repeats)]}
        rows = []
        for method in METHODS:
            for fraction in FRACTIONS:
                recalls, kept, screened = [], 0, []
                for column in COLUMNS:
                    options = {"method": method, "fraction": fraction, "pilot": 100, "columns": [column]}
                    taken, found = _seconds(lambda options=options: sn.screen(lm, task, **options, **shared))
                    again, _ = _seconds(lambda found=found: sn.attribute_kept(lm, task, found, **shared, **sizes))
                    screened.append(taken + again)
                    took["full"].append(_seconds(lambda: full(lm, task, {**shared, **sizes}))[0])
                    if column == "planted":
                        kept = int(found.keep.ravel()[plant.neurons].sum())
                    else:
                        recalls.append(recall(truth.scores[column], found.keep))
                ratio = statistics.median(screened) / statistics.median(took["full"])
                rows.append(
                    [
                        f"{name} ({lm.n_neurons})",
                        method,
                        f"{fraction:.2f}",
                        *(f"{one:.2f}" for one in recalls),
                        f"{kept} of {len(plant.neurons)}",
                        f"{ratio:.2f}",
                    ]
                )
        return rows


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    rows = [
        row
        for name in ("pocket", "random Llama", "random GPT-2")
        for row in compare(name, arguments.examples, arguments.repeats)
    ]
    headers = ("model (neurons)", "method", "kept", *COLUMNS[:-1], "planted kept", "time / full")
    print(
        f"arithmetic, N = {arguments.examples} + {arguments.examples // 2}, pilot 100 of train; cpu, {torch.get_num_threads()} "
        f"threads, {platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"numpy {np.__version__}"
    )
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
