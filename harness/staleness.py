"""What of a cell is not what a run would measure now: other sources, another model, a part that is unfinished, a failure.

Only what can be told without a network is told: plugins as they are loaded here, embedded models, and models in local folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from skillneurons.complaint import Complaint
from skillneurons.errors import SkillNeuronsError, UnknownNameError
from skillneurons.file_faults import told
from skillneurons.model_source import EMBEDDED, resolve_model
from skillneurons.registry import Registry
from skillneurons.results import Result

AGAIN = "run again: what it measures now is another cell, and this one stays"


class Staleness:
    """What is loaded here, compared with what cells were measured with; each plugin and model is looked at once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded = cache(self._find)
        self._revision = cache(_local_revision)

    def of(self, cell: Result, path: str) -> Iterator[Complaint]:
        """Yield what is stale about a cell, and what cannot be told about it."""
        yield from _unfinished(cell, path)
        yield from self.of_plugins(cell, path)
        yield from self.of_model(cell, path)

    def of_plugins(self, cell: Result, path: str) -> Iterator[Complaint]:
        """Yield which plugins of a cell are others here, or not here."""
        for kind, about in (("task", cell.task), ("metric", cell.metric), ("grader", cell.task.get("grader"))):
            if about:
                yield from self._plugin(kind, about, path)

    def of_model(self, cell: Result, path: str) -> Iterator[Complaint]:
        """Yield that the model of a cell is another here."""
        name, revision = str(cell.model["name"]), cell.model["revision"]
        here = self._revision(name)
        if here is not None and revision is not None and here != revision:
            yield Complaint(
                "stale",
                path,
                f"model {told(repr(name))} has changed since it was measured (revision {told(revision)}, now {here})",
                AGAIN,
            )

    def _plugin(self, kind: str, about: Mapping[str, Any], path: str) -> Iterator[Complaint]:
        name = str(about["name"])
        here = self._loaded(kind, name)
        if here is None:
            what = f"{kind} {told(repr(name))} is not loaded here, so whether it has changed cannot be told"
            yield Complaint("remark", "cells", what, "give its plugin with -p")
            return
        for what, now in (("version", here[0]), ("source_hash", here[1])):
            then = about.get(what)
            if then and now and then != now:
                said = f"{what.replace('_hash', '')} {told(then)}, now {now}"
                yield Complaint("stale", path, f"{kind} {name!r} has changed since it was measured ({said})", AGAIN)
                return

    def _find(self, kind: str, name: str) -> tuple[str, str] | None:
        """Return version and source hash of what is loaded under a name."""
        find: Mapping[str, Any] = {
            "task": self._registry.task,
            "metric": self._registry.metric,
            "grader": self._registry.grader,
        }
        try:
            return str(find[kind](name).version), self._registry.source_hash(kind, name)
        except UnknownNameError:
            return None


def _unfinished(cell: Result, path: str) -> Iterator[Complaint]:
    """Yield that a cell failed, or that its causal part is not there yet."""
    causal = cell.causal or {}
    if cell.status == "failed":
        message = told((cell.error or {}).get("message", "no reason was saved"))
        yield Complaint("stale", path, f"it failed: {message}", "mend the cause; the next run tries it again")
    elif "error" in causal:
        what = f"its causal part failed: {told(causal['error'])}; its correlations stand"
        yield Complaint("stale", path, what, "the next run tries it again")
    elif causal.get("pending"):
        what = "its causal part was broken off; its correlations stand"
        yield Complaint("stale", path, what, "the next run finishes it")


def _local_revision(name: str) -> str | None:
    """Return the revision of a model that is embedded or in a local folder; None for any other."""
    try:
        if name in EMBEDDED or Path(name).is_dir():
            return resolve_model(name)[1]
    except (SkillNeuronsError, OSError, ValueError):
        return None  # no model any more: nothing to compare with
    return None
