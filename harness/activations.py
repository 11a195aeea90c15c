"""Record feed-forward activations: the input of each block's output projection.

What is recorded is what multiplies a neuron's output vector: ``act(gate(x)) * up(x)`` in a gated
block, ``act(fc(x))`` in a plain one, read at the last position of the running sequence or averaged
over its last positions.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from skillneurons.model import LanguageModel


class ActivationRecorder:
    """A context in which forward passes leave their activations.

    ``last_positions`` is the number of positions averaged (1 = the last one alone). Only passes run
    while ``enabled`` are recorded, so that answer tokens can be run without touching the reading.
    """

    def __init__(self, lm: LanguageModel, last_positions: int = 1) -> None:
        self.lm, self.last_positions, self.enabled = lm, last_positions, True
        self._rows: dict[int, torch.Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> ActivationRecorder:
        for layer, projection in enumerate(self.lm.projections):
            self._handles.append(projection.register_forward_pre_hook(self._hook(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, layer: int) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def record(_module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            if self.enabled:
                read = args[0].detach()[:, -self.last_positions :]  # (B, positions, d_ff)
                self._rows[layer] = read.float().mean(dim=1) if self.last_positions > 1 else read[:, 0].float()

        return record

    def take(self) -> torch.Tensor:
        """Return the last recorded activations, shape (batch, n_layers * d_ff), float32, and forget them."""
        rows = [self._rows.pop(layer) for layer in range(self.lm.n_layers)]
        return torch.cat([row.to(rows[0].device) for row in rows], dim=1)
