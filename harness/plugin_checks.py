"""The rules for what a plugin registers, each with its own message."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from skillneurons import __version__, hookspecs
from skillneurons.errors import PluginError
from skillneurons.types import KINDS, Grader, Metric, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def checked_hook(hook: str, function: Callable[..., Any]) -> None:
    """Raise PluginError where a hook asks for an argument that it is not given."""
    given = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    asked = list(inspect.signature(function).parameters.values())
    needed = [
        one.name
        for one in asked
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.default is one.empty
    ]
    if unknown := [name for name in needed if name not in given]:
        raise PluginError(
            f"{hook} asks for {_listed(unknown)}, but skillneurons {__version__} calls it with {_listed(given)}; name its arguments so"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def checked_name(kind: str, name: Any) -> str:
    """Return a name that can be part of a file's name and of a column; raise PluginError with the rule that is broken."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PluginError(f"{kind} name {name!r}: use letters, digits, '.', '_', '-' (and '/' between parts)")
    if ".." in name:
        raise PluginError(f"{kind} name {name!r}: two dots in a row are not allowed in a name")
    return name


def checked_attribution(name: Any, factory: Any) -> tuple[str, Any]:
    """Return name and factory of a statistic; raise PluginError with the rule that is broken."""
    checked_name("attribution", name)
    if not callable(factory):
        raise PluginError(
            f"attribution {name!r}: factory must be a function (n_neurons, n_columns), got {type(factory).__name__}"
        )
    return name, factory


def checked_task(task: Any) -> Task:
    """Return a task whose fields go together; raise PluginError with the rule that is broken."""
    if not isinstance(task, Task):
        raise PluginError(f"register_tasks: register takes a skillneurons.Task, got {type(task).__name__}")
    checked_name("task", task.name)
    if task.kind not in KINDS:
        raise PluginError(f"task {task.name!r}: kind {task.kind!r} must be one of {', '.join(KINDS)}")
    if not callable(task.load):
        raise PluginError(f"task {task.name!r}: load must be a function, got {type(task.load).__name__}")
    if (task.rubric is None) != (task.marks is None):
        raise PluginError(f"task {task.name!r}: rubric and marks go together; give both or neither")
    if task.kind == "generation" and task.grade is None and task.rubric is None:
        raise PluginError(f"task {task.name!r}: a generation task needs grade(example, text), or rubric and marks")
    if task.follow_up is not None and task.kind == "choice":
        raise PluginError(f"task {task.name!r}: a choice has no second turn; leave follow_up out")
    _no_text(f"task {task.name!r}", label_columns=task.label_columns, primary=task.primary)
    for column, rivals in task.rivals.items():
        _no_text(f"task {task.name!r}", **{f"rivals[{column!r}]": rivals})
    for part in task.subtasks:
        checked_name("subtask", part)
    return task


def _no_text(owner: str, **fields: Any) -> None:
    """Raise PluginError where a field that lists names is one text, which Python would take apart letter by letter."""
    for field, value in fields.items():
        if isinstance(value, str):
            raise PluginError(f"{owner}: {field} is the text {value!r}, not a list of names; write ({value!r},)")


def checked_grader(grader: Any) -> Grader:
    """Return a grader whose fields go together; raise PluginError with the rule that is broken."""
    if not isinstance(grader, Grader):
        raise PluginError(f"register_graders: register takes a skillneurons.Grader, got {type(grader).__name__}")
    checked_name("grader", grader.name)
    if not callable(grader.make):
        raise PluginError(f"grader {grader.name!r}: make must be a function, got {type(grader.make).__name__}")
    return grader


def checked_metric(metric: Any) -> Metric:
    """Return a metric whose fields go together; raise PluginError with the rule that is broken."""
    if not isinstance(metric, Metric):
        raise PluginError(f"register_metrics: register takes a skillneurons.Metric, got {type(metric).__name__}")
    if "/" in checked_name("metric", metric.name):
        raise PluginError(f"metric name {metric.name!r}: a metric's name has no '/'")
    if not callable(metric.per_example):
        raise PluginError(
            f"metric {metric.name!r}: per_example must be a function, got {type(metric.per_example).__name__}"
        )
    _no_text(f"metric {metric.name!r}", columns=metric.columns, tasks=metric.tasks, needs=metric.needs)
    return metric
