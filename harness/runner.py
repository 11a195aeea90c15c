"""Run a benchmark: plan the cells, do what is missing, save each as it finishes, print the table.

Per unit (model, task, seed): tune a prompt or load the saved one, run one pass over discovery and
heldout for all metrics that are still missing, measure the untuned and the no-prompt baselines, write
the pass and then a cell per metric, first with its correlations and then with its causal part. A cell that fails is saved as failed with its reason and the
others go on; a finished cell is never run again.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.atomic import make_folder
from skillneurons.config import Config, load_config
from skillneurons.errors import ModelError, SkillNeuronsError
from skillneurons.finished_cell import failed_cell, ok_cell, run_record
from skillneurons.plan import PlannedCell, Unit, plan
from skillneurons.progress import Progress
from skillneurons.registry import Registry, load_registry
from skillneurons.results import Result, ResultsFolder
from skillneurons.run_context import RunContext

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.planting import Plant
    from skillneurons.unit import UnitResult


@dataclass(slots=True)
class RunOutcome:
    """What a run ended with: every cell asked for, how many failed, the table, and remarks."""

    results: list[Result] = field(default_factory=list)
    failed: int = 0
    table: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(config: Config | str | Path | None = None, **overrides: Any) -> list[Result]:
    """Run a config (an object, a YAML file, or the name of a built-in one) and return its results.

    ``overrides`` are keywords of ``load_config`` (models, tasks, metrics, seeds, limit, output ...).
    """
    loaded = config if isinstance(config, Config) else load_config(str(config) if config else None, **overrides)
    return run_config(loaded, load_registry(loaded.plugins), progress=False).results


def run_config(
    config: Config, registry: Registry, *, dry_run: bool = False, progress: bool = True, plant: Plant | None = None
) -> RunOutcome:
    """Run every cell of a config that is not finished, and compile the table of all cells of the folder.

    ``plant`` puts neurons of known truth into the tuned pass (selftest); such results belong into a folder of their own.
    """
    if dry_run:
        from skillneurons.dry_run import dry_run as what_it_would_do
        from skillneurons.dry_run import dry_run_text

        return RunOutcome(table=dry_run_text(what_it_would_do(config, registry)))
    folder = ResultsFolder(Path(config.output))
    units = plan(config, registry, folder)
    _refuse_hopeless(units)
    folder.prepare()
    with Progress(sum(len(unit.pending) for unit in units), enabled=progress) as display:
        context = RunContext(config, registry, folder, display, plant=plant)
        for model in dict.fromkeys(unit.model for unit in units):
            _run_model(context, [unit for unit in units if unit.model == model])
    found = [folder.read_cell(cell.key) for unit in units for cell in unit.cells]
    results = [result for result in found if result is not None]
    failed = sum(result.status == "failed" for result in results) + len(context.unfinished)
    table, problems = _compile(context)
    return RunOutcome(results, failed, table, problems, [*problems, *context.notes])


def _refuse_hopeless(units: Sequence[Unit]) -> None:
    """Raise the data's own error where no task of the run could be loaded."""
    errors = [unit.data.error for unit in units]
    if errors[0] is not None and all(error is not None for error in errors):
        raise errors[0]


def _run_model(context: RunContext, units: Sequence[Unit]) -> None:
    """Run all units of one model, which is loaded only if there is something to do."""
    pending = [unit for unit in units if unit.pending]
    lm: LanguageModel | None = None
    model_error: ModelError | None = None
    if any(unit.data.error is None for unit in pending):
        try:
            lm = _loaded(context, units[0].model)
        except ModelError as error:
            if len(context.config.models) == 1:
                raise
            model_error = error
    for unit in pending:
        _run_unit(context, unit, lm, unit.data.error or model_error)
    context.kept.clear()  # what seeds share is of this model
    if context.config.causal.enabled and context.config.causal.across and model_error is None:
        _run_across(context, units, lm)


def _run_across(context: RunContext, units: Sequence[Unit], lm: LanguageModel | None) -> None:
    """Measure what concerns several tasks of a model, seed by seed, where that was not done for these cells."""
    from skillneurons.across import across_key, is_measured, measure_across, sides_of, unfinished_cells

    for seed in dict.fromkeys(unit.seed for unit in units):
        own = [unit for unit in units if unit.seed == seed]
        open_cells = [key for unit in own for key in unfinished_cells(context, unit)]
        if open_cells:
            context.notes.append(
                f"across tasks, seed {seed}: not measured yet: the causal part of {len(open_cells)} cells is not finished "
                f"({', '.join(open_cells)}); the next run tries again"
            )
            continue
        sides, absent = sides_of(context, own)
        if len(sides) < 2:
            if len(own) > 1:
                told = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
                context.notes.append(f"across tasks, seed {seed}: not measured, it needs two tasks ({told})")
            continue
        key = across_key(context, sides)
        if is_measured(context.folder.across / f"{key}.json"):
            continue
        make_folder(context.folder.across)
        try:
            lm = lm or _loaded(context, units[0].model)
            measure_across(context, lm, sides, key, absent)
        except Exception as error:  # the cells are finished and saved; this part alone is missing
            told = str(error) if isinstance(error, SkillNeuronsError) else f"{type(error).__name__}: {error}"
            context.notes.append(f"across tasks, seed {seed}: not measured: {told}")


def _loaded(context: RunContext, model: str) -> LanguageModel:
    from skillneurons.loading import load_model

    context.display.say(f"loading {model}")
    settings = context.config.model.model_dump(exclude={"too_long"})
    lm = load_model(model, device=context.config.device, **settings)
    if lm.parity is not None:
        context.display.say(
            f"{model}: the cached path differs from the plain forward pass by {lm.parity.distribution:.1e} (total variation), "
            f"activations by {lm.parity.activations:.1e} of the largest"
        )
    return lm


def _run_unit(context: RunContext, unit: Unit, lm: LanguageModel | None, problem: Exception | None) -> None:
    """Run one unit and save its cells; whatever goes wrong is saved as the reason of failed cells."""
    started = time.time()
    left = {cell.key: cell for cell in unit.pending}
    if problem is None and lm is not None:
        from skillneurons.unit import causal_of_cell, measure_unit

        try:
            measured = measure_unit(context, unit, lm)
            for key, cell in list(left.items()):
                failure = measured.failures.get(cell.metric.name)
                if failure is None:
                    if context.config.causal.enabled and not _has_figures(
                        context, key
                    ):  # a run that is broken off keeps the correlations
                        early = ok_cell(context.config, unit, cell, lm, measured, {"pending": True, "columns": {}})
                        record = run_record(started, context.config, lm, None, measured.seconds, measured.batches)
                        context.folder.write_cell(early, record)
                    causal = causal_of_cell(context, unit, cell, measured)
                    result = ok_cell(context.config, unit, cell, lm, measured, causal)
                    _finish(context, result, started, lm, None, measured)
                else:
                    _fail(context, unit, cell, started, lm, failure)
                del left[key]
        except Exception as error:  # one unit never ends a run; its reason is saved in its cells and shown
            problem = error
    for cell in left.values():
        _fail(context, unit, cell, started, lm, problem)


def _has_figures(context: RunContext, key: str) -> bool:
    """Return whether a cell's correlations are saved already, from a run whose causal part did not come to its end."""
    known = context.folder.read_cell(key)
    return known is not None and known.status == "ok"


def _fail(
    context: RunContext,
    unit: Unit,
    cell: PlannedCell,
    started: float,
    lm: LanguageModel | None,
    problem: Exception | None,
) -> None:
    result = failed_cell(context.config, unit, cell, lm, problem)
    if _has_figures(context, cell.key):  # what is finished is never taken back
        told = (result.error or {})["message"]
        context.notes.append(f"{cell.key}: its causal part could not be finished: {told}; its correlations stand")
        context.unfinished.append(cell.key)
        context.display.advance_cell()
        return
    context.notes.append(f"failed: {result.key}: {(result.error or {})['message']}")
    _finish(context, result, started, lm, problem)


def _finish(
    context: RunContext,
    result: Result,
    started: float,
    lm: LanguageModel | None,
    problem: Exception | None = None,
    measured: UnitResult | None = None,
) -> None:
    """Save a cell with the record of this run, then tell the observers."""
    took = (measured.seconds, measured.batches) if measured else ()
    context.folder.write_cell(result, run_record(started, context.config, lm, problem, *took))
    context.notes.extend(context.registry.notify("cell_finished", result=result))
    context.display.advance_cell()


def _compile(context: RunContext) -> tuple[str, list[str]]:
    """Write the table of the whole folder; return it as text, and what is wrong in the folder."""
    boards = importlib.import_module("skillneurons.leaderboard.board")
    board = boards.build_board([context.folder.root])
    paths = boards.write_board(board, context.folder.root)
    context.notes.append("written: " + ", ".join(str(path) for path in paths))
    return str(boards.board_text(board)), list(board.problems)
