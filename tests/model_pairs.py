"""Runs folders of several models with known figures: cells and passes written by hand, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skillneurons.comparison import Comparison
from skillneurons.leaderboard.differences import Difference
from skillneurons.results import Result, ResultsFolder

RNG = np.random.default_rng(0)
DRAWS = RNG.normal(0.0, 0.01, 200)
N = 20
RIGHT = {
    ("a", 0): [1] * 15 + [0] * 5,
    ("a", 1): [1] * 17 + [0] * 3,
    ("b", 0): [0] * 12 + [1] * 8,
    ("b", 1): [1, 0] * 10,
}
SURE = {place: RNG.uniform(size=N) for place in RIGHT}
GROUPS = [f"g{i // 2}" for i in range(N)]


def column(value: float | None = 0.5, resamples: Sequence[float] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a column with this held-out r and these resamples (in r)."""
    text = None if resamples is None else " ".join("x" if np.isnan(r) else str(round(r / 1e-4)) for r in resamples)
    return {
        "status": "ok",
        "reason": "",
        "n_discovery": 30,
        "n_heldout": 20,
        "heldout_top10_r": value,
        "resamples": text,
        "resampled_groups": "g" if text else None,
        "top": [],
        **changes,
    }


def cell(name: str = "a", /, *, seed: int = 0, columns: Mapping[str, Any] | None = None, **changes: Any) -> Result:
    """Return a cell of the task ``sums`` and the metric ``sure``; ``task``, ``metric``, ``config`` ... change it."""
    columns = {"sure": column()} if columns is None else columns
    content: dict[str, Any] = {
        "key": f"sums-sure-s{seed}-{name}",
        "status": "ok",
        "model": {"name": name, "revision": "r1", "dtype": "float32"},
        "task": {"name": "sums", "version": "1", "source_hash": "s", "data_hash": "d"},
        "metric": {"name": "sure", "version": "1", "source_hash": "m", "columns": list(columns)},
        "seed": seed,
        "prompt": "p",
        "config": {
            "prompt": {"steps": 3},
            "attribution": {"position": "last", "site": "product", "statistic": "pearson", "bootstrap": 5, "seed": 0},
            "model": {"dtype": "float32"},
            "causal": {"enabled": name == "a"},
        },
        "n": {"train": 40, "validation": 10, "discovery": 30, "heldout": 20},
        "n_neurons": 64,
        "accuracy": {"untuned": 0.5, "tuned": 0.75, "stderr": 0.03},
        "columns": columns,
        **changes,
    }
    content.setdefault("pass_", content["key"])
    return Result(**content)


def save(folder: Path, cells: Sequence[Result]) -> Path:
    """Write cells into a runs folder and return it."""
    results = ResultsFolder(folder)
    results.prepare()
    for one in cells:
        results.write_cell(one, {})
    return folder


def save_pass(
    folder: Path,
    one: Result,
    correct: Sequence[float],
    values: Mapping[str, Sequence[float]],
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Path:
    """Write the held-out examples of a cell, and one of discovery that does not count."""
    import pyarrow as pa
    from pyarrow import parquet

    n = len(correct)
    ids = [f"e{i}" for i in range(n)] if ids is None else list(ids)
    groups = ids if groups is None else list(groups)
    table = {
        "id": ["first", *ids],
        "split": ["discovery", *["heldout"] * n],
        "group": ["first", *groups],
        "correct": [1.0, *map(float, correct)],
        **{name: [0.0, *map(float, numbers)] for name, numbers in values.items()},
    }
    path = folder / "passes" / str(one.pass_) / "examples.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(table), path)
    return path


def folder(root: Path, **changes: object) -> Path:
    """Two models, two seeds: accuracies, a column that depends on the model and one that does not."""
    for (name, seed), right in RIGHT.items():
        columns = {
            "sure": column(0.6 if name == "a" else 0.5, (0.6 if name == "a" else 0.5) + DRAWS),
            "length": column(0.3, 0.3 + DRAWS),
        }
        one = cell(name, seed=seed, columns=columns, **changes)
        save(root, [one])
        save_pass(root, one, right, {"sure": SURE[name, seed], "length": np.arange(N)}, GROUPS)
    return root


def figure(found: Comparison, name: str, column: str = "") -> Difference:
    (row,) = [row for row in found.pairs[0].of(name) if row.column == column]
    return row.difference
