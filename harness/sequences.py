"""Some feed-forward layers (OPT's, mixtures of experts) run the tokens of all sequences as one row; this tells them apart."""

from __future__ import annotations

from typing import Any

import torch
from skillneurons.model import LanguageModel


class Sequences:
    """Knows, while hooks are in place, how many sequences the running forward pass has."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm, self._n = lm, 1

    def watch(self) -> Any:
        """Return the handle of a hook on the whole model; ``apart`` is right for as long as it stays."""

        def begin(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args)
            self._n = next(len(one) for one in given if isinstance(one, torch.Tensor))

        return self._lm.model.register_forward_pre_hook(begin, with_kwargs=True)

    def apart(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (sequences, positions, width), whether the sequences come apart or as one row of tokens."""
        return tokens if tokens.dim() == 3 else tokens.reshape(self._n, -1, tokens.shape[-1])
