"""Which worker does what next: jobs, what they cost, and who is best placed for them.

A job is a unit (model, task, seed) or what concerns several tasks of a model and seed. A worker keeps its model loaded, and what
the seeds of one model and task share, so it is given, in this order: another seed of its model and task, another job of its model,
any other; among equals one whose model and task no other worker has in hand, then the one that costs most.
A job that fails by no fault of the user's is given out ``TRIES`` times.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from skillneurons.plan import Unit

TRIES = 3
WEIGHT = {"choice": 1.0, "open": 3.0, "generation": 8.0}  # what an example costs: answers that are written cost more
ACROSS = "across tasks"


@dataclass(eq=False)
class Job:
    """One piece of work: the numbers of its units, in the order of the plan; ``causes`` says why it failed before."""

    units: tuple[int, ...]
    model: str
    task: str
    seed: int
    cost: float
    across: bool = False
    causes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.model} {self.task} seed {self.seed}"

    @property
    def last_try(self) -> bool:
        return len(self.causes) >= TRIES - 1

    @property
    def hopeless(self) -> bool:
        return len(self.causes) >= TRIES


def cost_of(unit: Unit) -> float:
    """Return what a unit costs, in examples of a choice task."""
    return WEIGHT.get(unit.data.task.kind, 1.0) * sum(unit.data.counts.values())


def job_of(number: int, unit: Unit) -> Job:
    return Job((number,), unit.model, unit.data.task.name, unit.seed, cost_of(unit))


def across_job(numbers: Sequence[int], own: Sequence[Unit]) -> Job:
    """Return the job of what concerns several tasks; it waits behind the units of its model."""
    return Job(tuple(numbers), own[0].model, ACROSS, own[0].seed, 0.0, across=True)


class Schedule:
    """The jobs that are to be given out."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.open = list(jobs)

    def add(self, job: Job) -> None:
        self.open.append(job)

    def take(self, last: Job | None, in_hand: Collection[tuple[str, str]] = ()) -> Job | None:
        """Return the job for a worker whose ``last`` one is told, while others have these (model, task) in hand."""
        if not self.open:
            return None

        def rank(place: int) -> tuple[int, bool, float, int]:
            job = self.open[place]
            near = 2
            if last is not None and job.model == last.model:
                near = 0 if job.task == last.task else 1
            return near, (job.model, job.task) in in_hand, -job.cost, place

        return self.open.pop(min(range(len(self.open)), key=rank))
