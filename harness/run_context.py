"""What every step of one run needs: its config, its plugins, its folder, its display, its remarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skillneurons.config import Config
from skillneurons.progress import Progress
from skillneurons.registry import Registry
from skillneurons.results import ResultsFolder

if TYPE_CHECKING:
    from skillneurons.planting import Plant


@dataclass(frozen=True)
class RunContext:
    """One run; ``notes`` collects what a person should read at its end, ``plant`` replaces activations (selftest)."""

    config: Config
    registry: Registry
    folder: ResultsFolder
    display: Progress
    notes: list[str] = field(default_factory=list)
    plant: Plant | None = None
