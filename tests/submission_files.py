"""A small honest results folder, and hands that alter one."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from safetensors.numpy import load_file, save_file
from skillneurons.config import load_config
from skillneurons.registry import load_registry
from skillneurons.runner import run_config

SETTINGS = (
    "data.train=48",
    "data.validation=24",
    "data.discovery=60",
    "data.heldout=40",
    "prompt.steps=6",
    "prompt.eval_every=3",
    "prompt.num_virtual_tokens=4",
    "attribution.permutations=40",
    "attribution.bootstrap=60",
    "causal.examples=24",
    "causal.k=[10]",
    "causal.random_sets=4",
    "causal.cards=1",
    "causal.steering=[]",
    "causal.across=false",
)


def make_honest(folder: Path) -> Path:
    """Run the embedded small model on one task, two metrics and two seeds; return the folder without its board."""
    import torch

    torch.set_num_threads(1)  # as in the tests, so that bytes are the same
    config = load_config(
        None,
        SETTINGS,
        models=["pocket-small"],
        tasks=["arithmetic"],
        metrics=["confidence", "labels"],
        seeds=[0, 1],
        device="cpu",
        output=str(folder),
    )
    outcome = run_config(config, load_registry(), progress=False)
    assert not outcome.failed
    return folder


class Hands:
    """Alter a copy of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, metric: str, seed: int) -> str:
        """Return the key of a cell."""
        (found,) = (
            path.stem
            for path in (self.root / "cells").glob(f"arithmetic-{metric}-s{seed}-*.json")
            if not path.name.endswith(".run.json")
        )
        return found

    def cell(self, metric: str = "confidence", seed: int = 0) -> Path:
        """Return the file of a cell."""
        return self.root / "cells" / f"{self.key(metric, seed)}.json"

    def place(self, metric: str = "confidence", seed: int = 0) -> Path:
        """Return the folder of a cell's pass."""
        return self.root / "passes" / self.key(metric, seed)

    def prompt(self, seed: int = 0) -> Path:
        """Return the folder of a prompt."""
        (found,) = (self.root / "prompts").glob(f"arithmetic-s{seed}-*")
        return found

    def edit(self, change: Callable[[dict[str, Any]], object], metric: str = "confidence", seed: int = 0) -> None:
        """Change the content of a cell."""
        edit_json(self.cell(metric, seed), change)

    def tensors(self, path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the arrays of a file."""
        arrays = {name: np.array(one) for name, one in load_file(path).items()}
        change(arrays)
        save_file(arrays, path)

    def table(
        self, change: Callable[[dict[str, list[Any]]], object], metric: str = "confidence", seed: int = 0
    ) -> None:
        """Change the columns of a cell's examples."""
        path = self.place(metric, seed) / "examples.parquet"
        columns = parquet.read_table(path).to_pydict()
        change(columns)
        sink = io.BytesIO()
        parquet.write_table(pa.table(columns), sink, compression="zstd")
        path.write_bytes(sink.getvalue())

    def remove(self, metric: str, seed: int) -> None:
        """Remove a cell with all that stands beside it."""
        key = self.key(metric, seed)
        for place in (f"cells/{key}.json", f"cells/{key}.run.json", f"cards/{key}.json"):
            (self.root / place).unlink()
        shutil.rmtree(self.root / "passes" / key)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a JSON file, written as a run writes it."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, sort_keys=True, indent=2) + "\n")
