"""The hooks a plugin can implement (pluggy, project name ``skillneurons``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from skillneurons.results import Result
    from skillneurons.types import Grader, Metric, Task

PROJECT = "skillneurons"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tasks(register: Callable[[Task], None]) -> None:
    """Call ``register(Task(...))`` once for every task that the plugin brings."""


@hookspec
def register_metrics(register: Callable[[Metric], None]) -> None:
    """Call ``register(Metric(...))`` once for every metric that the plugin brings."""


@hookspec
def register_attributions(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Call ``register(name, factory)`` where ``factory(n_neurons, n_columns)`` makes an accumulator.

    The accumulator has ``update(activations (rows, neurons), values (rows, columns))``, ``merge(other)``, ``result()``
    and ``effect()``, both (columns, neurons): the statistic by its definition, and what neurons are ranked by (signed, 0
    where there is no relation). ``skillneurons.statistics.Accumulator`` brings ``effect`` (= ``result``) and the checks.
    The factory may carry ``linear_form`` (then there is a permutation null), ``t_distribution``, ``baseline_split``
    (then ``set_baseline`` is called with the mean activations on that split) and ``gradient`` (then the activations come
    multiplied by the gradient of the target's log-probability).
    """


@hookspec
def register_graders(register: Callable[[Grader], None]) -> None:
    """Call ``register(Grader(...))`` once for every grader that the plugin brings."""


@hookspec
def cell_finished(result: Result) -> None:
    """Observe a finished cell; an exception here is reported and the run goes on."""
