"""Checks of a metric: what it returns, that it is a number, and that it depends on example and output alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from skillneurons.errors import SkillNeuronsError, unknown_name
from skillneurons.testing.checks import NotApplicable, check, told
from skillneurons.testing.metric_case import MetricCase, Probe
from skillneurons.testing.task_checks import first_difference
from skillneurons.types import Output


@check("metric", "needs")
def needs(case: MetricCase) -> str | None:
    """What it needs are fields of an Output."""
    known = [field.name for field in fields(Output)]
    unknown = [name for name in case.metric.needs if name not in known]
    if unknown:
        return f"{case.subject}: needs {unknown[0]!r}, which no Output has, so it is never scored; fields: {', '.join(known)}"
    return None


@check("metric", "tasks")
def tasks(case: MetricCase) -> str | None:
    """Where it names tasks, one of them at least is registered."""
    names = case.metric.tasks
    if names is None:
        raise NotApplicable(f"{case.subject} is for every task")
    known = case.context.registry.tasks
    if any(name.partition("/")[0] in known for name in names):
        return None
    if not names:
        return f"{case.subject}: Metric.tasks is empty, so it is never measured; name its tasks, or leave it out"
    return f"{case.subject}: {unknown_name('task', names[0], known)}; none of Metric.tasks is there, so it is never measured"


@check("metric", "runs")
def runs(case: MetricCase) -> str | None:
    """It says something of every answer: right or wrong, sure or unsure, strange or empty."""
    for probe in case.probes:
        try:
            case.raw(probe)
        except Exception as error:
            return (
                f"{case.subject}, {probe.place}: {told(case, error)}; a metric gives a number for every answer, or math.nan, "
                "and names what it cannot do without in Metric.needs"
            )
    return None


@check("metric", "columns")
def columns(case: MetricCase) -> str | None:
    """It returns a number, or a mapping with the declared columns."""
    for probe in case.probes:
        fault = _fault(case, probe, like_zero=True)
        if fault:
            return f"{fault}; return a number, or a mapping with the columns of Metric.columns"
    return None


@check("metric", "numbers")
def numbers(case: MetricCase) -> str | None:
    """Every value is a finite number of a sane size, or NaN where it is not scored."""
    for probe in case.probes:
        if _fault(case, probe, like_zero=True):
            raise NotApplicable(f"{case.subject} returns other columns than declared (see columns)")
        fault = _fault(case, probe, like_zero=False)
        if fault:
            return f"{fault} ({probe.answer})"
    return None


def _fault(case: MetricCase, probe: Probe, *, like_zero: bool) -> str:
    """Return why a run would refuse what the metric returns; ``like_zero`` puts 0 in place of every value."""
    from skillneurons.metric_row import metric_row

    try:
        found = case.raw(probe)
    except Exception as error:
        raise NotApplicable(f"{case.subject} does not run (see runs)") from error
    if case.lacks(probe):
        return ""
    if like_zero:
        found = dict.fromkeys(found, 0.0) if isinstance(found, Mapping) else 0.0
    given = replace(case.metric, per_example=lambda example, output: found)
    try:
        metric_row(given, probe.columns, probe.example, probe.output)
    except SkillNeuronsError as error:
        return str(error)
    return ""


@check("metric", "scored")
def scored(case: MetricCase) -> str | None:
    """Every column has a number for some answer of each task that it applies to."""
    seen: dict[tuple[str, str], bool] = {}
    for probe, row in zip(case.probes, case.values, strict=True):
        for column, value in zip(probe.columns, row, strict=True):
            place = (probe.task.name, column)
            seen[place] = seen.get(place, False) or not math.isnan(value)
    blind = {probe.task.name for probe in case.probes if case.lacks(probe)}
    for (task, column), one in seen.items():
        if not one and task not in blind:
            return (
                f"{case.subject}: {column} is NaN for every answer of task {task!r}, which it applies to; give a number, "
                "or leave the task out (Metric.tasks, or columns as a function of the task)"
            )
    return None


@check("metric", "deterministic")
def deterministic(case: MetricCase) -> str | None:
    """The same example and output give the same values, in this process and in a fresh one."""
    case.values  # noqa: B018 - not applicable without values
    for probe, row in zip(case.probes, case.rows, strict=True):
        assert not isinstance(row, SkillNeuronsError)  # noqa: S101 - values would have raised
        if repr(row[0]) != repr(row[1]):
            return f"{case.subject}, {probe.place}: gives {row[0]} and then {row[1]}; draw nothing, or from a seed made of the example's id"
    where = first_difference(case.fingerprint(), case.context.fresh_values(f"metric {case.name}"))
    if where:
        return f"{case.subject}: {where} differs in a fresh process with another PYTHONHASHSEED; use skillneurons.stable_hash, not hash()"
    return None


@check("metric", "batch invariance")
def batch_invariance(case: MetricCase) -> str | None:
    """The values of an example do not depend on which examples came before it."""
    before = case.values
    places = list(range(len(before)))
    for order in (places[::-1], places[::2] + places[1::2]):
        for place in order:
            now = case.row(case.probes[place])
            if repr(now) != repr(before[place]):
                return (
                    f"{case.subject}, {case.probes[place].place}: gives {before[place]}, and {now} after other examples; "
                    "keep nothing between calls"
                )
    return None


@check("metric", "leaves its input")
def leaves_its_input(case: MetricCase) -> str | None:
    """It changes nothing of the example and the output it is given."""
    case.values  # noqa: B018 - not applicable without values
    for probe in case.probes:
        given: list[Any] = [copy.deepcopy(probe.example), copy.deepcopy(probe.output)]
        kept = [repr(one) for one in given]
        if not case.lacks(probe):
            case.metric.per_example(*given)
        for name, one, was in zip(("example", "output"), given, kept, strict=True):
            if repr(one) != was:
                return f"{case.subject}, {probe.place}: changes the {name} it is given; work on a copy (dict(example.fields))"
    return None
