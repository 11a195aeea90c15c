"""Which neurons a rank holds under tensor parallelism, and how their activations become whole.

transformers splits gate and up projections by their outputs and the output projection by its inputs: of every layer's ``d_ff``
neurons, rank k holds those from ``bounds[k]`` to ``bounds[k + 1]``, in the model's own order. What is recorded is joined in that
order, the bits of each rank as they are; what is changed is changed on the rank that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import ModelError, UserError
from skillneurons.ranks import Ranks, gathered, joined_last


@dataclass(frozen=True)
class NeuronSplit:
    """``bounds`` (ranks + 1) are the neurons at which one rank's part ends and the next one's begins."""

    rank: int
    bounds: tuple[int, ...]

    @classmethod
    def even(cls, ranks: Ranks, d_ff: int) -> NeuronSplit:
        """Return the split of torch's ``chunk``: parts of one size, the last ones shorter or empty."""
        size = -(-d_ff // ranks.size)
        return cls(ranks.rank, tuple(min(i * size, d_ff) for i in range(ranks.size + 1)))

    @property
    def ranks(self) -> int:
        return len(self.bounds) - 1

    @property
    def start(self) -> int:
        return self.bounds[self.rank]

    @property
    def stop(self) -> int:
        return self.bounds[self.rank + 1]

    def of(self, neurons: torch.Tensor, rank: int | None = None) -> torch.Tensor:
        """Return which of some neurons (their numbers in the layer) a rank holds, this one by default."""
        k = self.rank if rank is None else rank
        return (neurons >= self.bounds[k]) & (neurons < self.bounds[k + 1])

    def column(self, own: torch.Tensor, neuron: int) -> torch.Tensor:
        """Return a neuron's column (outputs,) from each rank's own part of a weight (outputs, own neurons)."""
        holder = next(k for k in range(self.ranks) if self.bounds[k] <= neuron < self.bounds[k + 1])
        mine = own[:, neuron - self.start] if holder == self.rank else own.new_zeros(own.shape[0])
        found: torch.Tensor = gathered(mine.detach())[holder]
        return found

    def whole(self, layers: Sequence[torch.Tensor], kept: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the layers' activations (..., neurons of all layers and ranks) from this rank's own, (..., own neurons) each.

        ``kept`` are the numbers of the neurons that were kept of each layer, where not all were. One exchange for all layers.
        """
        n = self.ranks
        if kept is None:
            counts = [[self.bounds[k + 1] - self.bounds[k] for k in range(n)]] * len(layers)
        else:
            counts = [[int(self.of(own, k).sum()) for k in range(n)] for own in kept]
        widths = [sum(own[k] for own in counts) for k in range(n)]
        parts = joined_last(torch.cat(list(layers), dim=-1), widths)
        by_rank = [part.split([own[k] for own in counts], dim=-1) for k, part in enumerate(parts)]
        return torch.cat([by_rank[k][layer] for layer in range(len(layers)) for k in range(n)], dim=-1)


def split_of(model: Any, name: str, layers: Sequence[Any], ranks: Ranks) -> NeuronSplit | None:
    """Return how a model's neurons are split, None where every rank sees them all; raise ModelError where it is neither.

    ``layers`` are its feed-forward layers.
    """
    told = f"model {name!r} ({type(model).__name__})"
    if any(layer.experts is not None for layer in layers):
        raise ModelError(
            f"{told} is a mixture of experts, which model.tp_plan is not there for; spread it with model.device_map"
        )
    styles = {_style(model, layer.projection) for layer in layers}
    if styles <= {None, "rowwise_split_input", "rowwise_rep"}:
        return None
    split = NeuronSplit.even(ranks, layers[0].d_ff)
    own = {int(local(layer.projection.weight).shape[1]) for layer in layers}
    if styles != {"rowwise"} or own != {split.stop - split.start}:
        raise ModelError(
            f"{told}: its tensor-parallel plan splits the feed-forward output projection as "
            f"{', '.join(sorted(map(str, styles)))}, which is not understood; spread it with model.device_map"
        )
    return split


def _style(model: Any, module: torch.nn.Module) -> str | None:
    path = next(path for path, one in model.named_modules() if one is module)
    found: str | None = dict(model.tp_plan).get(re.sub(r"\.\d+(?=\.|$)", ".*", path))
    return found


def check_divisible(config: Any, name: str, size: int) -> None:
    """Raise UserError where attention heads cannot be dealt out evenly."""
    inner = config.get_text_config()
    heads = int(getattr(inner, "num_attention_heads", 0) or 0)
    groups = int(getattr(inner, "num_key_value_heads", None) or heads)
    for count, what in ((heads, "attention heads"), (groups, "key-value heads")):
        if count % size:
            fitting = [n for n in range(2, 65) if heads % n == 0 and groups % n == 0]
            remedy = f"start {', '.join(map(str, fitting))}" if fitting else "spread it with model.device_map instead"
            raise UserError(
                f"model.tp_plan 'auto': model {name!r} has {count} {what}, which {size} ranks cannot share evenly; {remedy}"
            )


def local(weight: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a weight; a weight that is not split is whole."""
    found: torch.Tensor = weight.to_local() if hasattr(weight, "to_local") else weight
    return found


def whole_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight whole, from all ranks, where it is split; every rank asks for it at the same time."""
    found: torch.Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return found
