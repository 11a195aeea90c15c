"""Run one unit and save its cells, each as it is finished; whatever goes wrong is the reason of failed cells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from skillneurons.errors import SkillNeuronsError, StorageError
from skillneurons.finished_cell import failed_cell, ok_cell, run_record
from skillneurons.plan import PlannedCell, Unit
from skillneurons.ranks import agree
from skillneurons.results import Result, is_finished
from skillneurons.run_context import RunContext

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.unit import UnitResult


def run_unit(context: RunContext, unit: Unit, lm: LanguageModel | None, problem: BaseException | None) -> None:
    """Run one unit and save its cells; raise StorageError where nothing can be saved, which ends the run.

    Where the context says that it is tried again, an error by no rule of ours is raised and saved nowhere.
    """
    started = time.time()
    left = {cell.key: cell for cell in unit.pending}
    agree("what is to be done next", " ".join(left))
    if problem is None and lm is not None:
        from skillneurons.unit import measure_unit
        from skillneurons.unit_causal import causal_of_cell

        try:
            measured = measure_unit(context, unit, lm)
            for key, cell in list(left.items()):
                failure = measured.failures.get(cell.metric.name)
                if failure is None:
                    _save_correlations(context, unit, cell, started, lm, measured)
                    causal = causal_of_cell(context, unit, cell, measured)
                    result = ok_cell(context.config, unit, cell, lm, measured, causal)
                    _finish(context, result, started, lm, None, measured)
                else:
                    _fail(context, unit, cell, started, lm, failure)
                del left[key]
        except StorageError:
            raise
        except (
            Exception,
            SystemExit,
        ) as error:  # one unit never ends a run; its reason is saved in its cells and shown
            if context.tried_again and not isinstance(error, SkillNeuronsError):
                raise
            problem = error
    for cell in left.values():
        _fail(context, unit, cell, started, lm, problem)


def _save_correlations(
    context: RunContext, unit: Unit, cell: PlannedCell, started: float, lm: LanguageModel, measured: UnitResult
) -> None:
    """Save a cell before its causal part, so that a run that is broken off keeps its correlations."""
    if not context.config.causal.enabled:
        return
    early = ok_cell(context.config, unit, cell, lm, measured, {"pending": True, "columns": {}})
    record = run_record(started, context.config, lm, None, measured.seconds, measured.batches)
    with context.interruption.deferred():
        if context.locks.holds(cell.key) and not _has_figures(context, cell.key):
            context.folder.write_cell(early, record)


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
    problem: BaseException | None,
) -> None:
    told = " ".join(context.registry.told(problem, f"cell {cell.key}").split()) if problem is not None else "None"
    result = failed_cell(context.config, unit, cell, lm, problem, told)
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
    problem: BaseException | None = None,
    measured: UnitResult | None = None,
) -> None:
    """Save a cell with the record of this run, give its lock back, then tell the observers.

    Where this process slept so long that another took the cell over and finished it, that one stands.
    """
    took = (measured.seconds, measured.batches) if measured else ()
    record = run_record(started, context.config, lm, problem, *took)
    with context.interruption.deferred():
        if context.locks.holds(result.key) or not is_finished(context.folder.read_cell(result.key)):
            context.folder.write_cell(result, record)
        else:
            context.notes.append(f"{result.key}: another runner took it over and finished it")
        context.locks.release([result.key])
        context.tell_finished(result)
        context.display.advance_cell()
