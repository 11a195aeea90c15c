"""The Ray executor: units are done by workers on the nodes of a cluster, each a runner in the same run folder.

This process plans, gives out jobs (``schedule``), shows the progress of all workers and calls the observers, once per cell. A worker that
dies, or fails by no rule of ours, is replaced and its job given out again, up to ``TRIES`` times; then its cells are failed with the
reason. Remarks of workers come in the order of the units, however the jobs ended.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skillneurons.across_turn import open_across, units_together
from skillneurons.errors import CellError, ClusterError, ModelError, SkillNeuronsError, StorageError
from skillneurons.fingerprint import installed, other_installation
from skillneurons.plan import Unit
from skillneurons.ray_cluster import RayCluster, n_workers, unused_gpus
from skillneurons.ray_crew import Crew, Event, Worker, cannot_import, cause_of
from skillneurons.ray_request import check_prepared, request_of
from skillneurons.run_context import RunContext
from skillneurons.schedule import TRIES, Job, Schedule, across_job, job_of
from skillneurons.turns import run_in_turns
from skillneurons.unit_cells import run_unit
from skillneurons.worker_display import WorkerDisplay

TICK = 0.2  # seconds between two looks at whether the run is to stop
PLACED_WITHIN = 60.0  # seconds without a single worker, until the run gives up
GROUP_WITHIN = 30.0  # seconds that a job in shards waits for workers who are on their way
SAID = 300  # characters of what Ray says of an error that no words of ours are for
LOOK_EVERY = 5.0  # seconds between two looks at how much room the cluster has
HEAD_WITHIN = (
    15.0  # seconds without an answer of the head, until the run gives up: Ray itself ends this process after 60
)
STOP_WITHIN = 8.0  # seconds that workers have to stop where nothing is half done


class RayExecutor:
    """Has units executed by workers of a Ray cluster."""

    def execute(self, context: RunContext, units: Sequence[Unit]) -> None:
        """Execute what is open of the units, and what concerns several of them; raise ClusterError where the cluster fails."""
        with context.interruption.deferred():  # a signal is acted on between two steps, with all workers told
            _RayRun(context, units).execute()


class _RayRun:
    """One run: its jobs, which of them are settled, and who of the crew has which."""

    def __init__(self, context: RunContext, units: Sequence[Unit]) -> None:
        self.context, self.units = context, units
        self.settings = context.config.executor
        numbers = {id(unit): number for number, unit in enumerate(units)}
        self.jobs = [job_of(number, unit) for number, unit in enumerate(units) if unit.pending]
        self.schedule = Schedule([])
        self.unsettled = set(self.jobs)
        self.together = [[numbers[id(unit)] for unit in own] for own in units_together(context, units)]
        self.offered: set[tuple[int, ...]] = set()  # units whose tasks were looked at together
        self.hopeless: set[str] = set()  # models that cannot be loaded
        self.told: set[str] = set()  # cells of which observers know
        self.shown: dict[Job, int] = {}  # how many cells of a job the screen has counted
        self.dead: list[str] = []  # tokens of workers that are gone
        self.lost: list[str] = []  # what became of workers that died
        self.answered = 0.0  # when the head of the cluster did last
        self.stillborn = 0  # workers in a row that died before they were prepared

    def execute(self) -> None:
        for job in list(self.jobs):
            problem = self.units[job.units[0]].data.error
            if problem is None:
                self.schedule.add(job)
            else:
                self._fail_here(job, problem)
        for own in list(self.together):
            self._offer_across(own)
        try:
            if self.schedule.open:
                with RayCluster(self.settings) as cluster:
                    self._work(cluster)
        finally:
            self._gather_notes()

    def _gather_notes(self) -> None:
        models = list(dict.fromkeys(unit.model for unit in self.units))
        for job in sorted(self.jobs, key=lambda job: (models.index(job.model), job.across, job.units)):
            self.context.notes.extend(job.notes)

    def _work(self, cluster: RayCluster) -> None:
        """Give out jobs until none is left or the run is to stop."""
        context, schedule = self.context, self.schedule
        shards = self.settings.shards
        most = self._most(cluster, 0, len(schedule.open))
        self.answered = looked = time.monotonic()
        self._tell_of_gpus(cluster)
        crew = Crew(self.settings, context.display.lane)
        alone_since = time.monotonic()
        try:
            while schedule.open or crew.of("working"):
                if context.interruption.pending:
                    self._stop(crew)
                    return
                jobs = len(schedule.open) + len(crew.of("working"))
                if time.monotonic() - looked >= LOOK_EVERY:
                    looked, most = time.monotonic(), self._look(cluster, crew, most, jobs)
                while len(crew.workers) < min(most, shards * jobs):
                    crew.hire()
                self._give_out(crew)
                event = crew.wait(TICK)
                if event is not None:
                    self._heard(crew, event)
                if crew.placed or not crew.workers:
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > PLACED_WITHIN:
                    raise ClusterError(self._no_place(cluster))
        except SkillNeuronsError:
            self._stop(crew)  # the run ends; what others have in hand is not lost
            raise
        finally:
            context.locks.bury(crew.end())

    def _most(self, cluster: RayCluster, placed: int, jobs: int) -> int:
        """Return how many workers there may be: whole groups of those that run shards together."""
        shards = self.settings.shards
        most = n_workers(self.settings, cluster.nodes(), cluster.free(), shards * jobs, placed)
        return most - (most % shards if most > shards else 0)

    def _look(self, cluster: RayCluster, crew: Crew, most: int, jobs: int) -> int:
        """Return how many workers there may be by now; raise ClusterError where the head of the cluster is gone."""
        fault = cluster.fault()
        if not fault:
            self.answered = time.monotonic()
            with contextlib.suppress(ClusterError):  # no node can hold a worker just now: one may come back
                return max(most, self._most(cluster, len(crew.workers) - len(crew.of("starting")), jobs))
        elif time.monotonic() - self.answered > HEAD_WITHIN:
            raise ClusterError(f"the head of the Ray cluster does not answer any more at {fault}; start it again")
        return most

    def _tell_of_gpus(self, cluster: RayCluster) -> None:
        told = unused_gpus(self.settings, self.context.config.device, cluster.nodes())
        if told:
            self.context.display.say(told)
            self.context.notes.append(told)

    def _no_place(self, cluster: RayCluster) -> str:
        nodes = "; ".join(map(str, cluster.nodes())) or "no node"
        lost = f" ({'; '.join(self.lost[-TRIES:])})" if self.lost else ""
        return f"no worker could be placed for {PLACED_WITHIN:.0f} seconds{lost}; the cluster has {nodes}, or others use it"

    def _give_out(self, crew: Crew) -> None:
        size = self._group(crew)
        while len(crew.of("idle")) >= size:
            worker = crew.of("idle")[0]
            others = {(one.job.model, one.job.task) for one in crew.of("working") if one.job is not None}
            job = self.schedule.take(worker.last, others)
            if job is None:
                return
            keys = [cell.key for number in job.units for cell in self.units[number].pending]
            helpers = [] if job.across else crew.of("idle")[1:size]
            crew.hand(worker, job, {key: self.context.folder.stamp(key) for key in keys}, helpers)

    def _group(self, crew: Crew) -> int:
        """Return how many workers do a job together: one for each shard, fewer where there are no more to be had."""
        starting = crew.of("starting")
        placed = len(crew.workers) - len(starting)
        to_come = any(time.monotonic() - worker.hired < GROUP_WITHIN for worker in starting)
        return self.settings.shards if placed >= self.settings.shards or to_come else max(1, placed)

    def _heard(self, crew: Crew, event: Event) -> None:
        worker, answer = event.worker, event.answer
        if event.what == "died":
            self._died(crew, worker, event.error)
        elif event.what == "installed":
            worker.host = str(answer["host"])
            told = other_installation(installed(), answer["installed"])
            if told:
                raise ClusterError(f"worker on {worker.host} {told}")
            crew.prepare(worker, request_of(self.context, self.units, self.dead))
        elif event.what == "prepared":
            check_prepared(self.context, self.units, worker.host, answer)
            worker.token = str(answer["token"])
            self.stillborn = 0
            crew.rest(worker)
            if self.dead:  # those too who died while it prepared itself
                worker.watch("bury", list(self.dead))
        elif event.what == "progress":
            self._show(worker, answer)
        else:
            self._done(crew, worker, answer)

    def _show(self, worker: Worker, answer: Mapping[str, Any]) -> None:
        """Show on the screen what a worker tells of its job, and tell observers of its cells."""
        who, job = f"{worker.number} {worker.host}", worker.job
        if job is None:
            if worker.leader is not None and worker.leader.job is not None:
                label, done, total = answer.get("work") or (f"{worker.leader.job.label}: shards", 0, 1)
                worker.show(f"{who}: {label}", done, total)
            return
        for line in answer.get("lines", ()):
            self.context.display.say(f"{who}: {line}")
        label, done, total = answer.get("work") or (job.label, 0, 1)
        worker.show(f"{who}: {label}", done, total)
        self._count(job, answer.get("cells", 0))
        self._tell(job, answer["finished"])

    def _count(self, job: Job, cells: int) -> None:
        for _ in range(cells - self.shown.get(job, 0)):
            self.context.display.advance_cell()
        self.shown[job] = max(cells, self.shown.get(job, 0))

    def _tell(self, job: Job, keys: Iterable[str]) -> None:
        """Tell the observers of finished cells, each once."""
        for key in keys:
            result = None if key in self.told else self.context.folder.read_cell(key)
            if result is not None:
                self.told.add(key)
                replace(self.context, notes=job.notes).tell_finished(result)

    def _done(self, crew: Crew, worker: Worker, answer: Mapping[str, Any]) -> None:
        job = worker.job
        if job is None:
            raise RuntimeError(f"worker {worker.number} tells of a job that it was not given")
        crew.rest(worker)
        if answer["ended"] in ("done", "stopped"):
            self._give_out(crew)  # before anything else: nobody waits while observers are told
        self._tell(job, answer["finished"])
        if answer["ended"] == "storage":
            raise StorageError(str(answer["message"]))
        if answer["ended"] == "model":
            raise ModelError(str(answer["message"]))
        if answer["ended"] == "failed":
            self._gone(crew, worker)
            self._again(job, f"it failed on {worker.host}: {answer['message']}")
            return
        job.notes += answer["notes"]
        self.context.unfinished.extend(answer["unfinished"])
        if answer["hopeless"]:
            self.hopeless.add(job.model)
        if answer["ended"] == "done":
            self._settle(job)

    def _died(self, crew: Crew, worker: Worker, error: BaseException | None) -> None:
        job, cause, leader = worker.job, cause_of(error), worker.leader
        where = f"worker on {worker.host}" if worker.host else "a worker"
        self._gone(crew, worker)
        missing = "" if worker.host else cannot_import(error)
        if missing:
            here = installed()["skillneurons"]
            raise ClusterError(
                f"a worker cannot begin: {missing}; install skillneurons {here} with Ray on every node: "
                f"pip install 'skillneurons[ray]=={here}'"
            )
        self.lost.append(f"{where} {cause}")
        for other in crew.silent():
            self._gone(crew, other)
        if leader is not None and leader.job is not None:
            leader.job.notes.append(f"{leader.job.label}: {where} {cause}; the shards that it ran are run again")
        if job is None and worker.token:
            return
        if job is None:
            self.stillborn += 1
            if self.stillborn >= TRIES:
                said = " ".join(str(error).split())[:SAID]
                raise ClusterError(f"workers end before they begin: {'; '.join(self.lost[-TRIES:])}; Ray says: {said}")
            return
        stamps = {key: self.context.folder.stamp(key) for key in worker.stamps}
        self._tell(job, [key for key, stamp in stamps.items() if stamp != worker.stamps[key] and self._is_final(key)])
        self._again(job, f"its {where} {cause}")

    def _is_final(self, key: str) -> bool:
        result = self.context.folder.read_cell(key)
        return result is not None and (result.status == "failed" or not (result.causal or {}).get("pending"))

    def _gone(self, crew: Crew, worker: Worker) -> None:
        """Let a worker go for good; what it had in hand is free."""
        crew.dismiss(worker)
        if worker.token:
            self.dead.append(worker.token)
            self.context.locks.bury([worker.token])

    def _again(self, job: Job, cause: str) -> None:
        """Give a job out once more, or fail its cells after the last try."""
        job.causes.append(cause)
        if not job.hopeless:
            job.notes.append(f"{job.label}: {cause}; it is done again")
            self.schedule.add(job)
        elif job.across:
            job.notes.append(
                f"across tasks, seed {job.seed}: not measured: failed {TRIES} times; the last time {cause}"
            )
            self._settle(job)
        else:
            self._fail_here(job, CellError(f"failed {TRIES} times; the last time {cause}"))

    def _fail_here(self, job: Job, problem: SkillNeuronsError) -> None:
        """Save the cells of a job as failed, from this process."""
        context = replace(self.context, notes=job.notes, display=WorkerDisplay(lambda: None))
        unit = self.units[job.units[0]]
        run_in_turns(context, [unit], lambda one: run_unit(context, one, None, problem))
        self.told.update(cell.key for cell in unit.pending)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        self.unsettled.discard(job)
        if not job.across:
            self._count(job, len(self.units[job.units[0]].pending))
            for own in [one for one in self.together if job.units[0] in one]:
                self._offer_across(own)

    def _offer_across(self, own: Sequence[int]) -> None:
        """Give out what concerns several tasks of a model and seed, once their units are done."""
        if tuple(own) in self.offered or any(number in job.units for job in self.unsettled for number in own):
            return
        self.offered.add(tuple(own))
        units = [self.units[number] for number in own]
        if units[0].model in self.hopeless:
            return
        job = across_job(own, units)
        self.jobs.append(job)
        if open_across(replace(self.context, notes=job.notes), units) is not None:
            self.unsettled.add(job)
            self.schedule.add(job)

    def _stop(self, crew: Crew) -> None:
        """Have all workers stop where nothing is half done; what they finished meanwhile is told."""
        for event in crew.stop(STOP_WITHIN):
            if event.what == "done" and event.worker.job is not None:
                self._tell(event.worker.job, event.answer["finished"])
                crew.rest(event.worker)
            elif event.what == "died":
                self._gone(crew, event.worker)
