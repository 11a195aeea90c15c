"""A finished cell from what was planned and measured, and the record of the run that made it."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from skillneurons.config import Config
from skillneurons.errors import SkillNeuronsError
from skillneurons.plan import PlannedCell, Unit, settings_of
from skillneurons.plugin_calls import PluginCallError, kind_of
from skillneurons.results import Result
from skillneurons.types import Score

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel

PACKAGES = ("skillneurons", "torch", "transformers", "tokenizers", "numpy", "safetensors")


class Measurement(Protocol):
    """What a unit's work gives to its cells."""

    @property
    def accuracy(self) -> Mapping[str, float | None]: ...

    @property
    def scores(self) -> Sequence[Score]: ...

    @property
    def truncated(self) -> Mapping[str, int]: ...

    def columns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]: ...


def ok_cell(
    config: Config,
    unit: Unit,
    cell: PlannedCell,
    lm: LanguageModel,
    measured: Measurement,
    causal: Mapping[str, Any] | None = None,
) -> Result:
    """Return the cell of a metric that was measured, with its causal part where there is one."""
    return Result(
        status="ok",
        accuracy=measured.accuracy,
        columns=measured.columns(cell.columns),
        pass_=cell.key,
        scores=[asdict(score) for score in measured.scores],
        truncated=measured.truncated,
        causal=causal,
        **_identity(config, unit, cell, lm),
    )


def failed_cell(
    config: Config, unit: Unit, cell: PlannedCell, lm: LanguageModel | None, problem: BaseException | None, told: str
) -> Result:
    """Return the cell of a metric that could not be measured, with the reason as it is told."""
    return Result(
        status="failed",
        accuracy={"untuned": None, "tuned": None, "stderr": None},
        columns={},
        pass_=None,
        error={"type": kind_of(problem), "message": told},
        **_identity(config, unit, cell, lm),
    )


def _identity(config: Config, unit: Unit, cell: PlannedCell, lm: LanguageModel | None) -> dict[str, Any]:
    """Return the fields of a cell that say what it is."""
    task = unit.data.task
    return {
        "key": cell.key,
        "model": {
            "name": unit.model,
            "revision": unit.revision,
            "dtype": config.model.dtype,
            "architecture": lm.architecture if lm else None,
            "quantization": config.model.quantization,
            "parity": asdict(lm.parity) if lm and lm.parity else None,
        },
        "task": {
            "name": task.name,
            "version": task.version,
            "kind": task.kind,
            "source_hash": unit.data.source_hash,
            "data_hash": unit.data.hash,
            "options": dict(unit.data.options),
            "chance": task.chance,
            "form": task.form,
            "source": task.source,
            "licence": task.licence,
            "tuned_on": unit.data.tuned_on,
            "grader": unit.data.grader,
        },
        "metric": {
            "name": cell.metric.name,
            "version": cell.metric.version,
            "source_hash": cell.source_hash,
            "columns": list(cell.columns),
        },
        "seed": unit.seed,
        "prompt": unit.prompt_key,
        "config": settings_of(config),
        "n": unit.data.counts,
        "n_neurons": lm.n_neurons if lm else 0,
    }


def run_record(
    started: float,
    config: Config,
    lm: LanguageModel | None,
    problem: BaseException | None,
    seconds: Mapping[str, float] | None = None,
    batches: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return what varies between runs of the same cell: time, machine, versions, batch size, and how it was asked for.

    ``batch_size`` says how many examples ran at once in the end, ``seconds_of`` what the unit's tuning took (0
    where its prompt was saved), its pass, and the null and intervals of all its columns.
    """
    record: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "batch_size": dict(batches) if batches else config.attribution.batch_size,
        "device": ", ".join(lm.devices) if lm else config.device,
        "host": platform.node(),
        "limit": config.limit,
        "plugins": list(config.plugins),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    if seconds:
        record["seconds_of"] = dict(seconds)
    if lm is not None:
        import torch

        record["threads"] = torch.get_num_threads()
        if lm.split is not None:
            record["ranks"] = lm.split.ranks
    if problem is not None and (isinstance(problem, PluginCallError) or not isinstance(problem, SkillNeuronsError)):
        record["traceback"] = "".join(traceback.format_exception(problem))
    return record
