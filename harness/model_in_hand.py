"""The model that a runner has loaded: one at a time, loaded when work for it comes and kept until another is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.run_context import RunContext


class ModelInHand:
    """Gives a model by name, and loads it where it is another than before; what belongs to the one before goes first."""

    def __init__(self) -> None:
        self._name, self._lm = "", None  # type: tuple[str, LanguageModel | None]

    def of(self, context: RunContext, name: str) -> LanguageModel:
        """Return a model; raise ModelError where it cannot be loaded."""
        if self._lm is None or self._name != name:
            self._lm = None
            context.kept.clear()  # what seeds share is of the model before
            self._name, self._lm = name, load(context, name)
        return self._lm


def load(context: RunContext, name: str) -> LanguageModel:
    """Load a model as the config says, and tell how the cached path compares with the plain one."""
    from skillneurons.loading import load_model

    context.display.say(f"loading {name}")
    settings = context.config.model.model_dump(exclude={"too_long"})
    lm = load_model(name, device=context.config.device, **settings)
    if lm.parity is not None:
        context.display.say(
            f"{name}: the cached path differs from the plain forward pass by {lm.parity.distribution:.1e} (total variation), "
            f"activations by {lm.parity.activations:.1e} of the largest"
        )
    return lm
