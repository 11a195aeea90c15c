"""What every step of one run needs: its config, its plugins, its folder, its display, its remarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skillneurons.config import Config
from skillneurons.interruption import Interruption
from skillneurons.locks import Locks
from skillneurons.progress import Progress
from skillneurons.registry import Registry
from skillneurons.results import Result, ResultsFolder

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.plan import Unit
    from skillneurons.planting import Plant
    from skillneurons.shards import ShardRunner


@dataclass(frozen=True)
class RunContext:
    """One run; ``notes`` collects what a person should read at its end, ``plant`` replaces activations (selftest).

    ``kept`` holds what the seeds of one model and task share, under a name, with what it was made for.
    """

    config: Config
    registry: Registry
    folder: ResultsFolder
    display: Progress
    locks: Locks
    interruption: Interruption
    notes: list[str] = field(default_factory=list)
    plant: Plant | None = None
    planned: Mapping[str, tuple[int, int] | None] = field(
        default_factory=dict
    )  # stamps of open cells as they were planned
    known: Mapping[str, bool] = field(
        default_factory=dict
    )  # finished cells that need no reading: whether they were tested
    unfinished: list[str] = field(default_factory=list)  # cells that have their correlations, but no causal part yet
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    observed: Callable[[Result], None] | None = None  # who tells the observers of a finished cell; none: this run does
    tried_again: bool = False  # whether a unit that fails by no rule of ours is raised, to be tried again, not saved
    runners: Callable[[Unit, LanguageModel], Sequence[ShardRunner]] | None = None  # who runs shards; none: this process

    def say_waiting(self, what: str, who: str) -> None:
        """Tell that something is in the hands of another runner, on the screen and at the end."""
        self.display.say(f"waiting for {who}, who has {what} in hand")
        self.notes.append(f"waited for {who}, who had {what} in hand")

    def tell_finished(self, result: Result) -> None:
        """Tell the observers that a cell is saved; what goes wrong with them is a remark."""
        if self.observed is not None:
            self.observed(result)
        else:
            self.notes.extend(self.registry.notify("cell_finished", result=result))

    def shared(self, name: str, made_for: Any, make: Callable[[], Any]) -> Any:
        """Return what was made under a name for the same purpose, or make it; what was made for another goes first."""
        known = self.kept.get(name)
        if known is None or known[0] != made_for:
            self.kept.pop(name, None)
            known = self.kept[name] = (made_for, make())
        return known[1]
