"""Finished cells as one tidy table for a notebook: ``sn.load_results("runs")``.

One row per cell and metric column. A cell that failed has a row for each column it should have had, with ``status``
``failed`` and the error as ``reason``. Text is pandas' ``string`` (missing: NA), counts are ``Int64`` (missing: NA),
figures float64 (missing: NaN). ``DTYPES`` names every column in its order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.errors import ResultsError, UserError
from skillneurons.results import DamagedCell, Result, canonical_json, open_folder

if TYPE_CHECKING:
    import pandas as pd

_IDENTITY = ("key", "model", "revision", "dtype", "task", "task_version", "metric", "metric_version", "column")
_READING = ("position", "site", "statistic")
_OF_COLUMN = ("mean", "sd", "top1_r", "top10_r", "top10_mean_r", "heldout_top10_r", "heldout_top10_r_low")
_MORE = ("heldout_top10_r_high", "baseline_top10_r", "untuned_top10_r", "partial_r", "null95_r")
_COUNTED = ("n_fwer", "n_fdr", "n_replicated", "n_permutations", "n_constant")
_CAUSAL = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")
DTYPES: Mapping[str, str] = {
    **dict.fromkeys(_IDENTITY, "string"),
    "seed": "Int64",
    **dict.fromkeys(("status", "reason", *_READING), "string"),
    **dict.fromkeys(("n_train", "n_validation", "n_discovery", "n_heldout", "n_neurons"), "Int64"),
    **dict.fromkeys(("accuracy_untuned", "accuracy_tuned", "accuracy_stderr", "chance"), "float64"),
    **dict.fromkeys((*_OF_COLUMN, *_MORE), "float64"),
    **dict.fromkeys(_COUNTED, "Int64"),
    "null_scheme": "string",
    **dict.fromkeys(_CAUSAL, "float64"),
    **dict.fromkeys(("causal_verdict", "prompt", "pass"), "string"),
}


def load_results(*folders: str | Path, damaged: str = "warn") -> pd.DataFrame:
    """Return every cell and column of one or more runs folders, sorted by key, columns in the metric's order.

    A damaged cell is named in a UserWarning and left out; with ``damaged="raise"`` it is a ResultsError. Raise
    ResultsError where a folder holds no results, or two folders hold the same key with different content.
    """
    import pandas as pd

    if damaged not in ("warn", "raise"):
        raise UserError(f"damaged={damaged!r}: use 'warn' or 'raise'")
    if not folders:
        raise UserError("load_results needs a runs folder, as in load_results('runs')")
    cells: dict[str, Result] = {}
    broken: list[str] = []
    for folder in folders:
        results = open_folder(folder)
        if not results.is_there:
            what = "it has no folder cells/" if results.root.is_dir() else "no such folder"
            place = results.place
            raise ResultsError(f"cannot read results from {place}: {what}; run `skillneurons run -o {place}` first")
        for path, loaded in results.iter_cells():
            if isinstance(loaded, DamagedCell):
                broken.append(f"{results.told(str(path))}: {loaded.reason}")
            elif canonical_json(cells.setdefault(loaded.key, loaded).to_json()) != canonical_json(loaded.to_json()):
                raise ResultsError(
                    f"{results.told(str(path))}: another folder holds this key with different content; keep one of them"
                )
    if broken:
        told = f"{len(broken)} damaged cell{'s' * (len(broken) > 1)} left out: {'; '.join(broken)}"
        if damaged == "raise":
            raise ResultsError(
                f"{told.replace(' left out', '')}; delete the file{'s' * (len(broken) > 1)} and run again"
            )
        warnings.warn(told, UserWarning, stacklevel=2)
    rows = [row for _, cell in sorted(cells.items()) for row in _rows(cell)]
    return pd.DataFrame(
        {name: pd.Series([_stored(row[name]) for row in rows], dtype=kind) for name, kind in DTYPES.items()}
    )


def _stored(value: Any) -> Any:
    """Return text without lone surrogates, which JSON can carry and pandas cannot."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _rows(cell: Result) -> Iterator[dict[str, Any]]:
    """Yield the rows of a cell."""
    about = {
        "key": cell.key,
        "model": cell.model["name"],
        "revision": cell.model["revision"],
        "dtype": cell.model.get("dtype"),
        "task": cell.task["name"],
        "task_version": cell.task["version"],
        "metric": cell.metric["name"],
        "metric_version": cell.metric["version"],
        "seed": cell.seed,
        **{name: cell.config["attribution"].get(name) for name in _READING},
        **{f"n_{split}": cell.n.get(split) for split in ("train", "validation")},
        "n_neurons": cell.n_neurons or None,
        **{f"accuracy_{name}": cell.accuracy.get(name) for name in ("untuned", "tuned", "stderr")},
        "chance": cell.task.get("chance"),
        "prompt": cell.prompt,
        "pass": cell.pass_,
    }
    names = list(dict.fromkeys([*cell.metric["columns"], *cell.columns]))
    for name in names or [None]:
        column = cell.columns.get(name, {}) if name is not None else {}
        tested = ((cell.causal or {}).get("columns") or {}).get(name) or {}
        failed = cell.status == "failed"
        absent = {"status": "failed", "reason": (cell.error or {}).get("message")}
        missing = {"status": "not_applicable", "reason": "the cell has no such column"}
        yield {
            **dict.fromkeys(DTYPES),
            **about,
            **{f"n_{split}": cell.n.get(split) for split in ("discovery", "heldout")},
            **{name: value for name, value in column.items() if name in DTYPES},
            **(absent if failed else {} if column else missing),
            "column": name,
            **{figure: tested.get(figure) for figure in _CAUSAL},
            "causal_verdict": tested.get("verdict"),
        }
