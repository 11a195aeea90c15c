"""The causal part of a finished cell, and the cards of its strongest neurons; what goes wrong is said, and takes nothing back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skillneurons.atomic import make_folder
from skillneurons.causal import causal_part, columns_to_test
from skillneurons.effects import first_failure
from skillneurons.errors import SkillNeuronsError, StorageError
from skillneurons.plan import PlannedCell, Unit
from skillneurons.results import write_json_atomic
from skillneurons.run_context import RunContext

if TYPE_CHECKING:
    from skillneurons.unit import UnitResult


def causal_of_cell(context: RunContext, unit: Unit, cell: PlannedCell, measured: UnitResult) -> dict[str, Any] | None:
    """Return the causal part of a finished cell; what goes wrong is its ``error``. None where it is switched off."""
    settings = context.config.causal
    if not settings.enabled or measured.bed is None:
        return None
    names = columns_to_test(settings, unit.data.task, cell.metric.name, measured.columns(cell.columns))
    n = sum(not reason for reason in names.values())
    if not n:
        return {"columns": {name: {"reason": reason} for name, reason in names.items()}}
    label = f"{unit.model} {unit.data.task.name} seed {unit.seed}: {cell.metric.name}: ablation and steering"
    _save_cards(context, cell, measured, [name for name, reason in names.items() if not reason])
    with context.display.work(label, n) as step:
        try:
            part = causal_part(
                settings,
                measured.bed(cell.metric.name),
                measured.attribution,
                names,
                bootstrap=context.config.attribution.bootstrap,
                progress=step,
            )
            if "error" in part:
                context.notes.append(f"{cell.key}: its causal part failed: {part['error']}; the next run tries again")
            return part
        except StorageError:
            raise
        except SkillNeuronsError as error:  # cannot be done with these settings; the correlations stay
            reason = " ".join(context.registry.told(error, f"cell {cell.key}").split())
            context.notes.append(f"{cell.key}: no causal part: {reason}")
            return {"columns": {name: {"reason": why or reason} for name, why in names.items()}}
        except (Exception, SystemExit) as error:  # the correlations stay, with this reason beside them
            reason = context.registry.told(error, f"cell {cell.key}")
            context.notes.append(f"{cell.key}: its causal part failed: {reason}; the next run tries again")
            return {"columns": {name: {"reason": why or reason} for name, why in names.items()}, "error": reason}


def _save_cards(context: RunContext, cell: PlannedCell, measured: UnitResult, columns: Sequence[str]) -> None:
    """Save what the cards of the strongest neurons need of the model."""
    settings = context.config.causal
    if not settings.cards or measured.cards is None:
        return
    try:
        cards = measured.cards(columns, settings.cards)
        make_folder(context.folder.cards)
        path = context.folder.cards / f"{cell.key}.json"
        write_json_atomic(path, {"key": cell.key, **cards})
        context.folder.publish(path)
    except StorageError:
        raise
    except Exception as error:  # a card is worth less than the cell's figures, which stay
        context.notes.append(
            f"{cell.key}: no neuron cards: {first_failure(error)}; delete the cell to have them tried again"
        )
