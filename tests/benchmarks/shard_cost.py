"""What a pass in 2 and 4 shards costs in one process beside the single pass, and what moves where shards lie elsewhere.

    python tests/benchmarks/shard_cost.py [--examples 1000] [--repeats 5]

Prints medians of alternated repeats, and ratios of the smallest (other work on the machine only adds): one pass over discovery
with its kept rows, whole and in shards; the null of one column and of all, from rows and from sums. Scores are checked to
1e-12, thresholds to the bit. Bytes are counted as they are copied between processes (a pickle of what goes back).
"""

from __future__ import annotations

import argparse
import pickle
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skillneurons as sn
import torch
import transformers
from skillneurons.config import load_config
from skillneurons.measurement import Measured, measure
from skillneurons.micro_batches import MicroBatches
from skillneurons.null import permutation_null
from skillneurons.plan import plan
from skillneurons.prompt import initial_prompt
from skillneurons.registry import load_registry
from skillneurons.results import ResultsFolder
from skillneurons.shard_runner import UnitShardRunner
from skillneurons.sharded_passes import ShardedPasses
from skillneurons.sharded_rows import ShardedRows
from skillneurons.shards import ShardPart

PERMUTATIONS, M = 200, 10


class Counted(UnitShardRunner):
    """A runner in this process that counts what it would send from another one."""

    moves = True
    sent = 0

    def _count(self, found: Any) -> Any:
        self.sent += len(pickle.dumps(found, protocol=5))
        return found

    def run(self, *given: Any, **named: Any) -> ShardPart:
        part: ShardPart = self._count(super().run(*given, **named))
        return part

    def block(self, *given: Any) -> Any:
        return self._count(super().block(*given))

    def permuted(self, *given: Any) -> Any:
        return self._count(super().permuted(*given))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", default="arithmetic")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    registry, metrics = load_registry(), ["confidence", "labels", "heuristics"]
    config = load_config(
        models=[arguments.model],
        tasks=[arguments.task],
        metrics=metrics,
        overrides=[f"prompt.num_virtual_tokens={M}", f"data.discovery={arguments.examples}", "data.train=10"],
        registry=registry,
    )
    (unit,) = plan(config, registry, ResultsFolder(Path("no such folder")))
    lm = sn.load_model(arguments.model)
    applied = {cell.metric.name: (cell.metric, cell.columns) for cell in unit.cells}
    prompt = initial_prompt(lm, M)
    form = sn.PearsonAccumulator.linear_form
    here = UnitShardRunner(config, registry, unit, lm)
    encoded = here.encoded("discovery", M)
    reading: dict[str, Any] = {"position": "last", "keep_rows": True}

    def whole() -> Measured:
        return measure(lm, unit.data.task, encoded, applied, prompt, fitting=MicroBatches(64, 1024), **reading)

    def sharded(n: int, runner: UnitShardRunner) -> Measured:
        passes = ShardedPasses(n, [runner], here)
        return passes.measure("discovery", applied, prompt, MicroBatches(64, 1024), **reading)

    def null(measured: Measured, columns: slice) -> Any:
        assert measured.rows is not None
        values = measured.values[:, columns]
        return permutation_null(measured.rows, values, measured.groups, form, n_permutations=PERMUTATIONS, seed=0)

    times: dict[str, list[float]] = {}
    moved: dict[str, int] = {}
    for _ in range(arguments.repeats):
        taken, single = seconds(whole)
        times.setdefault("the pass", []).append(taken)
        for n in (2, 4):
            taken, found = seconds(lambda n=n: sharded(n, here))
            times.setdefault(f"the pass, {n} shards", []).append(taken)
            np.testing.assert_allclose(found.accumulator.result(), single.accumulator.result(), atol=1e-12, rtol=0)
        for name, columns in (("one column", slice(0, 1)), ("all columns", slice(None))):
            taken, known = seconds(lambda columns=columns: null(single, columns))
            times.setdefault(f"null, {name}", []).append(taken)
            for way in ("rows", "sums"):
                far = Counted(config, registry, unit, lm)
                measured = sharded(2, far)
                moved["the pass, 2 shards"] = far.sent
                far.sent = 0
                assert isinstance(measured.rows, ShardedRows)
                measured.rows.bytes_as_rows = lambda way=way: 0 if way == "rows" else 1 << 60  # type: ignore[misc]
                label = f"null, {name}, 2 shards as {way}"
                taken, nulls = seconds(lambda measured=measured, columns=columns: null(measured, columns))
                times.setdefault(label, []).append(taken)
                moved[label] = far.sent
                assert [one.threshold for one in nulls] == [one.threshold for one in known]
    n_columns = single.values.shape[1]
    print(
        f"{arguments.model}, {arguments.task}: N = {len(encoded)}, M = {lm.n_neurons}, {n_columns} columns, B = {PERMUTATIONS}; "
        f"{lm.device}, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, numpy {np.__version__}; medians of {arguments.repeats}"
    )
    base = min(times["the pass"])
    for name, values in times.items():
        median, spread = statistics.median(values), f"{min(values):.3f} to {max(values):.3f}"
        sent = f"{moved[name] / 1e6:8.1f} MB" if name in moved else ""
        print(f"{name:34} {median:8.3f} s ({spread})   {min(values) / base:6.2f} of the pass {sent}")


if __name__ == "__main__":
    main()
