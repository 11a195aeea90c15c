"""Plausibility: what no honest cell holds, whatever it measured, and what a folder as a whole may not be silent about.

Of a cell: |r| at most 1, accuracies and shares in [0, 1], p-values on the grid (k + 1) / (B + 1), an interval that contains its estimate's
place, counts no larger than what they count, a null above what one neuron reaches by chance, dates of this century up to tomorrow. Of a
folder: a seed that some metrics or tasks of a config have and others have not; the same scores under two models or seeds.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from skillneurons.cell_columns import DECIMALS
from skillneurons.file_faults import told
from skillneurons.finding import PLAUSIBILITY, Ledger
from skillneurons.kept_pass import KeptPass
from skillneurons.results import Result, canonical_json

_EFFECTS = ("top1_r", "top10_r", "top10_mean_r", "heldout_top10_r", "heldout_top10_r_low", "heldout_top10_r_high")
_MORE = ("baseline_top10_r", "untuned_top10_r", "partial_r", "null95_r")
_OF_NEURON = ("r", "r_heldout", "ci_low", "ci_high", "partial_r")
_CORRELATIONS = ("pearson", "spearman")
_ONE = 1 + 1e-6
_MANY = 100  # neurons; of fewer the largest by chance may be small
_DAY = 86_400
_STARTED = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z")


def check_plausible(kept: KeptPass, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
    """Check one cell and the record of its run."""
    cell = kept.cell
    for what in [
        *_of_cell(cell),
        *(line for name, one in cell.columns.items() for line in _of_column(cell, name, one)),
    ]:
        ledger.say(PLAUSIBILITY, kept.path, what, "no run gives such a figure", [cell.key])
    for what in _of_record(kept.record, clock):
        ledger.say(PLAUSIBILITY, f"cells/{cell.key}.run.json", what, "no run writes such a record", [cell.key])


def _of_cell(cell: Result) -> Iterator[str]:
    for name, value in cell.accuracy.items():
        most = 1.0 if name != "stderr" else 0.5 + 1e-9
        if value is not None and not 0 <= value <= most:
            yield f"accuracy.{name} is {value}, not within 0 and {most:g}"
    causal = cell.causal or {}
    if causal.get("accuracy") is not None and not 0 <= causal["accuracy"] <= 1:
        yield f"causal.accuracy is {causal['accuracy']}, not within 0 and 1"
    if cell.status == "ok" and not cell.columns and cell.metric["columns"]:
        yield "its status is ok, and it has no column"


def _of_column(cell: Result, name: str, one: Mapping[str, Any]) -> Iterator[str]:
    place = f"columns.{told(name)}"
    for figure in (*_EFFECTS, *_MORE):
        if _is_beyond(cell, one.get(figure)):
            yield f"{place}.{figure} is {one[figure]}, beyond 1"
    for i, row in enumerate(one.get("top") or []):
        yield from _of_neuron(cell, f"{place}.top[{i}]", row, one.get("n_permutations"))
    low, high = one.get("heldout_top10_r_low"), one.get("heldout_top10_r_high")
    if low is not None and high is not None and low > high:
        yield f"{place} has an interval from {low} to {high}"
    counts = {"n_fwer": cell.n_neurons, "n_fdr": cell.n_neurons, "n_replicated": one.get("n_fwer")}
    counts |= {f"n_{split}": cell.n.get(split, 0) for split in ("discovery", "heldout")}
    for figure, most in counts.items():
        if one.get(figure) is not None and most is not None and one[figure] > most:
            yield f"{place}.{figure} is {one[figure]}, of {most} at most"
    yield from _null_by_chance(cell, place, one)


def _of_neuron(cell: Result, place: str, row: Mapping[str, Any], permutations: int | None) -> Iterator[str]:
    for figure in _OF_NEURON:
        if _is_beyond(cell, row.get(figure)):
            yield f"{place}.{figure} is {row[figure]}, beyond 1"
    low, high, p = row.get("ci_low"), row.get("ci_high"), row.get("p_adjusted")
    if low is not None and high is not None and low > high:
        yield f"{place} has an interval from {low} to {high}"
    if p is not None and permutations:
        nearest = min(max(round(p * (permutations + 1)), 1), permutations + 1) / (permutations + 1)
        if abs(p - nearest) > 10**-DECIMALS:
            yield f"{place}.p_adjusted is {p}, not (k + 1) / {permutations + 1}"


def _null_by_chance(cell: Result, place: str, one: Mapping[str, Any]) -> Iterator[str]:
    """Yield a threshold below what a single neuron of no relation reaches once in twenty times, 1.96 / sqrt(n), less a fifth."""
    threshold, n = one.get("null95_r"), one.get("n_discovery") or 0
    if threshold is None or one.get("null_scheme") != "rows" or cell.n_neurons < _MANY or n < 10:
        return
    if cell.config["attribution"]["statistic"] not in _CORRELATIONS:
        return
    least = 0.8 * 1.96 / math.sqrt(n)
    if threshold < least:
        yield (
            f"{place}.null95_r is {threshold:.6f}: one neuron of no relation reaches {least:.6f} in {n} examples by chance, and this "
            f"is the largest of {cell.n_neurons}"
        )


def _is_beyond(cell: Result, value: float | None) -> bool:
    """Whether a correlation is larger than one."""
    return value is not None and abs(value) > _ONE and cell.config["attribution"]["statistic"] in _CORRELATIONS


def _of_record(record: Mapping[str, Any], clock: Callable[[], float]) -> Iterator[str]:
    started = record.get("started")
    if started is not None:
        found = _STARTED.fullmatch(str(started))
        try:
            seconds = time.mktime(time.strptime(str(started), "%Y-%m-%dT%H:%M:%SZ")) if found else None
        except (ValueError, OverflowError):
            seconds = None
        if found is None or seconds is None:
            yield f"started is {told(repr(started))}, no time"
        elif int(found[1]) < 2020 or seconds > clock() + 2 * _DAY:
            yield f"started is {told(started)}, before there was this package, or after today"
    seconds = record.get("seconds")
    if isinstance(seconds, int | float) and seconds < 0:
        yield f"seconds is {seconds}"


def check_seeds(cells: Mapping[str, Result], ledger: Ledger) -> None:
    """Find seeds that a config's cells have for some tasks and metrics and not for others."""
    groups: dict[str, list[Result]] = {}
    for cell in cells.values():
        about = [cell.model["name"], cell.model["revision"], cell.config]
        groups.setdefault(canonical_json(about), []).append(cell)
    for those in groups.values():
        seeds = {cell.seed for cell in those}
        by_metric: dict[tuple[str, str, str], list[Result]] = {}
        for cell in those:
            options = canonical_json(cell.task.get("options"))
            by_metric.setdefault((cell.task["name"], options, cell.metric["name"]), []).append(cell)
        for (task, _, metric), own in sorted(by_metric.items()):
            missing = sorted(seeds - {cell.seed for cell in own})
            if missing:
                what = (
                    f"{told(cell_names(own))}: no cell of {told(metric)} on {told(task)} with seed {_listed(missing)}"
                )
                also = f"other cells of {told(own[0].model['name'])} with the same settings have seeds {_listed(sorted(seeds))}"
                meaning = "a seed was left out, so the mean over seeds is not that of the run"
                ledger.say(PLAUSIBILITY, "cells", f"{what}; {also}", meaning, [cell.key for cell in own])


def cell_names(cells: Sequence[Result]) -> str:
    """Return the first cells by name."""
    names = sorted(cell.key for cell in cells)
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


class Copies:
    """Finds the same scores under another model or seed, and the same prompt under another seed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Result, str]] = {}

    def look(self, kept: KeptPass, prompt: bytes, ledger: Ledger) -> None:
        """Compare a cell's scores and prompt (its embeddings' bytes) with those seen before."""
        import numpy as np

        cell = kept.cell
        if cell.prompt is None:
            return  # without a prompt a seed changes nothing
        settings = cell.config.get("prompt") or {}
        fixed = settings.get("prompt_tuning_init") == "TEXT"  # every seed begins at the same prompt, and may end there
        found = (
            [("prompt", "the prompt's embeddings", hashlib.sha256(prompt).hexdigest())] if prompt and not fixed else []
        )
        for name, scores in kept.scores.items():
            if not np.isnan(scores).all() and not (fixed and prompt):
                found.append(
                    (f"scores.{name}", f"the scores of {told(name)}", hashlib.sha256(scores.tobytes()).hexdigest())
                )
        for kind, what, digest in found:
            other, path = self._known.setdefault((kind, digest), (cell, kept.path))
            apart = [
                f"{name} {told(mine)} and {told(theirs)}"
                for name, mine, theirs in (
                    ("model", _model(cell), _model(other)),
                    ("seed", cell.seed, other.seed),
                )
                if mine != theirs
            ]
            if apart:
                said = f"{what} are, byte for byte, those of {path}, which has {' and '.join(apart)}"
                meaning = "one of the two was copied from the other"
                ledger.say(PLAUSIBILITY, kept.path, said, meaning, [cell.key, other.key])


def _model(cell: Result) -> str:
    return f"{cell.model['name']} ({cell.model['revision']})"
