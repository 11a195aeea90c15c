"""The plugin that is meant, and what it registered: the subjects of the contract."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.errors import unknown_name
from skillneurons.plugin_loading import BUILTINS, Source, sources
from skillneurons.plugin_record import PluginRecord
from skillneurons.registry import Registry, load_registry
from skillneurons.testing.checks import KINDS, Check, Finding, NotApplicable, known_checks

if TYPE_CHECKING:
    from skillneurons.testing.task_case import TaskCase


@dataclass(frozen=True)
class Planned:
    """A check that is to be made of a subject; nothing has run yet."""

    subject: str
    check: Check
    case: Any

    @property
    def name(self) -> str:
        """Return what a test of it is called: ``metric shouting: deterministic``."""
        return f"{self.subject}: {self.check.name}"

    def run(self) -> Finding:
        """Look at the subject."""
        return self.check.of(self.subject, self.case)


def wanted_sources(plugin: str) -> tuple[list[Source], tuple[str, ...]]:
    """Return the sources that a name, module, file or folder stands for, and what to give the loader besides.

    Raise PluginError where a file or folder is not there, UnknownNameError where nothing has this name.
    """
    here = list(sources(()))
    found = [source for source in here if _stands_for(source, plugin)]
    if found:
        return found, ()
    path = Path(plugin)
    if not path.exists() and "/" not in plugin and not plugin.endswith(".py"):
        try:
            missing = importlib.util.find_spec(plugin) is None
        except (ModuleNotFoundError, ValueError):  # a package around it is missing, or it is no module's name
            missing = True
        if missing:
            known = {source.record.name for source in here}
            raise unknown_name("plugin", plugin, known, "or give a file, a folder or an importable module")
    return list(sources((plugin,)))[len(here) :], (plugin,)


def _stands_for(source: Source, plugin: str) -> bool:
    module = source.record.entry_point or source.module
    if plugin in (source.record.name, module):
        return True
    path = Path(plugin)
    if not path.is_file():
        return False
    name = str(module).partition(":")[0]
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # a package that fails on import is not this file; loading it tells what is wrong
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path.resolve()


class Context:
    """A plugin under examination: the registry it stands in and its records; ``fresh`` is another process's view."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self._task_cases: dict[str, TaskCase] = {}
        wanted, given = wanted_sources(plugin)
        self._n_sources = len(wanted)
        self.registry: Registry = load_registry(given)
        places = [(s.record.kind, s.record.name, s.record.entry_point, s.record.file) for s in wanted]
        if given:
            self.records: tuple[PluginRecord, ...] = self.registry.records[-len(wanted) :]
        else:
            self.records = tuple(
                record
                for record in self.registry.records
                if any((record.kind, record.name, record.entry_point) == place[:3] for place in places)
            )

    @cached_property
    def fresh_outcome(self) -> dict[str, Any] | str:
        """Return what a fresh process says of this plugin (``fresh.report``), or why it says nothing."""
        from skillneurons.testing.fresh import report_of_fresh_process

        try:
            return report_of_fresh_process(self.plugin, self._n_sources)
        except RuntimeError as error:
            return str(error)

    @property
    def fresh(self) -> dict[str, Any]:
        """Return what a fresh process says of this plugin; NotApplicable where it says nothing."""
        if isinstance(self.fresh_outcome, str):
            raise NotApplicable("a fresh process says nothing of it (see light)")
        return self.fresh_outcome

    @cached_property
    def cases(self) -> dict[str, Any]:
        """Return what the plugin registered, by subject (``metric shouting``)."""
        from skillneurons.testing.attribution_case import AttributionCase
        from skillneurons.testing.grader_case import GraderCase
        from skillneurons.testing.metric_case import MetricCase

        makers = {"metric": MetricCase, "attribution": AttributionCase, "grader": GraderCase}

        def case(kind: str, name: str) -> Any:
            return self.task_case(name) if kind == "task" else makers[kind](self, name)

        return {
            f"{kind} {name}": case(kind, name)
            for record in self.records
            for kind in KINDS[1:]
            for name in getattr(record, f"{kind}s")
            if kind != "task" or not self.registry.tasks[name].value.family  # which has no examples of its own
        }

    def task_case(self, name: str) -> TaskCase:
        """Return a task under examination, the same one every time: its examples are loaded once."""
        from skillneurons.testing.task_case import TaskCase

        if name not in self._task_cases:
            self._task_cases[name] = TaskCase(self, name)
        return self._task_cases[name]

    def fresh_values(self, subject: str) -> dict[str, str]:
        """Return what a subject gives in a fresh process, as texts by name; NotApplicable where it is not there."""
        values: dict[str, dict[str, str]] = self.fresh["values"]
        if subject not in values:
            raise NotApplicable(f"{subject} is not registered in a fresh process (see same names)")
        return values[subject]

    def tasks_to_try(self) -> list[str]:
        """Return the names of the plugin's own tasks and the built-in ones."""
        own = [name for record in self.records for name in record.tasks]
        builtin = [
            name for name, found in self.registry.tasks.items() if f"skillneurons.tasks.{found.plugin.name}" in BUILTINS
        ]
        return [name for name in dict.fromkeys([*own, *builtin]) if not self.registry.tasks[name].value.family]


@dataclass(frozen=True)
class PluginCase:
    """A plugin as a whole."""

    context: Context
    record: PluginRecord

    @property
    def subject(self) -> str:
        """Return what findings call it."""
        return f"plugin {self.record.name}"


def planned(plugin: str) -> list[Planned]:
    """Return every check of a plugin and of what it registered; of one that could not be loaded, that alone."""
    context = Context(plugin)
    plans = []
    for record in context.records:
        case = PluginCase(context, record)
        checks: Sequence[Check] = known_checks("plugin")
        if record.status != "ok":
            checks = [one for one in checks if one.name == "loads"]
        plans += [Planned(case.subject, one, case) for one in checks]
    for subject, case_of in context.cases.items():
        plans += [Planned(subject, one, case_of) for one in known_checks(subject.partition(" ")[0])]  # type: ignore[arg-type]
    return plans
