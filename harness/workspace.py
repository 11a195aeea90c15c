"""One place in memory for the keys and values of a step of tuning: cached inputs, and behind them what the step adds.

A cache that grows by concatenation copies every input's keys and values in every layer at every step. Here a step's inputs are
copied once, into memory that the step before used already, and what follows them is written behind.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

SPARE = 8  # times what is needed may be kept


class _Behind(torch.autograd.Function):
    """Write ``new`` behind ``length`` positions of a tensor; only ``new`` has a gradient."""

    @staticmethod
    def forward(ctx: Any, new: torch.Tensor, place: list[torch.Tensor], length: int) -> torch.Tensor:
        ctx.length = length
        whole = place[0].narrow(-2, 0, length + new.shape[-2])
        whole.narrow(-2, length, new.shape[-2]).copy_(new)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return gradient.narrow(-2, ctx.length, gradient.shape[-2] - ctx.length), None, None


class WorkspaceLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of a cache whose keys and values (B, heads, room, head size) hold ``length`` positions and have room behind."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self._room = (keys, values)
        self.keys, self.values = (one.narrow(-2, 0, length) for one in self._room)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values behind those there, and return all."""
        length = self.keys.shape[-2]
        self.keys, self.values = (
            _Behind.apply(new, [place], length)  # type: ignore[no-untyped-call]
            for new, place in zip((key_states, value_states), self._room, strict=True)
        )
        return self.keys, self.values


class Workspace:
    """Memory that steps use one after another: whoever asks again overwrites what was given before."""

    def __init__(self) -> None:
        self._flat: dict[int, torch.Tensor] = {}

    def take(self, number: int, shape: tuple[int, ...], like: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return memory ``number`` in a shape, of the dtype of ``like``; what stands in it is left over."""
        size = 1
        for extent in shape:
            size *= extent
        flat = self._flat.get(number)
        if flat is None or not size <= len(flat) <= SPARE * size:
            self._flat.pop(number, None)  # too small; or left by larger batches, before memory ran out
            flat = self._flat[number] = torch.empty(size, dtype=like.dtype, device=device)
        return flat[:size].view(shape)
