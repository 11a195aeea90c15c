"""The workers of a run as its driver sees them: hired, asked, heard of, and let go. All that is asked of Ray's actors is here.

A worker is placed by Ray where there is room (``installed`` answers then), prepares itself, and then does job after job. What comes
back is an event; a worker that died is one too, by Ray's own notice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from skillneurons.ray_request import threads_of
from skillneurons.ray_worker import RayWorker
from skillneurons.schedule import Job
from skillneurons.settings import ExecutorSettings

ASK_EVERY = 0.5  # seconds between two looks at a worker's progress
CLOSE_WITHIN = 3.0  # seconds for workers to give their locks back at the end
ANSWER_WITHIN = 5.0  # seconds for a worker without work to give a sign of life
GPUS_SEEN = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")  # which Ray leaves as they are for who takes no GPU
WATCH = "watch"  # the thread of a worker that answers while it works

What = Literal["installed", "prepared", "done", "progress", "died"]
_AFTER: Mapping[str, What] = {"starting": "installed", "preparing": "prepared", "working": "done"}


@dataclass(eq=False)
class Worker:
    """One worker: ``ref`` is what it was asked last, ``job`` what it has in hand, ``last`` what it had before."""

    number: int
    actor: Any
    show: Callable[[str, int, int], None]
    hired: float
    state: Literal["starting", "preparing", "idle", "working", "helping"] = "starting"
    ref: Any = None
    host: str = ""
    token: str = ""
    job: Job | None = None
    last: Job | None = None
    leader: Worker | None = None  # whom it helps with shards
    stamps: Mapping[str, Any] = field(default_factory=dict)  # of the job's cells when it was given out
    watched: Any = None  # what its progress was asked with
    asked: float = 0.0

    def watch(self, method: str, *given: Any) -> Any:
        """Ask something that is answered while the worker works."""
        return getattr(self.actor, method).options(concurrency_group=WATCH).remote(*given)


@dataclass(frozen=True)
class Event:
    """What came of a worker: its answer, or why it died."""

    worker: Worker
    what: What
    answer: Mapping[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


class Crew:
    """The workers that are there or on their way."""

    def __init__(self, settings: ExecutorSettings, lane: Callable[[], Callable[[str, int, int], None]]) -> None:
        import ray

        self._lane = lane
        self.workers: list[Worker] = []
        self._hired = 0
        self._spare: list[Callable[[str, int, int], None]] = []  # bars of workers that are gone
        self._class = ray.remote(concurrency_groups={WATCH: 1})(RayWorker)
        self._options: dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": self.environment(settings)},
        }
        if settings.memory_gb:
            self._options["memory"] = int(settings.memory_gb * 1e9)

    @staticmethod
    def environment(settings: ExecutorSettings) -> dict[str, str]:
        """Return what a worker's process begins with: its threads before any is made, and no GPU where it is given none."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads_of(settings)))
        return threads if settings.gpus else threads | dict.fromkeys(GPUS_SEEN, "")

    def of(self, state: str) -> list[Worker]:
        return [worker for worker in self.workers if worker.state == state]

    @property
    def placed(self) -> bool:
        """Whether any worker has found its place."""
        return any(worker.state != "starting" for worker in self.workers)

    def hire(self) -> None:
        """Ask for one worker more."""
        self._hired += 1
        actor = self._class.options(**self._options).remote()
        worker = Worker(self._hired, actor, self._spare.pop() if self._spare else self._lane(), time.monotonic())
        worker.ref = actor.installed.remote()
        self.workers.append(worker)

    def prepare(self, worker: Worker, request: Mapping[str, Any]) -> None:
        worker.state, worker.ref = "preparing", worker.actor.prepare.remote(json.dumps(request))

    def hand(self, worker: Worker, job: Job, stamps: Mapping[str, Any], helpers: Sequence[Worker] = ()) -> None:
        """Give a worker a job, and those who help with its shards."""
        told: dict[str, Any] = {"units": list(job.units), "across": job.across, "last_try": job.last_try}
        told["helpers"] = [helper.number for helper in helpers]
        for helper in helpers:
            helper.state, helper.leader, helper.last = "helping", worker, job
        worker.state, worker.job, worker.stamps = "working", job, stamps
        worker.ref, worker.asked = (
            worker.actor.run.remote(json.dumps(told), [one.actor for one in helpers]),
            time.monotonic(),
        )

    def rest(self, worker: Worker) -> None:
        """Note that a worker has nothing in hand."""
        worker.state, worker.ref, worker.watched = "idle", None, None
        worker.job, worker.last, worker.leader = None, worker.job or worker.last, None
        worker.show("", 0, 1)
        for helper in self.of("helping"):
            if helper.leader is worker:
                self.rest(helper)

    def wait(self, seconds: float) -> Event | None:
        """Return the next thing that workers tell; None where none does in time."""
        import ray

        self._ask()
        about = dict(self._asked())
        if not about:
            time.sleep(seconds)
            return None
        ready, _ = ray.wait(list(about), num_returns=1, timeout=seconds)
        if not ready:
            return None
        worker, what = about[ready[0]]
        if what == "progress":
            worker.watched = None
        try:
            return Event(worker, what, json.loads(ray.get(ready[0])))
        except ray.exceptions.RayError as error:
            return Event(worker, "died", error=error)

    def _ask(self) -> None:
        now = time.monotonic()
        for worker in [*self.of("working"), *self.of("helping")]:
            if worker.watched is None and now - worker.asked >= ASK_EVERY:
                worker.watched, worker.asked = worker.watch("progress"), now

    def _asked(self) -> Iterator[tuple[Any, tuple[Worker, What]]]:
        for worker in self.workers:
            if worker.ref is not None:
                yield worker.ref, (worker, _AFTER[worker.state])
            if worker.watched is not None:
                yield worker.watched, (worker, "progress")

    def dismiss(self, worker: Worker) -> None:
        """End a worker's process, if it is still there, and tell the others that what it had in hand is free."""
        import ray

        self.rest(worker)
        self.workers.remove(worker)
        self._spare.append(worker.show)
        ray.kill(worker.actor, no_restart=True)
        if worker.token:
            for other in self.workers:
                if other.token:
                    other.watch("bury", [worker.token])

    def silent(self) -> list[Worker]:
        """Return who of those without work gives no sign of life: lost with a node, which nobody is told of who asks nothing."""
        import ray

        asked = {worker.watch("bury", []): worker for worker in self.of("idle")}
        if asked:
            ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_WITHIN)
        found = []
        for ref, worker in asked.items():
            try:
                ray.get(ref, timeout=0)
            except ray.exceptions.RayError:
                found.append(worker)
        return found

    def stop(self, seconds: float) -> Iterator[Event]:
        """Ask those who work to stop; yield what they tell within some seconds."""
        for worker in self.workers:
            if worker.state in ("working", "helping"):
                worker.watch("stop")
            else:
                worker.ref = None  # who has no work yet is not waited for
        until = time.monotonic() + seconds
        while self.of("working") and time.monotonic() < until:
            event = self.wait(0.2)
            if event is not None:
                yield event

    def end(self) -> Sequence[str]:
        """Let all workers go, those without work by the door; return the tokens of their locks."""
        import ray

        closing = [worker.actor.close.remote() for worker in self.of("idle")]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_WITHIN)
        for worker in self.workers:
            worker.show("", 0, 1)
            ray.kill(worker.actor, no_restart=True)
        return [worker.token for worker in self.workers if worker.token]


def cause_of(error: BaseException | None) -> str:
    """Return why a worker died, in a few words."""
    text = " ".join(str(error).split())
    for said, told in (
        ("node has died", "was lost with its node"),
        ("node failure", "was lost with its node"),
        ("node was terminated", "was lost with its node"),
        ("low on memory", "was ended because its node ran out of memory"),
        ("out of memory (OOM)", "was ended because its node ran out of memory"),
    ):
        if said in text and "Some common causes" not in text.partition(said)[0]:
            return told
    return "ended unexpectedly (killed, or out of memory)"


def cannot_import(error: BaseException | None) -> str:
    """Return what a worker could not import to begin with, empty where that was not it."""
    for line in str(error).splitlines():
        if line.strip().startswith(("ModuleNotFoundError:", "ImportError:")):
            return line.strip()
    return "the worker's code" if "failed to import on the worker" in str(error) else ""
