"""The tasks, metrics and statistics that are there, and which plugin brought each.

Every plugin, built-in or a stranger's, comes through ``load_registry``: it is imported, checked and
registered on its own; if any of that fails, nothing of it stays and its record says why. A name taken
twice is an error of the second plugin that names both.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import pluggy
from skillneurons import hookspecs
from skillneurons.errors import PluginError, SkillNeuronsError, UnknownNameError, unknown_name
from skillneurons.plugin_calls import PluginCallError, ToldElsewhere, error_line
from skillneurons.plugin_checks import checked_attribution, checked_grader, checked_hook, checked_metric, checked_task
from skillneurons.plugin_failures import call_failure, failure_line, raw_failure
from skillneurons.plugin_loading import aside, import_source, located, sources
from skillneurons.plugin_reason import broken, is_own
from skillneurons.plugin_record import PluginRecord
from skillneurons.types import Grader, Metric, Task

HOOKS = ("register_tasks", "register_metrics", "register_attributions", "register_graders", "cell_finished")
KINDS_OF_NAMES = ("tasks", "metrics", "attributions", "graders")


@dataclass(frozen=True, slots=True)
class Registered:
    """A task, metric or accumulator factory, with the plugin that brought it."""

    value: Any
    plugin: PluginRecord


@dataclass
class Registry:
    """Everything that was registered, by name, and the record of every plugin."""

    tasks: dict[str, Registered] = field(default_factory=dict)
    metrics: dict[str, Registered] = field(default_factory=dict)
    attributions: dict[str, Registered] = field(default_factory=dict)
    graders: dict[str, Registered] = field(default_factory=dict)
    records: tuple[PluginRecord, ...] = ()
    observers: dict[str, PluginRecord] = field(default_factory=dict)  # by their name in the manager
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hookspecs.PROJECT), repr=False)

    def task(self, name: str) -> Task:
        """Return a task, or a part of one (``arithmetic/2_digit_addition``), by name.

        A part is the task with the options that the part fixes; raise UnknownNameError with the nearest name.
        """
        value: Task = self._find_task(name).value
        return value

    def _find_task(self, name: str) -> Registered:
        whole, _, part = name.partition("/")
        if name in self.tasks or whole not in self.tasks or not part:
            parts = [f"{task}/{one}" for task, found in self.tasks.items() for one in found.value.subtasks]
            return self._find("task", name, self.tasks, parts)
        found = self.tasks[whole]
        task: Task = found.value
        if part not in task.subtasks:
            if task.family and not task.subtasks:  # it has more parts than it can list
                raise UnknownNameError(f"no part of task {whole!r} can have the name {part!r}")
            raise unknown_name(f"part of task {whole!r}", part, task.subtasks)
        fixed = task.subtasks[part]
        options = {option: default for option, default in task.options.items() if option not in fixed}
        functions: dict[str, Any] = {
            field: partial(function, **fixed)
            for field in ("load", "tuned_on", "fit")
            if (function := getattr(task, field)) is not None
        }
        return replace(found, value=replace(task, name=name, options=options, subtasks={}, family=False, **functions))

    def grader(self, name: str) -> Grader:
        """Return a grader by name; raise UnknownNameError with the nearest name."""
        value: Grader = self._find("grader", name, self.graders).value
        return value

    def metric(self, name: str) -> Metric:
        """Return a metric by name; raise UnknownNameError with the nearest name."""
        value: Metric = self._find("metric", name, self.metrics).value
        return value

    def attribution(self, name: str) -> Callable[..., Any]:
        """Return the accumulator factory of a statistic; raise UnknownNameError with the nearest name."""
        value: Callable[..., Any] = self._find("attribution", name, self.attributions).value
        return value

    def source_hash(self, kind: str, name: str) -> str:
        """Return the source hash of the plugin that brought a ``task``, ``metric``, ``grader`` or ``attribution``."""
        return self.brought_by(kind, name).source_hash or ""

    def brought_by(self, kind: str, name: str) -> PluginRecord:
        """Return the record of the plugin that brought a ``task``, ``metric``, ``grader`` or ``attribution``."""
        known = {"metric": self.metrics, "grader": self.graders, "attribution": self.attributions}
        found = self._find_task(name) if kind == "task" else self._find(kind, name, known[kind])
        return found.plugin

    @property
    def warnings(self) -> list[str]:
        """Return a line for every plugin that could not be loaded."""
        return [
            f"plugin {record.label} could not be loaded: {record.error}"
            for record in self.records
            if record.status == "broken"
        ]

    @property
    def remarks(self) -> list[str]:
        """Return a line for every warning that a plugin gave while it was loaded, and for every name that two plugins have."""
        said = [f"plugin {record.label} warns: {line}" for record in self.records for line in record.warned]
        first: dict[str, PluginRecord] = {}
        for record in self.records:
            if record.status == "ok" and first.setdefault(record.name, record) is not record:
                said.append(
                    f"plugin {record.label} has the name of plugin {first[record.name].label}; --no-plugin {record.name} "
                    "leaves out both, so rename one"
                )
        return said

    def notify(self, hook: str, **arguments: Any) -> list[str]:
        """Call every observer of a hook; what one raises comes back as a line and the others are called."""
        complaints = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            given = {name: arguments[name] for name in implementation.argnames if name in arguments}
            try:
                implementation.function(**given)
            except (Exception, SystemExit) as error:  # an observer never ends a run
                record = self.observers[implementation.plugin_name]
                about = f"cell {getattr(arguments.get('result'), 'key', '')}"
                complaints.append(failure_line(record, hook, error, error_line(error), doing="", about=about))
        return complaints

    def told(self, error: BaseException, about: str = "") -> str:
        """Return an error in one line, with the plugin that raised it where one did; ``about`` is ``cell KEY`` or empty."""
        if isinstance(error, ToldElsewhere):
            return error.told(about)
        if isinstance(error, PluginCallError):
            known = getattr(self, f"{error.call.kind}s")
            found = known.get(error.call.name) or known.get(error.call.name.partition("/")[0])
            return call_failure(found.plugin, error, about) if found else str(error)
        if isinstance(error, SkillNeuronsError):
            return str(error)
        return raw_failure(self.records, error, about) or error_line(error)

    def _find(self, kind: str, name: str, known: Mapping[str, Registered], parts: Sequence[str] = ()) -> Registered:
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, [*known, *parts], n=1)
        error = unknown_name(kind, name, [*known, *(part for part in parts if part in near)])
        if self.warnings:
            raise UnknownNameError(f"{error}; perhaps it is of a broken plugin: {'; '.join(self.warnings)}")
        raise error


def load_registry(plugins: Sequence[str] = (), blocked: Sequence[str] = (), strict: bool = False) -> Registry:
    """Load every plugin that is not blocked; with ``strict`` a broken one raises PluginError."""
    registry = Registry()
    found = list(sources(plugins))
    names = {source.record.name for source in found}
    absent = [name for name in blocked if name not in names]
    if absent:
        raise unknown_name("plugin", absent[0], names)
    registry.manager.add_hookspecs(hookspecs)
    records = []
    for source in found:
        record = source.record
        if record.name in blocked:
            records.append(replace(record, status="blocked"))
            continue
        with aside() as said:
            try:
                placed = located(source)
                record = placed.record
                plugin, record = import_source(placed)
                record = _register(registry, plugin, record)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plugin may fail in any way, or end the program; its record keeps which
                record = broken(record, error)
        records.append(replace(record, warned=tuple(said)) if said else record)
    registry.records = tuple(records)
    if strict and registry.warnings:
        raise PluginError("\n".join(registry.warnings))
    return registry


def _register(registry: Registry, plugin: Any, record: PluginRecord) -> PluginRecord:
    """Register one plugin whole, or nothing of it."""
    hooks = _implemented(registry, plugin)
    if not hooks:
        raise PluginError(
            "registers nothing; a plugin implements one of "
            f"{', '.join(HOOKS)} as a function marked with @skillneurons.hookimpl"
        )
    name = f"{record.kind}:{record.file or record.name}"
    if registry.manager.has_plugin(name) or registry.manager.is_registered(plugin):
        raise PluginError("is given twice; give it once")
    try:
        registry.manager.register(plugin, name)
        registry.manager.check_pending()
        added = _collect(registry, plugin, record, hooks)
    except BaseException:
        if registry.manager.has_plugin(name):
            registry.manager.unregister(plugin)
        raise
    if not any(added.values()) and "cell_finished" not in hooks:
        raise PluginError(f"registers nothing: {', '.join(hooks)} never called register(...)")
    names: dict[str, Any] = {kind: tuple(added[kind]) for kind in KINDS_OF_NAMES}
    record = replace(record, hooks=tuple(hooks), line=_first_line(hooks.values(), record.file), **names)
    registry.observers[name] = record
    for kind, found in added.items():
        getattr(registry, kind).update({name: Registered(value, record) for name, value in found.items()})
    return record


def _implemented(registry: Registry, plugin: Any) -> dict[str, Callable[..., None]]:
    """Return the plugin's functions by the hook that each implements (by its name, or by ``specname``)."""
    hooks: dict[str, Callable[..., None]] = {}
    for name in dir(plugin):
        options = registry.manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in HOOKS and callable(getattr(plugin, name)):
                raise PluginError(f"{name} is not marked as a hook; put @skillneurons.hookimpl above it")
            continue
        hook = options.get("specname") or name
        if hook not in HOOKS:
            raise PluginError(str(unknown_name("hook", hook, HOOKS)))
        hooks[hook] = getattr(plugin, name)
        checked_hook(hook, hooks[hook])
    return {hook: hooks[hook] for hook in HOOKS if hook in hooks}


def _first_line(functions: Iterable[Callable[..., None]], file: str | None) -> int | None:
    """Return where the first of a plugin's hooks begins, as far as they stand in its own file."""
    codes = [code for function in functions if (code := getattr(function, "__code__", None)) is not None]
    return min((code.co_firstlineno for code in codes if file and is_own(code.co_filename, file)), default=None)


def _collect(
    registry: Registry, plugin: Any, record: PluginRecord, hooks: Mapping[str, Callable[..., None]]
) -> dict[str, dict[str, Any]]:
    """Call the plugin's registering hooks and return what it registers, checked, by kind and name."""
    added: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS_OF_NAMES}

    def add(kind: str, name: str, value: Any) -> None:
        before = getattr(registry, kind).get(name)
        if before is not None:
            raise PluginError(
                f"{kind[:-1]} {name!r} is already taken by plugin {before.plugin.label}; choose another name"
            )
        if name in added[kind]:
            raise PluginError(f"registers the {kind[:-1]} {name!r} twice")
        added[kind][name] = value

    registrars: dict[str, Callable[..., None]] = {
        "register_tasks": lambda task: add("tasks", checked_task(task).name, task),
        "register_metrics": lambda metric: add("metrics", checked_metric(metric).name, metric),
        "register_attributions": lambda name, factory: add("attributions", *checked_attribution(name, factory)),
        "register_graders": lambda grader: add("graders", checked_grader(grader).name, grader),
    }
    for hook, registrar in registrars.items():
        if hook in hooks:
            hooks[hook](registrar)
    return added


@lru_cache(maxsize=8)
def _registry_of(plugins: tuple[str, ...]) -> Registry:
    return load_registry(plugins)


def get_task(name: str, plugins: Sequence[str] = ()) -> Task:
    """Return a task of the built-ins, the installed plugins and ``plugins`` (files, folders, modules)."""
    return _registry_of(tuple(plugins)).task(name)


def get_grader(name: str, plugins: Sequence[str] = ()) -> Grader:
    """Return a grader of the built-ins, the installed plugins and ``plugins`` (files, folders, modules)."""
    return _registry_of(tuple(plugins)).grader(name)


def get_metric(name: str, plugins: Sequence[str] = ()) -> Metric:
    """Return a metric of the built-ins, the installed plugins and ``plugins`` (files, folders, modules)."""
    return _registry_of(tuple(plugins)).metric(name)


def get_attribution(name: str, plugins: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the accumulator factory of a statistic of the built-ins, the installed plugins and ``plugins``."""
    return _registry_of(tuple(plugins)).attribution(name)
