"""What stands beside a cell, read once: scores, held-out scores, kept activations, the table of examples, the history of its prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.file_faults import read_mapping, read_table, read_tensors
from skillneurons.results import Result
from skillneurons.run_files import KEY, RunFiles

if TYPE_CHECKING:
    import numpy.typing as npt

SPLITS = ("discovery", "heldout")
Arrays = Mapping[str, "npt.NDArray[Any]"]


@dataclass(frozen=True, eq=False)
class KeptPass:
    """The files of one cell; what is not there is empty."""

    cell: Result
    path: str
    place: str
    scores: Arrays = field(default_factory=dict)
    heldout: Arrays = field(default_factory=dict)
    kept: Arrays = field(default_factory=dict)
    table: Mapping[str, list[Any]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, split: str) -> list[int]:
        """Return the rows of a split in their order."""
        return [i for i, one in enumerate(self.table.get("split", ())) if one == split]

    def of(self, name: str, split: str) -> list[Any]:
        """Return a column of the table on a split."""
        return [self.table[name][i] for i in self.rows(split)]

    def values(self, column: str, split: str) -> npt.NDArray[Any]:
        """Return a metric's column on a split, NaN where it is not scored."""
        import numpy as np

        return np.array([np.nan if one is None else one for one in self.of(column, split)], dtype=np.float64)


def read_kept(files: RunFiles, cell: Result) -> KeptPass:
    """Return the files of a cell whose forms were found to be right."""
    path, place = f"cells/{cell.key}.json", f"passes/{cell.key}"
    record: Mapping[str, Any] = {}
    if f"{cell.key}.run.json" in files.sections.get("cells", {}):
        record, _ = read_mapping(files.root / "cells" / f"{cell.key}.run.json")
    if cell.pass_ != cell.key or cell.key not in files.sections.get("passes", {}):
        return KeptPass(cell, path, place, record=record)
    folder = files.root / place
    arrays = {
        name: read_tensors(folder / f"{name}.safetensors", deep=True).arrays if (folder / f"{name}.safetensors").is_file() else {}
        for name in ("scores", "heldout", "neurons")
    }  # fmt: skip
    table = read_table(folder / "examples.parquet", deep=True).values
    return KeptPass(cell, path, place, arrays["scores"], arrays["heldout"], arrays["neurons"], table, record)


def history_of(root: Path, prompt: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the history of a prompt by its key, nothing where it is not there."""
    if prompt is None or not KEY.fullmatch(prompt):
        return ()
    place = root / "prompts" / prompt / "history.json"
    return json.loads(place.read_bytes()) if place.is_file() else ()
