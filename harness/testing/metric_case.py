"""A metric under examination: what it says of answers that a model could give."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from skillneurons.errors import SkillNeuronsError
from skillneurons.testing.checks import NotApplicable
from skillneurons.testing.task_case import STRANGE, grades
from skillneurons.types import Example, Metric, Output, Task

if TYPE_CHECKING:
    from skillneurons.testing.subjects import Context

MOST = 24  # examples of a task that answers are made for


@dataclass(frozen=True)
class Probe:
    """An example with an answer that a model could give to it."""

    task: Task
    columns: tuple[str, ...]
    example: Example
    output: Output
    answer: str

    @property
    def place(self) -> str:
        """Return where a value comes from, for messages."""
        return f"task {self.task.name!r}, example {self.example.id!r}, {self.answer}"


class MetricCase:
    """A metric with the answers that it is tried on."""

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name = context, name
        self.metric: Metric = context.registry.metric(name)

    @property
    def subject(self) -> str:
        """Return what messages call it."""
        return f"metric {self.name!r}"

    @cached_property
    def probes(self) -> list[Probe]:
        """Return the answers of every task that is there and that the metric applies to; NotApplicable where none is."""
        found: list[Probe] = []
        wanted = [name for name in self.metric.tasks or () if name in self.context.registry.tasks]
        for name in dict.fromkeys([*self.context.tasks_to_try(), *wanted]):
            case = self.context.task_case(name)
            if isinstance(case.outcome, SkillNeuronsError):  # the contract of that task says so
                continue
            columns = self.metric.columns_for(case.task)
            if columns:
                found += _probes(case.task, columns, case.measured)
        if not found:
            about = ", ".join(self.metric.tasks or ()) or "no task that is there"
            raise NotApplicable(f"{self.subject} applies to {about}, and no such task is built in or in this plugin")
        return found

    @cached_property
    def rows(self) -> list[tuple[list[float], list[float]] | SkillNeuronsError]:
        """Return the values of every probe, asked twice in a row, or the error."""
        return [self._twice(probe) for probe in self.probes]

    def _twice(self, probe: Probe) -> tuple[list[float], list[float]] | SkillNeuronsError:
        try:
            return self.row(probe), self.row(probe)
        except SkillNeuronsError as error:
            return error

    @property
    def values(self) -> list[list[float]]:
        """Return the values of every probe; raise NotApplicable where one cannot be had."""
        if any(isinstance(row, SkillNeuronsError) for row in self.rows):
            raise NotApplicable(f"{self.subject} gives no values (see runs, columns and numbers)")
        return [row[0] for row in self.rows if not isinstance(row, SkillNeuronsError)]

    def row(self, probe: Probe) -> list[float]:
        """Return the values of one probe, as a run has them."""
        from skillneurons.metric_row import metric_row

        return metric_row(self.metric, probe.columns, *copy.deepcopy((probe.example, probe.output)))

    def raw(self, probe: Probe) -> Any:
        """Return what the metric's function gives, None where the probe lacks what it needs."""
        return None if self.lacks(probe) else self.metric.per_example(*copy.deepcopy((probe.example, probe.output)))

    def lacks(self, probe: Probe) -> bool:
        """Return whether a probe's output is without what the metric needs."""
        return any(getattr(probe.output, name, None) is None for name in self.metric.needs)

    def fingerprint(self) -> dict[str, str]:
        """Return the values of every probe, as text."""
        return {probe.place: repr(row) for probe, row in zip(self.probes, self.values, strict=True)}


def _probes(task: Task, columns: tuple[str, ...], examples: Sequence[Example]) -> Iterator[Probe]:
    step = max(1, len(examples) // MOST)
    for place, example in enumerate(examples[::step]):
        other = examples[(place * step + 1) % len(examples)]
        made = _choices(example, place) if task.kind == "choice" else _texts(task, example, other)
        for answer, output in made:
            yield Probe(task, columns, example, output, answer)


def _choices(example: Example, place: int) -> Iterator[tuple[str, Output]]:
    """Yield answers to a choice: right and wrong, each sure and unsure, of one token or two."""
    choices = example.choices or ()
    target = choices.index(example.target)
    for right in (True, False):
        for gap in (6.0, 0.4):
            best = target if right else (target + 1) % len(choices)
            scores = [-(gap + 0.3 * ((c + place) % 3)) for c in range(len(choices))]
            scores[best] = -0.05 - 0.01 * (place % 7)
            shares = [math.exp(score) for score in scores]
            shares = [share / math.fsum(shares) for share in shares]
            ordered = sorted(shares, reverse=True)
            output = Output(
                text=choices[best],
                correct=float(right),
                target_log_prob=scores[target],
                choice_log_probs=tuple(scores),
                predicted=choices[best],
                n_target_tokens=1 + place % 2,
                predicted_log_prob=scores[best],
                margin=ordered[0] - ordered[1],
                entropy=-math.fsum(share * math.log(share) for share in shares),
            )
            yield f"{'right' if right else 'wrong'} and {'sure' if gap > 1 else 'unsure'}", output


def _texts(task: Task, example: Example, other: Example) -> Iterator[tuple[str, Output]]:
    """Yield texts: the expected one, that of another example, a strange one, an empty one, and one of few figures."""
    texts = {
        "the target": example.target,
        "another target": other.target,
        "a strange text": STRANGE,
        "an empty text": "",
    }
    for place, (answer, text) in enumerate(texts.items()):
        said = grades(task, example, text)
        output = Output(
            text=text,
            correct=said["correct"],
            target_log_prob=-0.2 - 2.5 * place,
            n_target_tokens=3,
            predicted_log_prob=-0.2 - 0.7 * place,
            margin=0.9 - 0.2 * place,
            entropy=0.1 + 0.5 * place,
            labels=said if task.grade is not None else {},
        )
        yield answer, output
        if place == 0:
            yield (
                "the target, without confidence",
                replace(output, predicted_log_prob=math.nan, margin=math.nan, entropy=math.nan),
            )
