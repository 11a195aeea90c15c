"""The entry points of the group ``skillneurons`` among all installed distributions, each for itself.

A distribution whose metadata cannot be read must not hide the others', so each is read on its own, and
only what is needed: ``entry_points.txt`` of all, ``Name`` and ``Version`` of those that bring a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

GROUP = "skillneurons"
VALUE = re.compile(r"[\w.]+(\s*:\s*[\w.]+)?(\s*\[.*\])?")


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """An entry point (``value``: ``module`` or ``module:object``), its distribution, and what is wrong with it."""

    name: str
    value: str
    distribution: str | None
    version: str | None
    fault: str = ""


def installed() -> list[InstalledPlugin]:
    """Return the installed plugins by name; of one distribution found twice on the path, the first counts."""
    found: list[InstalledPlugin] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except UnicodeDecodeError as error:  # nobody can say whether it brings a plugin, so it is named
            name, version = identity(distribution)
            fault = f"its entry_points.txt is not UTF-8 text ({error.reason}, byte {error.start}); install it again"
            found.append(InstalledPlugin(name or str(distribution.locate_file("")), "", name, version, fault))
            continue
        if GROUP not in text:
            continue
        points = list(_of_group(text))
        if not points:
            continue
        name, version = identity(distribution)
        same = re.sub(r"[-_.]+", "-", name or str(distribution.locate_file(""))).lower()
        if same in seen:
            continue
        seen.add(same)
        found += [_plugin(line, name, version) for line in points]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.value, plugin.distribution or ""))


def identity(distribution: metadata.Distribution) -> tuple[str | None, str | None]:
    """Return name and version of a distribution, None where its metadata does not say them."""
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except UnicodeDecodeError:  # then neither is known; what it brings is loaded all the same
        text = ""
    said: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():  # the headers end here
            break
        key, colon, value = line.partition(":")
        if colon and value.strip():
            said.setdefault(key.strip().lower(), value.strip())
    return said.get("name"), said.get("version")


def _of_group(text: str) -> Iterator[str]:
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif line and not line.startswith(("#", ";")) and section == GROUP:
            yield line


def _plugin(line: str, distribution: str | None, version: str | None) -> InstalledPlugin:
    name, equals, value = (part.strip() for part in line.partition("="))
    fault = ""
    if not equals or not name or not VALUE.fullmatch(value):
        fault = f"entry point {line!r} is not of the form 'name = module' or 'name = module:object'"
    return InstalledPlugin(name, re.sub(r"\s*\[.*\]$", "", value), distribution, version, fault)
