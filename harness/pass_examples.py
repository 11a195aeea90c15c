"""The held-out examples of a pass, as they are on disk: ids, groups, whether right, and each column's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ResultsError
from skillneurons.results import ResultsFolder, check_key

Doubles = npt.NDArray[np.float64]
TEXTS = ("id", "group")
ABOUT = ("id", "split", "group", "prompt", "target", "text", "correct")


@dataclass(frozen=True, eq=False)
class PassExamples:
    """``ids`` and ``groups`` of the held-out examples in their order, ``values`` (rows,) by column; ``correct`` is one."""

    path: Path
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Mapping[str, Doubles]


def examples_path(folder: ResultsFolder, key: str) -> Path:
    """Return where the examples of a pass stand."""
    return folder.fetched(folder.passes / check_key(key)) / "examples.parquet"


def read_heldout(path: Path) -> PassExamples:
    """Return the held-out examples of a pass; raise ResultsError, naming the file, where it is no such file."""
    import pyarrow as pa
    from pyarrow import parquet

    remedy = "delete its folder and its cell, and run again into this folder"
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        told = " ".join(str(error).split())
        raise ResultsError(f"{path}: cannot read these examples ({told}); {remedy}") from error
    missing = [name for name in ("split", "correct", *TEXTS) if name not in table.column_names]
    if missing:
        raise ResultsError(f"{path}: no column {missing[0]!r}, so these are no examples of a pass; {remedy}")
    try:
        table = table.filter(pa.compute.equal(table["split"], "heldout"))
        ids, groups = (tuple(map(str, table[name].to_pylist())) for name in TEXTS)
        names = ["correct", *(name for name in table.column_names if name not in ABOUT)]
        values = {name: _numbers(table[name]) for name in names}
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ResultsError(f"{path}: its columns do not hold what they should ({error}); {remedy}") from error
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ResultsError(f"{path}: the example {twice!r} is there twice, so examples cannot be paired; {remedy}")
    return PassExamples(path, ids, groups, values)


def _numbers(column: object) -> Doubles:
    """Return a column as float64, null as NaN."""
    return np.array([np.nan if one is None else one for one in column.to_pylist()], dtype=np.float64)  # type: ignore[attr-defined]
