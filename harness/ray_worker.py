"""A worker of a cluster: a runner like any other in the run folder, told job by job what to do.

It takes locks, tunes, checkpoints and writes cells itself; what goes to and fro is plain JSON text: the request (config, plugins, the
keys to be done), jobs, and what a person should read of them. A worker that dies leaves what any killed runner leaves.

``run`` has a thread to itself; ``progress``, ``stop`` and ``bury`` are answered by another meanwhile. Nothing here knows of Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skillneurons.errors import ModelError, ShardLost, SkillNeuronsError, StorageError
from skillneurons.fingerprint import brought, installed
from skillneurons.plugin_calls import error_line
from skillneurons.ray_shards import ShardsForOthers, runners_with

if TYPE_CHECKING:
    from skillneurons.plan import Unit
    from skillneurons.results import Result, ResultsFolder
    from skillneurons.run_context import RunContext


class RayWorker:
    """Executes units and what concerns several of them, one job at a time."""

    def __init__(self) -> None:
        self._context: RunContext | None = None
        self._units: Sequence[Unit] = ()
        self._helped_by: list[int] = []
        self._for_others = ShardsForOthers()
        self._finished: list[str] = []  # keys of the job in hand, of which observers are to be told
        self._end = contextlib.ExitStack()

    def installed(self) -> str:
        """Return where this worker runs and what is installed there."""
        return json.dumps({"host": platform.node(), "pid": os.getpid(), "installed": installed()})

    def prepare(self, request: str) -> str:
        """Load plugins and plan as the driver did; return what was found, or the ``problem`` that forbids to work."""
        asked = json.loads(request)
        found: dict[str, Any] = {"plugins": {}, "units": [], "token": ""}
        try:
            problem = self._prepare(asked, found)
        except SkillNeuronsError as error:
            problem = str(error)
        except Exception as error:  # whatever it is, the driver has to tell it
            problem = error_line(error)
        if problem or not found["token"]:  # it is not to work
            self._end.close()
        return json.dumps({**found, "problem": problem})

    def _prepare(self, asked: Mapping[str, Any], found: dict[str, Any]) -> str:
        from skillneurons.config import Config
        from skillneurons.interruption import Interruption
        from skillneurons.locks import RUNNER, Locks
        from skillneurons.model_in_hand import ModelInHand
        from skillneurons.plan import plan
        from skillneurons.registry import load_registry
        from skillneurons.results import open_folder
        from skillneurons.run_context import RunContext
        from skillneurons.store_locks import shelf_of
        from skillneurons.worker_display import WorkerDisplay

        with contextlib.suppress(OSError):  # no such folder here: what is relative to it is then told as missing
            os.chdir(asked["cwd"])
        folder = open_folder(asked["folder"])
        if folder.mirror is not None:
            self._end.callback(shutil.rmtree, folder.root, ignore_errors=True)  # Ray ends a process without a goodbye
        if not _sees(folder, asked["driver"]):
            return f"does not see {folder.place}; give a folder that all nodes share, or an object store (-o s3://...)"
        config = Config.model_validate(asked["config"])
        registry = load_registry(asked["plugins"], asked["blocked"])
        found["plugins"] = brought(config, registry)
        if found["plugins"] != asked["brought"]:
            return ""  # told by the driver, which knows both
        self._units = plan(config, registry, folder.as_it_is(asked["finished"]), frozenset(asked["finished"]))
        folder.prepare()
        found["units"] = [[cell.key for cell in unit.cells] for unit in self._units]
        self._interruption = Interruption()
        self._display = WorkerDisplay(self._interruption.check)
        self._model = ModelInHand()
        locks = self._end.enter_context(Locks(shelf_of(folder, single_writer=False)))
        locks.bury(asked["dead"])
        locks.take([f"{RUNNER}{locks.me.token[:8]}"])  # keeps the doctor from mending
        found["token"] = locks.me.token
        stamps = {key: tuple(stamp) if stamp else None for key, stamp in asked["planned"].items()}
        self._context = RunContext(
            config, registry, folder, self._display, locks, self._interruption, planned=stamps, observed=self._observed
        )
        self._set_threads(asked["threads"])
        return ""

    @staticmethod
    def _set_threads(n: int) -> None:
        import torch

        torch.set_num_threads(n)

    def _observed(self, result: Result) -> None:
        self._finished.append(result.key)

    def run(self, job: str, helpers: Sequence[Any] = ()) -> str:
        """Do a job, its shards together with ``helpers`` (other workers); return its remarks, the cells of which observers are to be told, and how it ended.

        ``ended``: done, stopped, storage (nothing can be written: the run ends), model (its only model cannot be loaded), or failed
        by no rule of ours: this worker is not to be used again.
        """
        asked = json.loads(job)
        if self._context is None:
            raise RuntimeError("a worker is asked to work before it is prepared")
        context = replace(self._context, notes=[], unfinished=[], tried_again=not asked["last_try"])
        if asked["helpers"] != self._helped_by:  # who runs shards is kept for the seeds of a task
            context.kept.pop("shards", None)
            self._helped_by = asked["helpers"]
        self._for_others = ShardsForOthers()
        if helpers:
            context = replace(context, runners=runners_with(context, self._units, helpers))
        self._finished = []
        self._display.begin()
        ended, message = "done", ""
        hopeless = ""
        try:
            self._interruption.check()
            if asked["across"]:
                self._run_across(context, asked["units"])
            else:
                hopeless = self._run_unit(context, self._units[asked["units"][0]])
        except KeyboardInterrupt:
            ended = "stopped"
        except StorageError as error:
            ended, message = "storage", context.folder.told(str(error))
        except ModelError as error:
            ended, message = "model", str(error)
        except (Exception, SystemExit) as error:
            ended, message = "failed", " ".join(context.registry.told(error).split())
        notes = [context.folder.told(note) for note in context.notes]
        told = {"notes": notes, "unfinished": context.unfinished, "finished": self._finished}
        return json.dumps({**told, "ended": ended, "message": message, "hopeless": hopeless})

    def _run_unit(self, context: RunContext, unit: Unit) -> str:
        """Run a unit; return why its model cannot be loaded where there are other models, which then go on."""
        from skillneurons.turns import run_in_turns
        from skillneurons.unit_cells import run_unit

        lm, problem = None, unit.data.error
        if problem is None:
            try:
                lm = self._model.of(context, unit.model)
            except ModelError as error:
                if len(context.config.models) == 1:
                    raise
                problem = error
        run_in_turns(context, [unit], lambda one: run_unit(context, one, lm, problem))
        return str(problem) if isinstance(problem, ModelError) else ""

    def _run_across(self, context: RunContext, numbers: Sequence[int]) -> None:
        from skillneurons.across_turn import run_across

        own = [self._units[number] for number in numbers]
        context.kept.clear()  # room for what several tasks need
        run_across(context, own, lambda: self._model.of(context, own[0].model))

    def shard(self, unit: int, method: str, *given: Any) -> Any:
        """Help another worker: answer what it asks about shards of a unit's passes."""
        context = self._context
        if context is None:
            raise ShardLost("a worker is asked for shards before it is prepared")
        mine = self._units[unit]
        return self._for_others.answer(context, mine, lambda: self._model.of(context, mine.model), method, given)

    def progress(self) -> str:
        """Return what the display would show, and the cells of the job that are finished so far."""
        return json.dumps({**self._display.told(), "finished": list(self._finished)})

    def stop(self) -> None:
        """Ask the job in hand to stop where nothing is half done."""
        self._interruption.request()

    def bury(self, tokens: list[str]) -> None:
        """Hear which other workers are dead: what they had in hand is free."""
        if self._context is not None:
            self._context.locks.bury(tokens)

    def close(self) -> None:
        """Give all locks back: this worker is not needed any more."""
        self._end.close()


def _sees(folder: ResultsFolder, driver: str) -> bool:
    """Return whether the lock of the driver is there, which says that it is at work in the folder."""
    from skillneurons.store_locks import shelf_of

    return any(lock.owner is not None and lock.owner.token == driver for lock in shelf_of(folder).find())
