"""Run a benchmark: plan the cells, do what is missing, save each as it finishes, print the table.

Per unit (model, task, seed): tune a prompt or load the saved one, run one pass over discovery and
heldout for all metrics that are still missing, measure the untuned and the no-prompt baselines, write
the pass and then a cell per metric, first with its correlations and then with its causal part. A cell that fails is saved as failed with its reason and the
others go on; a finished cell is never run again. Several runners may share a folder (``turns``), and a run that is stopped or killed
is continued by the same command.
"""

from __future__ import annotations

import importlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.config import Config, load_config
from skillneurons.errors import ClusterError, LockstepError, StorageError
from skillneurons.executor import executor_of
from skillneurons.interruption import Interrupted, Interruption
from skillneurons.locks import ALONE, RUNNER, Locks, of_others
from skillneurons.plan import Unit, plan
from skillneurons.progress import Progress
from skillneurons.ranks import follows
from skillneurons.registry import Registry, load_registry
from skillneurons.results import BOARD_INDEX, Result, ResultsFolder, is_finished, open_folder
from skillneurons.run_context import RunContext
from skillneurons.store_locks import shelf_of
from skillneurons.turns import POLL

MANY = 500  # cells of a run; fewer are read again in no time

if TYPE_CHECKING:
    from skillneurons.planting import Plant


@dataclass(slots=True)
class RunOutcome:
    """What a run ended with: the cells asked for, how many failed, the table, and remarks."""

    folder: ResultsFolder
    keys: Sequence[str] = ()
    failed: int = 0
    table: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """Every cell asked for that is there, finished or failed, read from its file."""
        return [result for result in self.folder.read_cells(self.keys) if result is not None]


def run(config: Config | str | Path | None = None, **overrides: Any) -> list[Result]:
    """Run a config (an object, a YAML file, or the name of a built-in one) and return its results.

    ``overrides`` are keywords of ``load_config`` (models, tasks, metrics, seeds, limit, output ...).
    """
    loaded = config if isinstance(config, Config) else load_config(str(config) if config else None, **overrides)
    return run_config(loaded, load_registry(loaded.plugins), progress=False).results


def run_config(config: Config, registry: Registry, *, progress: bool = True, plant: Plant | None = None) -> RunOutcome:
    """Run every cell of a config that is not finished, and compile the table of all cells of the folder.

    ``plant`` puts neurons of known truth into the tuned pass (selftest); such results belong into a folder of their own. Raise
    Interrupted where it is stopped by a signal, StorageError where nothing can be written, ClusterError where the cluster it
    was to run on fails it: what is finished is saved. With ``model.tp_plan`` this process is one of several that run the same (``lockstep``).
    """
    if config.model.tp_plan is None:
        return _run_config(config, registry, progress, plant)
    from skillneurons.lockstep import in_lockstep

    with in_lockstep(config.output) as output:
        own = config.model_copy(update={"output": str(output)})
        return _run_config(own, registry, progress and not follows(), plant)


def _run_config(config: Config, registry: Registry, progress: bool, plant: Plant | None) -> RunOutcome:
    folder = open_folder(config.output)
    interruption = Interruption()
    units: list[Unit] = []
    try:
        with interruption:
            return _run(config, registry, folder, interruption, units, progress, plant)
    except (StorageError, ClusterError) as error:
        if not units:
            raise
        kind = next(one for one in (ClusterError, LockstepError, StorageError) if isinstance(error, one))
        standing = _standing(folder.as_known(), units)
        raise kind(f"{folder.told(str(error))}; {standing}, the same command goes on from there") from error
    except KeyboardInterrupt as stopped:
        raise Interrupted(_standing(folder, units), interruption.signum or signal.SIGINT) from stopped


def _run(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    interruption: Interruption,
    units: list[Unit],
    progress: bool,
    plant: Plant | None,
) -> RunOutcome:
    """Plan ``units`` (filled here), have what is open executed, compile the table."""
    notes: list[str] = []
    executor = executor_of(config)
    with Locks(shelf_of(folder)) as locks:
        if folder.mirror is not None or folder.is_there:  # what is there must not be mended while it is looked at
            _announce(locks, notes, Progress(0, enabled=progress).say)
        index = _board_module("index").Index(folder.fetched(folder.root / BOARD_INDEX), folder.place)
        listed = folder.cells_listed()
        known: dict[str, bool] = _board_module("found_cells").finished_cells(folder, index, listed)
        planned = plan(config, registry, folder.as_it_is(known, listed), known)
        _refuse_hopeless(planned)
        folder.prepare()
        units += planned
        _announce(locks, notes, Progress(0, enabled=progress).say)
        keys = [cell.key for unit in units for cell in unit.cells]
        open_cells = [cell.key for unit in units for cell in unit.pending]
        stamps = folder.stamps(open_cells)
        display = Progress(len(open_cells), enabled=progress)
        interruption.say = display.say
        context = RunContext(
            config, registry, folder, display, locks, interruption, notes, plant=plant, planned=stamps, known=known
        )
        with display:
            executor.execute(context, units)
            alone = config.model.tp_plan is not None and follows()  # whose folder is thrown away
            table, problems = ("", []) if alone else _compile(context, index, len(keys))
    tried = folder.read_cells(open_cells)
    failed = sum(result is not None and result.status == "failed" for result in tried) + len(context.unfinished)
    return RunOutcome(folder, keys, failed, table, problems, [folder.told(one) for one in (*problems, *notes)])


def _announce(locks: Locks, notes: list[str], say: Callable[[str], None]) -> None:
    """Say that a runner is at work here, which keeps the doctor from mending; wait while one mends already.

    Wait too while ranks have the folder for themselves: they wait for every runner that was there before them.
    """
    name = f"{RUNNER}{locks.me.token[:8]}"
    if locks.holds(name):
        return
    told = False
    while True:
        locks.take([name])
        mending, alone = locks.others("doctor"), of_others(locks, ALONE)
        if not mending and not alone:
            return
        if alone:
            locks.release([name])
        if not told:
            who = ", ".join(locks.owners(["doctor", ALONE]))
            now, then = ("is", "was") if mending else ("has", "had")
            what = "mending the folder" if mending else "the folder alone (model.tp_plan)"
            say(f"waiting for {who}, who {now} {what}")
            notes.append(f"waited for {who}, who {then} {what}")
            told = True
        time.sleep(POLL)


def _standing(folder: ResultsFolder, units: Sequence[Unit]) -> str:
    """Return how far a run that was stopped had come."""
    if not units:
        return "nothing was begun"
    cells = [cell for unit in units for cell in unit.cells]
    open_cells = [cell.key for cell in cells if not cell.done]
    finished = len(cells) - len(open_cells) + sum(map(is_finished, folder.read_cells(open_cells)))
    tunings = [unit.prompt_key for unit in units if unit.prompt_key]
    begun = [key for key in dict.fromkeys(tunings) if folder.has(folder.checkpoints / f"{key}.safetensors")]
    kept = f"; the tuning of {', '.join(begun)} goes on from its checkpoint" if begun else ""
    return f"{finished} of {len(cells)} cells are finished and saved{kept}"


def _refuse_hopeless(units: Sequence[Unit]) -> None:
    """Raise the data's own error where no task of the run could be loaded."""
    errors = [unit.data.error for unit in units]
    if errors[0] is not None and all(error is not None for error in errors):
        raise errors[0]


def _board_module(name: str) -> Any:
    """Return a module of the leaderboard, which is read by those who read results; the harness knows it by name only."""
    return importlib.import_module(f"skillneurons.leaderboard.{name}")


def _compile(context: RunContext, index: Any, n_cells: int) -> tuple[str, list[str]]:
    """Write the table of the whole folder, one runner at a time; return it as text, and what is wrong in the folder."""
    boards = _board_module("board")
    with context.locks.held("board", waiting=lambda who: context.say_waiting("the table", who)):
        board = boards.build_board([context.folder], index)
        paths = boards.write_board(board, context.folder.root)
        context.folder.publish(*paths)
        if n_cells >= MANY and index.save():
            context.folder.publish(context.folder.root / BOARD_INDEX)
    context.notes.append("written: " + ", ".join(context.folder.told(str(path)) for path in paths))
    return str(boards.board_text(board)), list(board.problems)
