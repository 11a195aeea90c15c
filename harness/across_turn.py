"""What concerns several tasks of a model and seed, when its turn comes: whether it is to be measured now, and measuring it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skillneurons.across_state import Side, across_key, is_measured, nothing_left, sides_of, unfinished_cells
from skillneurons.atomic import make_folder
from skillneurons.errors import StorageError
from skillneurons.plan import Unit
from skillneurons.run_context import RunContext

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel


@dataclass(frozen=True, eq=False)
class AcrossTurn:
    """What is to be measured: the tasks that take part, why others do not, and the key it is saved under."""

    sides: Sequence[Side]
    absent: Mapping[str, str]
    key: str


def units_together(context: RunContext, units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the units of each model and seed that are tested against each other; none where that is switched off."""
    settings = context.config.causal
    if not (settings.enabled and settings.across):
        return []
    found: dict[tuple[str, int], list[Unit]] = {}
    for unit in units:
        found.setdefault((unit.model, unit.seed), []).append(unit)
    return [own for own in found.values() if len(own) > 1]


def open_across(context: RunContext, own: Sequence[Unit]) -> AcrossTurn | None:
    """Return what is still to be measured of units of one model and seed; None where there is nothing, told where it should."""
    seed = own[0].seed
    if nothing_left(context, seed, own):
        return None
    open_cells = [key for unit in own for key in unfinished_cells(context, unit)]
    if open_cells:
        context.notes.append(
            f"across tasks, seed {seed}: not measured yet: the causal part of {len(open_cells)} cells is not finished "
            f"({', '.join(open_cells)}); the next run tries again"
        )
        return None
    sides, absent = sides_of(context.folder, own)
    if len(sides) < 2:
        told = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        context.notes.append(f"across tasks, seed {seed}: not measured, it needs two tasks ({told})")
        return None
    key = across_key(context.config, seed, (cell.key for side in sides for cell in side.cells))
    return None if _is_measured(context, key) else AcrossTurn(sides, absent, key)


def run_across(context: RunContext, own: Sequence[Unit], model: Callable[[], LanguageModel]) -> None:
    """Measure what concerns several tasks of one model and seed, where that is to be done; one runner does it."""
    turn = open_across(context, own)
    if turn is None:
        return
    make_folder(context.folder.across)
    try:
        with context.locks.held(turn.key, waiting=lambda who: context.say_waiting("what concerns several tasks", who)):
            if not _is_measured(context, turn.key):
                from skillneurons.across import measure_across

                measure_across(context, model(), turn.sides, turn.key, turn.absent)
    except StorageError:
        raise
    except Exception as error:  # the cells are finished and saved; this part alone is missing
        told = context.registry.told(error)
        context.notes.append(f"across tasks, seed {own[0].seed}: not measured: {told}")


def _is_measured(context: RunContext, key: str) -> bool:
    return is_measured(context.folder.fetched(context.folder.across / f"{key}.json"))
