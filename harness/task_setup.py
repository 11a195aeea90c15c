"""A task with its options applied: its fields that depend on them, and who grades its texts.

A task with a rubric is graded by the grader that its option ``grader`` names, ``gradings`` times; per item
the majority of the gradings counts (a tie gives no point, NaN where none could be graded), and the task's
``marks`` turn the points into named numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skillneurons.errors import CellError, UserError, unknown_name
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.registry import Registry, load_registry
from skillneurons.types import Example, Grader, Task

Grading = Callable[[Example, str, Mapping[str, str], int], Mapping[str, float]]


@dataclass(frozen=True)
class SetUpTask:
    """A task ready to run; ``grader`` says who grades (None: the task itself), ``tuned_on`` on what data it tunes."""

    task: Task
    grader: Mapping[str, Any] | None = None
    tuned_on: str = ""


def set_up(registry: Registry, name: str, options: Mapping[str, Any], *, grading: bool = True) -> SetUpTask:
    """Return the task of a name with its options applied; nothing heavy is loaded.

    Without ``grading`` a task with a rubric grades nothing: its texts are only written.
    """
    return apply_options(registry, registry.task(name), options, grading=grading)


def with_options(task: Task, options: Mapping[str, Any] | None) -> Task:
    """Return a task with its options applied, its grader among the built-in and installed ones.

    A task whose fields do not depend on its options comes back as it is; so does one with a rubric where no options are given
    (its own ``grade`` then grades).
    """
    if (task.fit is None and task.rubric is None) or (task.rubric is not None and not options):
        return task
    return apply_options(load_registry(), task, options or {}).task


def apply_options(registry: Registry, task: Task, options: Mapping[str, Any], *, grading: bool = True) -> SetUpTask:
    """Return a task with its options applied; see ``set_up``."""
    name = task.name
    chosen = {**task.options, **options}
    unknown = sorted(set(chosen) - set(task.options))
    if unknown:
        raise unknown_name(f"option of task {name!r}", unknown[0], task.options)
    tuned_on = _applied("task", name, "tuned_on", task.tuned_on, chosen) if task.tuned_on is not None else ""
    if task.fit is not None:
        fitted = _applied("task", name, "fit", task.fit, chosen)
        task = replace(task, **{"fit": None, **fitted})  # once: later calls may lack the options
    if task.rubric is None or task.marks is None or "grader" not in chosen or not grading:
        return SetUpTask(task if grading else _ungraded(task), tuned_on=tuned_on)
    if not isinstance(chosen["grader"], str):
        raise UserError(f"tasks.{name}.grader: {chosen['grader']!r} must be the name of a grader")
    grader = registry.grader(chosen["grader"])
    grader_options = _grader_options(name, grader, chosen.get("grader_options"))
    made = _applied("grader", grader.name, "make", grader.make, grader_options)
    identity = (
        {} if grader.identity is None else _applied("grader", grader.name, "identity", grader.identity, grader_options)
    )
    gradings = chosen.get("gradings", 1)
    if not isinstance(gradings, int) or gradings < 1:
        raise UserError(f"tasks.{name}.gradings: {gradings!r} must be a whole number of at least 1")
    about = {
        "name": grader.name,
        "version": grader.version,
        "source_hash": registry.source_hash("grader", grader.name),
        "synthetic": grader.synthetic,
        **identity,
    }
    return SetUpTask(replace(task, grade=_graded(task, grader, made, gradings)), about, tuned_on)


def _applied(kind: str, name: str, function: str, made: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call what a task or grader makes of its options; an unexpected failure names them."""
    given = ", ".join(f"{option}: {value!r}" for option, value in options.items())
    return call_plugin(PluginCall(kind, name, function, f"with {given}" if given else ""), made, **options)


def _ungraded(task: Task) -> Task:
    if task.rubric is None:
        return task
    return replace(task, grade=lambda example, text: {"correct": math.nan})


def _grader_options(task: str, grader: Grader, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"tasks.{task}.grader_options: {given!r} must be a mapping of the grader's options")
    unknown = sorted(set(given or {}) - set(grader.options))
    if unknown:
        raise unknown_name(f"option of grader {grader.name!r}", str(unknown[0]), grader.options)
    return {**grader.options, **(given or {})}


def _graded(task: Task, grader: Grader, made: Grading, gradings: int) -> Callable[[Example, str], Mapping[str, float]]:
    """Return ``grade(example, text)`` of a task that is graded by a grader."""
    assert task.rubric is not None and task.marks is not None  # noqa: S101 - the registry takes both or neither
    rubric_of, marks = task.rubric, task.marks

    def grade(example: Example, text: str) -> Mapping[str, float]:
        about = f"example {example.id!r}"
        rubric = call_plugin(PluginCall("task", task.name, "rubric", about), rubric_of, example)
        call = PluginCall("grader", grader.name, "grade", about)
        rounds = [
            _points(grader, example, call_plugin(call, made, example, text, rubric, number))
            for number in range(gradings)
        ]
        items = dict.fromkeys([*rubric, *(item for points in rounds for item in points)])
        points = {item: majority([one.get(item, math.nan) for one in rounds]) for item in items}
        return call_plugin(PluginCall("task", task.name, "marks", about), marks, example, text, points)

    return grade


def _points(grader: Grader, example: Example, points: Mapping[str, float]) -> Mapping[str, float]:
    for item, value in points.items():
        if not (value in (0, 1) or math.isnan(value)):
            raise CellError(
                f"grader {grader.name!r}, example {example.id!r}: {item!r} got {value!r}; a point is 1, 0 or NaN"
            )
    return points


def majority(points: Sequence[float]) -> float:
    """Return 1 where more than half of the gradings that gave a point gave 1, else 0; NaN where none gave any."""
    given = [point for point in points if not math.isnan(point)]
    return float(sum(given) * 2 > len(given)) if given else math.nan


def grade_text(task: Task, example: Example, text: str) -> dict[str, float]:
    """Return what ``task.grade`` says about a text, {} where the task has none; name the example where it fails."""
    if task.grade is None:
        return {}
    grade = task.grade
    call = PluginCall("task", task.name, "grade", f"example {example.id!r}")
    return call_plugin(call, lambda: {name: float(value) for name, value in grade(example, text).items()})


def follow_up(task: Task, example: Example, text: str) -> str | None:
    """Return what is said to the model after its first text, None where nothing is."""
    if task.follow_up is None:
        return None
    return call_plugin(
        PluginCall("task", task.name, "follow_up", f"example {example.id!r}"), task.follow_up, example, text
    )


def is_correct(example: Example, text: str, labels: Mapping[str, float]) -> float:
    """Return ``correct`` of the grader, or whether the answer equals the target after stripping white space."""
    if "correct" in labels:
        return float(labels["correct"])
    return float(text.strip() == example.target.strip())
