"""A change of what a set of neurons does, and the edit that carries it out for the rows of a batch.

Several changes run side by side: a batch holds every example once per change, and each row is edited by its own.
What is put in a neuron's place depends on the stage of the sequence (``reference``): the mean, or the donor's
activation, of the same prompt token; of pooled stages the same value at every position.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skillneurons.errors import CellError, UserError, unknown_name
from skillneurons.interventions import MODES, Intervention, LayerEdit
from skillneurons.model import LanguageModel
from skillneurons.reference import Reference


@dataclass(frozen=True)
class Change:
    """``neurons`` are flat indices (layer * d_ff + neuron). ``mode`` is zero, mean, resample or steer.

    ``amounts`` (steer alone): what is added to each, in units of its sd: alpha * sign.
    """

    neurons: tuple[int, ...] = ()
    mode: str = "mean"
    amounts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in (*MODES, "steer"):
            raise unknown_name("causal mode", self.mode, (*MODES, "steer"))
        if len(set(self.neurons)) != len(self.neurons):
            raise UserError("a neuron stands twice in the set; name each once")
        if self.mode == "steer" and len(self.amounts) != len(self.neurons):
            raise UserError(f"{len(self.amounts)} amounts for {len(self.neurons)} neurons; give one per neuron")


class StageEdits:
    """The edits of one batch: rows are examples times changes, examples first.

    ``names`` are the examples' ids; with ``seed`` each draws the example's donor: the same for every change and in every
    batch, whatever other examples there are.
    """

    def __init__(
        self, lm: LanguageModel, reference: Reference, changes: Sequence[Change], names: Sequence[str], seed: int
    ) -> None:
        modes = {change.mode for change in changes if change.neurons}
        if len(modes) > 1:
            raise ValueError(f"changes of one batch share their mode, got {sorted(modes)}")
        self.lm, self.reference, self.changes, self.names = lm, reference, changes, names
        self.mode = modes.pop() if modes else "zero"
        self.seed = seed
        beyond = [n for change in changes for n in change.neurons if not 0 <= n < lm.n_neurons]
        if beyond:
            raise UserError(f"no neuron {beyond[0]}: {lm.name!r} has {lm.n_neurons}, numbered from 0")
        self._layers = self._chosen()

    def _chosen(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return for each layer its neurons (U,), and by change which are chosen and by how much, (changes, U)."""
        d_ff = self.lm.d_ff
        union = np.unique(np.array([n for change in self.changes for n in change.neurons], dtype=np.int64))
        chosen = np.zeros((len(self.changes), len(union)), dtype=bool)
        amounts = np.zeros((len(self.changes), len(union)))
        for c, change in enumerate(self.changes):
            at = np.searchsorted(union, np.array(change.neurons, dtype=np.int64))
            chosen[c, at] = True
            amounts[c, at] = change.amounts or 0.0
        found = {}
        for layer in np.unique(union // d_ff):
            mine = union // d_ff == layer
            found[int(layer)] = (union[mine], chosen[:, mine], amounts[:, mine])
        return found

    def intervention(
        self, stages: Sequence[tuple[str, int]], rows: Sequence[int] | None = None, window: slice = slice(None)
    ) -> Intervention:
        """Return the intervention for all rows, or some of them, at the positions of ``window``.

        ``stages`` says what these positions are: (stage, how many) in order; a single pooled stage fits any number.
        """
        edits = {layer: self._edit(stages, rows, *parts) for layer, parts in self._layers.items()} if stages else {}
        return Intervention(self.lm, edits, window=window)

    def _edit(
        self,
        stages: Sequence[tuple[str, int]],
        rows: Sequence[int] | None,
        neurons: np.ndarray,
        chosen: np.ndarray,
        amounts: np.ndarray,
    ) -> LayerEdit:
        n_rows = len(self.names) * len(self.changes)
        picked = np.arange(n_rows) if rows is None else np.asarray(rows)
        change, example = picked % len(self.changes), picked // len(self.changes)
        parts = []
        for stage, length in stages:
            part = self._values(stage, neurons, amounts[change], example)
            parts.append(part if part.shape[1] == length else np.repeat(part, length, axis=1))
        with np.errstate(over="ignore"):  # an amount beyond float32 becomes infinite, which the logits then tell
            values = np.concatenate(parts, axis=1).astype(np.float32)
        device = self.lm.device
        return LayerEdit(
            neurons=torch.from_numpy(neurons % self.lm.d_ff).to(device),
            values=torch.from_numpy(values).to(device),
            add=self.mode == "steer",
            chosen=torch.from_numpy(chosen[change][:, None]).to(device),
        )

    def _values(self, stage: str, neurons: np.ndarray, amounts: np.ndarray, example: np.ndarray) -> np.ndarray:
        """Return (rows, positions of the stage, U); one row where all rows share it."""
        if stage not in self.reference.mean:
            raise CellError(
                f"what neurons normally do at {stage} tokens was not measured: no example of discovery has such a token; "
                "use causal.positions: prompt, or mode zero there by sn.ablate"
            )
        if self.mode == "zero":
            return np.zeros((1, len(self.reference.mean[stage]), len(neurons)))
        if self.mode == "mean":
            return self.reference.mean[stage][None][:, :, neurons]
        if self.mode == "steer":
            return amounts[:, None] * self.reference.sd[stage][None][:, :, neurons]
        donors = self.reference.donors.get(stage)
        if donors is None or not len(donors):
            raise UserError("mode 'resample' needs donors; measure the reference with donors=True")
        mine = np.array([_donor(self.seed, self.names[i], len(donors)) for i in example])
        given: np.ndarray = donors[mine][:, :, neurons]
        return given


def _donor(seed: int, name: str, n: int) -> int:
    return random.Random(f"donor/{seed}/{name}").randrange(n)


def together(changes: Sequence[Change], at_once: int) -> list[list[int]]:
    """Return the numbers of the changes that run side by side: of one mode, at most ``at_once``."""
    found: list[list[int]] = []
    for i, change in enumerate(changes):
        last: list[int] | None = found[-1] if found else None
        same: Any = last is not None and changes[last[0]].mode == change.mode
        if last is None or not same or len(last) >= at_once:
            found.append([i])
        else:
            last.append(i)
    return found
