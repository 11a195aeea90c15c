"""What is installed where work is done: the versions and sources that its numbers depend on, and how two places differ.

The package itself counts by its version and by a hash over its source files, so that two checkouts of one version are told apart.
Versions are read from the metadata: nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from skillneurons.config import Config
from skillneurons.errors import UnknownNameError
from skillneurons.registry import Registry

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pyarrow")  # the last two: intervals, and files
FOLDERS = ("skillneurons", "skillneurons.plugins", "skillneurons.tasks", "skillneurons.leaderboard")
SOURCE = "skillneurons' source files"


def installed() -> dict[str, str]:
    """Return the versions of Python, of the package with its sources, and of what it computes with."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: _version(name) for name in ("skillneurons", *LIBRARIES)}, SOURCE: package_hash()}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


@cache
def package_hash() -> str:
    """Return a hash over the package's source files, the same for every way it can be installed."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[tuple[str, Path]]:
    for package in FOLDERS:
        for folder in map(Path, importlib.import_module(package).__path__):
            for path in folder.glob("*.py"):
                yield f"{package}/{path.name}", path


def brought(config: Config, registry: Registry) -> dict[str, str]:
    """Return, for each task, metric and statistic of a config, the plugin that brought it: name, version and source hash."""
    names = [("task", name) for name in config.tasks] + [("metric", name) for name in config.metrics]
    found = {}
    for kind, name in [*names, ("attribution", config.attribution.statistic)]:
        try:
            plugin = registry.brought_by(kind, name)
        except UnknownNameError as error:
            found[f"{kind} {name!r}"] = f"is not there: {error}"
            continue
        version = f" {plugin.version}" if plugin.version else ""
        found[f"{kind} {name!r}"] = f"is of plugin {plugin.name}{version}, source {plugin.source_hash or 'unknown'}"
    return found


def other_installation(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return what is installed otherwise there and what mends it, empty where it is the same."""
    names = [name for name in here if there.get(name) != here[name]]
    if not names:
        return ""
    if names == [SOURCE]:
        return (
            f"has other source files of skillneurons {here['skillneurons']} (hash {there.get(SOURCE, 'none')}, here "
            f"{here[SOURCE]}); install the same skillneurons on every node"
        )
    wrong = [name for name in names if name != SOURCE or "skillneurons" not in names]
    told = ", ".join(f"{name} {there.get(name, 'none')} (here {here[name]})" for name in wrong)
    return f"has {told}; install the same versions on every node"


def other_plugins(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return which of the plugins' names comes from elsewhere there and what mends it, empty where all are the same."""
    told = [
        f"{name} {there.get(name, 'is not there')} (here it {here[name]})"
        for name in here
        if there.get(name) != here[name]
    ]
    return f"has other plugins: {'; '.join(told)}; give every node the same plugins" if told else ""
