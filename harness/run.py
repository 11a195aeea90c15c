"""Run a benchmark: plan the cells, do what is missing, save each as it finishes, print the table.

Per unit (model, task, seed): tune a prompt or load the saved one, run one pass over discovery and
heldout for all metrics that are still missing, measure the untuned and the no-prompt baselines, write
the pass and then a cell per metric. A cell that fails is saved as failed with its reason and the
others go on; a finished cell is never run again.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.config import Config, load_config
from skillneurons.errors import ModelError, SkillNeuronsError
from skillneurons.plan import PlannedCell, Unit, plan, settings_of
from skillneurons.progress import Progress
from skillneurons.registry import Registry, load_registry
from skillneurons.results import Result, ResultsFolder

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel


@dataclass(slots=True)
class RunOutcome:
    """What a run ended with: every cell asked for, how many failed, the table, and remarks."""

    results: list[Result] = field(default_factory=list)
    failed: int = 0
    table: str = ""
    notes: list[str] = field(default_factory=list)


def run(config: Config | str | Path | None = None, **overrides: Any) -> list[Result]:
    """Run a config (an object, a YAML file, or the name of a built-in one) and return its results.

    ``overrides`` are keywords of ``load_config`` (models, tasks, metrics, seeds, limit, output ...).
    """
    loaded = config if isinstance(config, Config) else load_config(str(config) if config else None, **overrides)
    registry = load_registry(loaded.plugins)
    return run_config(loaded, registry, progress=False).results


def run_config(config: Config, registry: Registry, *, dry_run: bool = False, progress: bool = True) -> RunOutcome:
    """Run every cell of a config that is not finished, and compile the table of all cells of the folder."""
    folder = ResultsFolder(Path(config.output))
    units = plan(config, registry, folder)
    if dry_run:
        return RunOutcome(table=describe(units))
    folder.prepare()
    _refuse_hopeless(units)
    outcome = RunOutcome()
    with Progress(sum(len(unit.pending) for unit in units), enabled=progress) as display:
        for model in dict.fromkeys(unit.model for unit in units):
            _run_model(config, registry, folder, [u for u in units if u.model == model], outcome, display)
    for unit in units:
        for cell in unit.cells:
            found = folder.read_cell(cell.key)
            if found is not None:
                outcome.results.append(found)
    outcome.failed = sum(result.status == "failed" for result in outcome.results)
    outcome.table = _compile(folder, outcome)
    return outcome


def describe(units: Sequence[Unit]) -> str:
    """Return a line per cell: finished or to do, and its key."""
    lines = [
        f"{'done' if cell.done else 'new ':4}  {unit.model}  {unit.data.task.name}  {cell.metric.name}  seed {unit.seed}  {cell.key}"
        for unit in units
        for cell in unit.cells
    ]
    to_do = sum(len(unit.pending) for unit in units)
    return "\n".join([*lines, f"{to_do} of {len(lines)} cells to run"])


def _refuse_hopeless(units: Sequence[Unit]) -> None:
    """Raise the data's own error where no task of the run could be loaded."""
    errors = [unit.data.error for unit in units]
    if errors[0] is not None and all(error is not None for error in errors):
        raise errors[0]


def _run_model(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    units: Sequence[Unit],
    outcome: RunOutcome,
    display: Progress,
) -> None:
    pending = [unit for unit in units if unit.pending]
    if not pending:
        return
    lm: LanguageModel | None = None
    model_error: ModelError | None = None
    if any(unit.data.error is None for unit in pending):
        from skillneurons.model import load_model

        display.say(f"loading {units[0].model}")
        try:
            lm = load_model(units[0].model, device=config.device, **_model_settings(config))
        except ModelError as error:
            if len(config.models) == 1:
                raise
            model_error = error
    for unit in pending:
        started = time.time()
        problem: Exception | None = unit.data.error or model_error
        if problem is None and lm is not None:
            try:
                _run_unit(config, registry, folder, unit, lm, outcome, display, started)
                continue
            except Exception as error:  # a failed unit never ends the run; its reason is saved and shown
                problem = error
        for cell in unit.pending:
            found = folder.read_cell(cell.key)
            if found is None or found.status != "ok":
                _finish(registry, folder, outcome, _failed(config, unit, cell, lm, problem), started, config, lm, problem)
                display.advance_cell()


def _model_settings(config: Config) -> dict[str, Any]:
    settings = config.model.model_dump()
    settings.pop("too_long")
    return settings


def _run_unit(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    unit: Unit,
    lm: LanguageModel,
    outcome: RunOutcome,
    display: Progress,
    started: float,
) -> None:
    from skillneurons.unit import measure_unit

    measured = measure_unit(config, registry, folder, unit, lm, display)
    for cell in unit.pending:
        failure = measured.failures.get(cell.metric.name)
        result = (
            _failed(config, unit, cell, lm, failure)
            if failure is not None
            else Result(
                status="ok",
                accuracy=measured.accuracy,
                columns=measured.columns(cell.columns),
                pass_=measured.pass_key,
                **_identity(config, unit, cell, lm),
            )
        )
        _finish(registry, folder, outcome, result, started, config, lm, failure)
        display.advance_cell()


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
        },
        "task": {
            "name": task.name,
            "version": task.version,
            "kind": task.kind,
            "source_hash": unit.data.source_hash,
            "data_hash": unit.data.hash,
            "options": dict(unit.data.options),
            "chance": task.chance,
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


def _failed(
    config: Config, unit: Unit, cell: PlannedCell, lm: LanguageModel | None, error: Exception | None
) -> Result:
    return Result(
        status="failed",
        accuracy={"untuned": None, "tuned": None, "stderr": None},
        columns={},
        pass_=None,
        error={"type": type(error).__name__, "message": " ".join(str(error).split())},
        **_identity(config, unit, cell, lm),
    )


def _finish(
    registry: Registry,
    folder: ResultsFolder,
    outcome: RunOutcome,
    result: Result,
    started: float,
    config: Config,
    lm: LanguageModel | None,
    error: Exception | None,
) -> None:
    """Save a cell with the record of this run, then tell the observers."""
    folder.write_cell(result, run_record(started, config, lm, error))
    if result.status == "failed" and result.error:
        outcome.notes.append(f"failed: {result.key}: {result.error['message']}")
    outcome.notes += registry.notify("cell_finished", result=result)


def run_record(started: float, config: Config, lm: LanguageModel | None, error: Exception | None) -> Mapping[str, Any]:
    """Return what varies between runs of the same cell: time, machine, versions, batch size."""
    import platform
    from importlib import metadata

    packages = ("skillneurons", "torch", "transformers", "tokenizers", "numpy", "safetensors")
    record: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "batch_size": config.attribution.batch_size,
        "device": str(lm.device) if lm else config.device,
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
    }
    if lm is not None:
        import torch

        record["threads"] = torch.get_num_threads()
    if error is not None and not isinstance(error, SkillNeuronsError):
        record["traceback"] = "".join(traceback.format_exception(error))
    return record


def _compile(folder: ResultsFolder, outcome: RunOutcome) -> str:
    """Write the table of the whole folder and return it as text."""
    import importlib

    board_module = importlib.import_module("skillneurons.leaderboard.board")
    board = board_module.build_board([folder.root])
    paths = board_module.write_board(board, folder.root)
    outcome.notes += board.problems
    outcome.notes.append("written: " + ", ".join(str(path) for path in paths))
    return str(board_module.board_text(board))
