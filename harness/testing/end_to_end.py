"""A plugin run end to end on the embedded model, small: what shows that it works with the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillneurons.errors import PluginError
from skillneurons.results import Result


def run_small(plugin: str, output: Path, small: Mapping[str, str], settings: Mapping[str, Any]) -> list[Result]:
    """Run what a plugin brings: its tasks (else ``arithmetic``), metrics (else ``confidence``), first statistic.

    ``small`` are settings that its caller may change; ``settings`` are keywords of ``load_config``. Raise PluginError
    where the plugin cannot be loaded.
    """
    from skillneurons.config import load_config
    from skillneurons.runner import run_config
    from skillneurons.testing.subjects import Context, wanted_sources

    context = Context(plugin)
    for record in context.records:
        if record.status != "ok":
            raise PluginError(f"plugin {record.label} could not be loaded: {record.error}")
    tasks, metrics, statistics = (
        [name for record in context.records for name in getattr(record, kind)]
        for kind in ("tasks", "metrics", "attributions")
    )
    chosen = {**small, **({"attribution.statistic": statistics[0]} if statistics else {})}
    given: dict[str, Any] = {
        "models": ["pocket"],
        "tasks": tasks or ["arithmetic"],
        "metrics": metrics or ["confidence"],
        "seeds": [0],
        "device": "cpu",
        **settings,
    }
    overrides = [*(f"{name}={value}" for name, value in chosen.items()), *given.pop("overrides", ())]
    config = load_config(
        None,
        overrides,
        blank=True,
        output=str(output),
        plugins=wanted_sources(plugin)[1],
        registry=context.registry,
        **given,
    )
    return run_config(config, context.registry, progress=False).results
