"""Checks of a plugin as a whole: it loads, costs nothing to import, and registers the same every time."""

from __future__ import annotations

from typing import Any

from skillneurons.testing.checks import NotApplicable, check
from skillneurons.testing.subjects import PluginCase

KINDS = ("tasks", "metrics", "attributions", "graders")


@check("plugin", "loads")
def loads(case: PluginCase) -> str | None:
    """The loader imports it and registers all that it brings."""
    record = case.record
    if record.status == "blocked":
        raise NotApplicable(f"plugin {record.label} is blocked")
    return f"plugin {record.label} could not be loaded: {record.error}" if record.status == "broken" else None


@check("plugin", "light")
def light(case: PluginCase) -> str | None:
    """Importing and registering work in a fresh process too and load no heavy library."""
    if isinstance(case.context.fresh_outcome, str):
        return f"{case.subject}: {case.context.fresh_outcome}; importing must end, and leave the process alone"
    found = case.context.fresh["imports"].get(case.record.name, {"heavy": [], "error": ""})
    if found["error"]:
        return f"{case.subject}: importing it in a fresh process fails: {found['error']}; it must not depend on what is loaded already"
    heavy = found["heavy"]
    if heavy:
        return (
            f"{case.subject}: importing and registering it loads {', '.join(heavy)}; every command waits for that, so "
            "import heavy libraries inside the functions that use them"
        )
    return None


@check("plugin", "same names")
def same_names(case: PluginCase) -> str | None:
    """Every process registers the same names."""
    found = case.context.fresh["names"].get(case.record.name, {})
    for kind in KINDS:
        mine, theirs = sorted(getattr(case.record, kind)), sorted(found.get(kind, []))
        if mine != theirs:
            return (
                f"{case.subject}: registers the {kind} {', '.join(mine) or 'none'}, in a fresh process "
                f"{', '.join(theirs) or 'none'}; names must not depend on hash(), the time or chance"
            )
    return None


@check("plugin", "texts")
def texts(case: PluginCase) -> str | None:
    """Versions and descriptions are texts, and no version is empty."""
    registry = case.context.registry
    for kind in ("tasks", "metrics", "graders"):
        for name in getattr(case.record, kind):
            value: Any = getattr(registry, kind)[name].value
            version = value.version
            if not isinstance(version, str) or not version:
                return (
                    f"{kind[:-1]} {name}: version {version!r} must be a text that is not empty, such as '1'; "
                    "it tells results of old data from new ones"
                )
            if not isinstance(value.description, str):
                return f"{kind[:-1]} {name}: description {value.description!r} must be a text"
    return None
