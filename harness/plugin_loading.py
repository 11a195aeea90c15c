"""Import plugins one by one, so that a broken one is named and disturbs nothing else.

A plugin is a built-in (a dotted name), an installed entry point of the group ``skillneurons``, a
module, a file, or every ``*.py`` file of a folder whose name does not begin with ``_``. What is known
of each stands in its :class:`PluginRecord`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from skillneurons.errors import PluginError

GROUP = "skillneurons"
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
class PluginRecord:
    """Where a plugin comes from, whether it could be loaded, and what it registered."""

    name: str
    kind: Literal["builtin", "entry point", "module", "file"]
    status: Literal["ok", "broken", "blocked"] = "ok"
    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None
    file: str | None = None
    line: int | None = None
    source_hash: str | None = None
    error: str | None = None
    tasks: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    graders: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return name, version and place: ``mine 1.2 (mine.py:3)``."""
        version = f" {self.version}" if self.version else ""
        line = f":{self.line}" if self.line else ""
        return f"{self.name}{version}" + (f" ({self.file}{line})" if self.file else "")


@dataclass(frozen=True, slots=True)
class Source:
    """A plugin that is about to be imported: its record so far, and what to import."""

    record: PluginRecord
    module: str | None = None
    path: Path | None = None
    entry_point: metadata.EntryPoint | None = None


def sources(plugins: Sequence[str]) -> Iterator[Source]:
    """Yield the built-ins, the installed entry points, and what the user named, in this order.

    Raise PluginError for a path that does not exist or a folder without a plugin: the user asked for it.
    """
    for name in BUILTINS:
        version = metadata.version(GROUP)
        yield Source(PluginRecord(name.rpartition(".")[2], "builtin", distribution=GROUP, version=version), module=name)
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        dist = point.dist
        record = PluginRecord(
            point.name,
            "entry point",
            distribution=dist.name if dist else None,
            version=dist.version if dist else None,
            entry_point=point.value,
        )
        yield Source(record, entry_point=point)
    for name in plugins:
        yield from _named(name)


def _named(name: str) -> Iterator[Source]:
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
    name = source.entry_point.module if source.entry_point is not None else source.module
    spec = importlib.util.find_spec(name) if name else None
    if spec is None or not spec.has_location or spec.origin is None:
        return source
    return replace(source, record=replace(source.record, file=spec.origin))


def import_source(source: Source) -> tuple[Any, PluginRecord]:
    """Import a plugin and return it with its record filled in (file and source hash)."""
    if source.entry_point is not None:
        plugin = source.entry_point.load()
    elif source.path is not None:
        plugin = _import_file(source.path)
    else:
        plugin = importlib.import_module(str(source.module))
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(getattr(plugin, "__module__", ""))
    file = getattr(module, "__file__", None)
    record = source.record
    if file is not None:
        record = replace(record, file=record.file or str(file), source_hash=source_hash(Path(file)))
    return plugin, record


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
    for beside in _family(file):
        if beside == file or beside.stem in sys.stdlib_module_names:
            continue
        spec = importlib.util.find_spec(beside.stem)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != beside:
            raise PluginError(f"imports {beside.name} beside it, but {spec.origin} has the same name; rename one")


def source_hash(file: Path) -> str:
    """Return a hash over a module's source and the modules beside it that it imports, directly or not."""
    family = _family(file.resolve())
    digest = hashlib.sha256()
    for path in sorted(family):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(family[path]).digest())
    return digest.hexdigest()[:16]


def _family(file: Path) -> dict[Path, bytes]:
    """Return a module's file and those beside it that it imports, directly or not, each with its source."""
    seen: dict[Path, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".py":
            continue
        seen[path] = path.read_bytes()
        names = {part for name in _imported(seen[path]) for part in name.split(".")}
        waiting += [beside for name in names if (beside := path.parent / f"{name}.py").is_file()]
    return seen


def _imported(source: bytes) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # such a file counts by its bytes; importing it tells what is wrong
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (alias.name for alias in node.names)


def broken(record: PluginRecord, error: BaseException) -> PluginRecord:
    """Return the record of a plugin that failed, with the line of its own file where it happened."""
    file, line = record.file, None
    elsewhere = ""
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename, file):
        line = error.lineno
    else:
        if isinstance(error, SyntaxError) and error.filename:
            elsewhere = f" ({error.filename}:{error.lineno})"
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if _is_own(frame.filename, file):
                file, line = file or frame.filename, frame.lineno
                break
    if isinstance(error, PluginError):
        reason = str(error)
    else:
        text = f"{error.msg}{elsewhere}" if isinstance(error, SyntaxError) else str(error)
        reason = f"{type(error).__name__}: {' '.join(str(text).split())}"
    return replace(record, status="broken", error=reason, file=file, line=line, tasks=(), metrics=(), attributions=())


def _is_own(name: str, file: str | None) -> bool:
    """Return whether a file is the plugin's; while that is unknown, any but this package's and importlib's."""
    if file is not None:
        return Path(name).resolve() == Path(file).resolve()
    return not name.startswith("<") and "importlib" not in name and Path(name).parent != Path(__file__).parent
