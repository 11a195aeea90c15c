"""The local executor: this process runs all units in order, model by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skillneurons.across_turn import run_across, units_together
from skillneurons.errors import ModelError
from skillneurons.model_in_hand import load
from skillneurons.plan import Unit
from skillneurons.run_context import RunContext
from skillneurons.turns import run_in_turns
from skillneurons.unit_cells import run_unit

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel


class LocalExecutor:
    """Runs units in this process; a model is loaded only if there is something to do for it."""

    def execute(self, context: RunContext, units: Sequence[Unit]) -> None:
        """Run what is open of the units, and what concerns several of them."""
        for model in dict.fromkeys(unit.model for unit in units):
            self._run_model(context, [unit for unit in units if unit.model == model])

    def _run_model(self, context: RunContext, units: Sequence[Unit]) -> None:
        pending = [unit for unit in units if unit.pending]
        lm: LanguageModel | None = None
        model_error: ModelError | None = None
        if any(unit.data.error is None for unit in pending):
            try:
                lm = load(context, units[0].model)
            except ModelError as error:
                if len(context.config.models) == 1:
                    raise
                model_error = error
        run_in_turns(context, pending, lambda unit: run_unit(context, unit, lm, unit.data.error or model_error))
        context.kept.clear()  # what seeds share is of this model
        if model_error is not None:
            return

        def model() -> LanguageModel:
            nonlocal lm
            lm = lm or load(context, units[0].model)
            return lm

        for own in units_together(context, units):
            run_across(context, own, model)
