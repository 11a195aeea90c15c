"""Import plugins one by one, so that a broken one is named and disturbs nothing else.

A plugin is a built-in (a dotted name), an installed entry point of the group ``skillneurons``, a
module, a file, or every ``*.py`` file of a folder whose name does not begin with ``_``. What is known
of each stands in its :class:`PluginRecord`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from skillneurons import __version__
from skillneurons.errors import PluginError
from skillneurons.plugin_hash import family, source_hash
from skillneurons.plugin_record import PluginRecord
from skillneurons.plugins_installed import GROUP, installed

BUILTINS = (
    "skillneurons.tasks.arithmetic",
    "skillneurons.tasks.hans",
    "skillneurons.tasks.skillmix",
    "skillneurons.tasks.skillmix_rules",
    "skillneurons.plugins.confidence",
    "skillneurons.plugins.labels",
    "skillneurons.plugins.heuristics",
    "skillneurons.plugins.pearson",
    "skillneurons.plugins.mean_difference",
    "skillneurons.plugins.predictivity",
    "skillneurons.plugins.auroc",
    "skillneurons.plugins.spearman",
    "skillneurons.plugins.grad_x_activation",
    "skillneurons.plugins.grader_judge",
    "skillneurons.plugins.grader_api",
    "skillneurons.plugins.lm_eval",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A plugin that is about to be imported: its record so far, and what to import (or the ``fault`` that forbids it)."""

    record: PluginRecord
    module: str | None = None
    path: Path | None = None
    attribute: str = ""
    fault: str = ""


def sources(plugins: Sequence[str]) -> Iterator[Source]:
    """Yield the built-ins, the installed entry points, and what the user named, in this order.

    Raise PluginError for a path that does not exist or a folder without a plugin: the user asked for it.
    """
    for name in BUILTINS:
        builtin = PluginRecord(name.rpartition(".")[2], "builtin", distribution=GROUP, version=__version__)
        yield Source(builtin, module=name)
    for point in installed():
        record = PluginRecord(
            point.name, "entry point", distribution=point.distribution, version=point.version, entry_point=point.value
        )
        module, _, attribute = point.value.partition(":")
        yield Source(record, module=module.strip(), attribute=attribute.strip(), fault=point.fault)
    for name in plugins:
        yield from _named(name)


def _named(name: str) -> Iterator[Source]:
    if not name.strip():
        raise PluginError(
            f"plugin {name!r}: an empty name; give a file, a folder ('.' is this one) or an importable module"
        )
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        if not files:
            raise PluginError(f"plugin folder {name!r} has no *.py file (names beginning with '_' are passed over)")
        yield from (Source(PluginRecord(file.stem, "file", file=str(file)), path=file) for file in files)
    elif path.is_file() or name.endswith(".py") or "/" in name:
        if not path.is_file():
            raise PluginError(f"plugin {name!r}: no such file; give a file, a folder or an importable module")
        yield Source(PluginRecord(path.stem, "file", file=name), path=path)
    else:
        yield Source(PluginRecord(name, "module"), module=name)


def located(source: Source) -> Source:
    """Return a source with its module's file, found before the module runs, so that a failure has a place."""
    spec = importlib.util.find_spec(source.module) if source.module else None
    if spec is None or not spec.has_location or spec.origin is None:
        return source
    return replace(source, record=replace(source.record, file=spec.origin))


def import_source(source: Source) -> tuple[Any, PluginRecord]:
    """Import a plugin and return it with its record filled in (file and source hash)."""
    if source.fault:
        raise PluginError(source.fault)
    plugin: Any = _import_file(source.path) if source.path is not None else importlib.import_module(str(source.module))
    for name in filter(None, source.attribute.split(".")):
        plugin = getattr(plugin, name)
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(getattr(plugin, "__module__", ""))
    file = getattr(module, "__file__", None)
    record = source.record
    if file is not None:
        record = replace(record, file=record.file or str(file), source_hash=source_hash(Path(file)))
    return plugin, record


@contextlib.contextmanager
def aside() -> Iterator[list[str]]:
    """Run a plugin's code: what it prints goes to stderr, and its warnings are collected as lines.

    Standard output belongs to the command (``--json``); only what goes past ``sys.stdout`` still reaches it.
    """
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(sys.stderr):
        try:
            yield said
        finally:
            said += [
                f"{one.category.__name__}: {' '.join(str(one.message).split())} ({one.filename}:{one.lineno})"
                for one in caught
            ]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name of its own; a failed import leaves nothing behind.

    The file may import the files beside it, also later from inside a function, so its folder joins the
    end of ``sys.path``: nothing there hides an installed module.
    """
    place = path.resolve()
    name = f"skillneurons_plugin_{place.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {str(path)!r} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(place.parent)
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    sys.modules[name] = module
    try:
        _none_hidden(place)
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if added:
            sys.path.remove(folder)
        raise
    return module


def _none_hidden(file: Path) -> None:
    """Raise PluginError if a name the file imports means a file beside it but would give another module."""
    for beside in family(file):
        if beside == file or beside.stem in sys.stdlib_module_names:
            continue
        spec = importlib.util.find_spec(beside.stem)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != beside:
            raise PluginError(f"imports {beside.name} beside it, but {spec.origin} has the same name; rename one")
