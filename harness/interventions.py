"""Change what chosen neurons do while a model runs, and leave the model as it was.

An activation here is the input of the block's output projection, whatever site was read: it is what the neuron's
output vector is multiplied by, so replacing it replaces all that the neuron does.

    zero      a <- 0
    mean      a <- its mean over reference examples
    resample  a <- its value on another example
    steer     a <- a + alpha * sign * sd(a)

Hooks are removed when the context ends, also when an exception passes; a layer without a chosen neuron gets no hook,
so changing no neuron changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from skillneurons.errors import UserError, unknown_name
from skillneurons.model import LanguageModel
from skillneurons.neuron_split import NeuronSplit
from skillneurons.sequences import Sequences

MODES = ("zero", "mean", "resample")


@dataclass(frozen=True, eq=False)
class LayerEdit:
    """What happens to some neurons of one layer: ``values`` replaces their activation, or is added to it.

    ``neurons`` (U,); ``values`` and ``chosen`` broadcast to (rows, positions, U): where ``chosen`` is false a row keeps
    its own activation. None of ``chosen`` means all.
    """

    neurons: torch.Tensor
    values: torch.Tensor
    add: bool = False
    chosen: torch.Tensor | None = None


class Intervention:
    """A context in which forward passes run with edited activations.

    ``edits`` maps layers to their edit. ``window`` says which positions of a pass are edited (default: all);
    nothing is edited while ``enabled`` is false.
    """

    def __init__(
        self, lm: LanguageModel, edits: Mapping[int, LayerEdit], *, window: slice = slice(None), enabled: bool = True
    ) -> None:
        self.lm, self.window, self.enabled = lm, window, enabled
        self.edits = edits if lm.split is None else own_edits(lm.split, edits)
        self._sequences = Sequences(lm)
        self._handles: list[Any] = []

    def __enter__(self) -> Intervention:
        try:
            if self.edits:
                self._handles.append(self._sequences.watch())
            for layer in self.edits:
                projection = self.lm.projections[layer]
                self._handles.append(projection.register_forward_pre_hook(self._hook(layer)))
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, layer: int) -> Callable[[torch.nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def edit(_module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not self.enabled:
                return None
            changed = edited(self._sequences.apart(args[0]), self.edits[layer], self.window)
            return (changed.reshape(args[0].shape), *args[1:])

        return edit


def edited(activations: torch.Tensor, edit: LayerEdit, window: slice = slice(None)) -> torch.Tensor:
    """Return activations (rows, positions, d_ff) with an edit made at the positions of ``window``; others keep their bits."""
    neurons = edit.neurons.to(activations.device)
    part = activations[:, window][..., neurons]
    values = edit.values.to(activations.device, activations.dtype)
    new = part + values if edit.add else values.expand_as(part)
    if edit.chosen is not None:
        new = torch.where(edit.chosen.to(activations.device), new, part)
    changed = activations.clone()
    changed[:, window, neurons] = new
    return changed


def own_edits(split: NeuronSplit, edits: Mapping[int, LayerEdit]) -> dict[int, LayerEdit]:
    """Return what this rank has to change: its own neurons, numbered from its first; layers without one are left out."""
    found = {}
    for layer, edit in edits.items():
        mine = split.of(edit.neurons)
        if not bool(mine.any()):
            continue

        def cut(part: torch.Tensor, mine: torch.Tensor = mine) -> torch.Tensor:
            return part[..., mine] if part.dim() and part.shape[-1] == len(mine) else part

        found[layer] = LayerEdit(
            edit.neurons[mine] - split.start,
            cut(edit.values),
            edit.add,
            None if edit.chosen is None else cut(edit.chosen),
        )
    return found


def flat_neurons(lm: LanguageModel, neurons: Sequence[tuple[int, int]]) -> list[int]:
    """Return flat indices (layer * d_ff + neuron); raise UserError for a neuron that does not exist or stands twice."""
    flat = []
    for layer, neuron in neurons:
        if not (0 <= layer < lm.n_layers and 0 <= neuron < lm.d_ff):
            raise UserError(
                f"no neuron L{layer:02d}.N{neuron:04d} in {lm.name!r}: it has layers 0 to {lm.n_layers - 1} of "
                f"{lm.d_ff} neurons, 0 to {lm.d_ff - 1}"
            )
        flat.append(layer * lm.d_ff + neuron)
    if len(set(flat)) != len(flat):
        raise UserError("a neuron stands twice in the set; name each once")
    return flat


def ablate(
    lm: LanguageModel,
    neurons: Sequence[tuple[int, int]],
    *,
    mode: str = "zero",
    values: Sequence[float] | None = None,
    window: slice = slice(None),
) -> Intervention:
    """Return a context in which the neurons (layer, neuron) are ablated in every forward pass.

    ``mode`` ``zero`` needs nothing; ``mean`` and ``resample`` need the ``values`` to put in their place, one per neuron
    (``measure_reference`` gives means). ``window`` are the positions of a pass, such as ``slice(-20, None)``.
    """
    if mode not in MODES:
        raise unknown_name("ablation mode", mode, MODES)
    if mode != "zero" and values is None:
        raise UserError(f"ablation mode {mode!r} needs values, one per neuron; mode 'zero' needs none")
    if mode == "zero" and values is not None:
        raise UserError("ablation mode 'zero' takes no values; use mode 'mean' to put values in")
    amounts = [0.0] * len(neurons) if mode == "zero" or values is None else list(values)
    return Intervention(lm, _edits(lm, neurons, amounts, add=False), window=window)


def steer(
    lm: LanguageModel,
    neurons: Sequence[tuple[int, int]],
    amounts: Sequence[float],
    *,
    window: slice = slice(None),
) -> Intervention:
    """Return a context in which ``amounts`` (alpha * sign * sd, one per neuron) are added to the neurons' activations."""
    return Intervention(lm, _edits(lm, neurons, amounts, add=True), window=window)


def _edits(
    lm: LanguageModel, neurons: Sequence[tuple[int, int]], amounts: Sequence[float], *, add: bool
) -> dict[int, LayerEdit]:
    flat_neurons(lm, neurons)
    if len(amounts) != len(neurons):
        raise UserError(f"{len(amounts)} values for {len(neurons)} neurons; give one per neuron")
    if not all(torch.isfinite(torch.tensor([*amounts, 0.0], dtype=torch.float32))):
        raise UserError("a value for a neuron is not finite; steering or ablating with it would make every logit NaN")
    by_layer: dict[int, list[tuple[int, float]]] = {}
    for (layer, neuron), amount in zip(neurons, amounts, strict=True):
        by_layer.setdefault(layer, []).append((neuron, amount))
    return {
        layer: LayerEdit(
            torch.tensor([neuron for neuron, _ in chosen], device=lm.device),
            torch.tensor([amount for _, amount in chosen], device=lm.device),
            add,
        )
        for layer, chosen in sorted(by_layer.items())
    }
