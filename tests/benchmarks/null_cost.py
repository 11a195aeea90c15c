"""What the permutation null costs: beside the pass it belongs to, and beside the same null done plainly.

    python tests/benchmarks/null_cost.py [--examples 1000] [--repeats 5]

Prints medians of alternated repeats: the pass (outputs and activations of discovery), 200 permutations of one column, of
all columns of the task, and the plain way for one column: a float64 correlation of every neuron for each permutation in
turn, as one writes it with numpy. The null itself is the same to 1e-6, which is checked.
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
from skillneurons.examples import load_split
from skillneurons.exchange import exchange
from skillneurons.inputs import encode_examples
from skillneurons.measurement import measure
from skillneurons.null import permutation_null
from skillneurons.prompt import initial_prompt
from skillneurons.spool import ActivationRows

PERMUTATIONS = 200


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def plainly(rows: ActivationRows, values: np.ndarray, groups: list[str]) -> np.ndarray:
    """Return the largest |r| of each permutation, one permutation at a time."""
    a = np.concatenate([block[:, 0] for _, block in rows.blocks()], axis=1).astype(np.float64)
    a = a - a.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0))
    largest = []
    for order in exchange(values, groups, PERMUTATIONS, 0).orders:
        v = values[order] - values.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            largest.append(np.nanmax(np.abs(v @ a / (norm * np.sqrt(v @ v)))))
    return np.array(largest)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", default="arithmetic")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    lm, task = sn.load_model(arguments.model), sn.get_task(arguments.task)
    prompt = initial_prompt(lm, 10)
    examples = load_split(task, "discovery", limit=arguments.examples, seed=0, options={})
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=10)
    metrics = {name: sn.get_metric(name) for name in ("confidence", "labels", "heuristics")}
    applied = {name: (metric, metric.columns_for(task)) for name, metric in metrics.items()}
    times: dict[str, list[float]] = {name: [] for name in ("pass", "one column", "all columns", "one column, plainly")}
    form = sn.PearsonAccumulator.linear_form
    for _ in range(arguments.repeats):
        taken, measured = seconds(lambda: measure(lm, task, encoded, applied, prompt, keep_rows=True))
        times["pass"].append(taken)
        rows, values, groups = measured.rows, measured.values, measured.groups

        def null(columns: Any, rows: Any = rows, values: Any = values, groups: Any = groups) -> Any:
            return permutation_null(rows, values[:, columns], groups, form, n_permutations=PERMUTATIONS, seed=0)

        taken, (one,) = seconds(lambda: null([0]))
        times["one column"].append(taken)
        taken, _ = seconds(lambda: null(slice(None)))
        times["all columns"].append(taken)
        taken, plain = seconds(lambda: plainly(rows, values[:, 0], groups))
        times["one column, plainly"].append(taken)
        np.testing.assert_allclose(one.largest, plain, atol=1e-6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    n_columns = values.shape[1]
    print(
        f"{arguments.model}, {arguments.task}: N = {len(examples)}, M = {lm.n_neurons}, {n_columns} columns, B = {PERMUTATIONS}; "
        f"{lm.device}, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, numpy {np.__version__}; medians of {arguments.repeats}"
    )
    for name, median in medians.items():
        spread = f"{min(times[name]):.3f} to {max(times[name]):.3f}"
        print(f"{name:22} {median:8.3f} s ({spread})   {median / medians['pass']:6.2f} of the pass")
    print(f"ours / plainly, one column: {medians['one column'] / medians['one column, plainly']:.2f}")


if __name__ == "__main__":
    main()
