"""Plant neurons whose truth is known: recorded activations are replaced, the forward pass is not.

A planted neuron's activation is a number that depends on the example's id alone; nothing that the model does depends
on it, and nothing that it reads. With a metric made from the same numbers, what the pipeline should find is known:

    metric z ~ N(0, 1),   activation = offset + scale (r z + sqrt(1 - r^2) e),   e ~ N(0, 1) of its own
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError


@dataclass(frozen=True, eq=False)
class Plant:
    """Neurons at flat indices ``neurons``, each of strength ``r`` (signed), with its ``offset`` and ``scale``."""

    neurons: npt.NDArray[np.int64]
    r: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    seed: int = 0

    def metric(self, name: str) -> float:
        """Return the metric's value of the example of this id."""
        return float(self._numbers(name)[0])

    def activations(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the planted activations of examples, shape (examples, planted neurons)."""
        numbers = np.stack([self._numbers(name) for name in names])
        mixed = self.r * numbers[:, :1] + np.sqrt(1 - self.r**2) * numbers[:, 1:]
        planted: npt.NDArray[np.float64] = self.offset + self.scale * mixed
        return planted

    def into(
        self, activations: npt.NDArray[Any], names: Sequence[str], keep: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[Any]:
        """Return ``activations`` (rows, neurons) with the planted columns in place of the recorded ones.

        With ``keep`` (n_layers, d_ff) the columns are those neurons alone.
        """
        replaced = activations.copy()
        if keep is None:
            replaced[:, self.neurons] = self.activations(names)
            return replaced
        column = np.cumsum(keep.ravel()) - 1
        here = keep.ravel()[self.neurons]
        replaced[:, column[self.neurons[here]]] = self.activations(names)[:, here]
        return replaced

    def _numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return z and each neuron's own e, standard normal, from the id and the seed alone."""
        digest = hashlib.blake2b(f"plant/{self.seed}/{name}".encode(), digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "big"))
        return rng.standard_normal(1 + len(self.neurons))


def plant_strengths(n_layers: int, d_ff: int, strengths: Sequence[float], seed: int = 0) -> Plant:
    """Return a plant of every strength with both signs, spread over the layers in turn."""
    r = np.array([sign * strength for strength in strengths for sign in (1, -1)])
    rng = np.random.default_rng(seed)
    layers = np.arange(len(r)) % n_layers
    most = int(np.bincount(layers).max())
    if most > d_ff:
        raise UserError(f"{len(r)} neurons cannot be planted into {n_layers} layers of {d_ff}; plant fewer strengths")
    neurons = np.empty(len(r), dtype=np.int64)
    for layer in np.unique(layers):
        mine = layers == layer
        neurons[mine] = layer * d_ff + rng.choice(d_ff, size=int(mine.sum()), replace=False)
    offset, scale = rng.uniform(-3, 3, len(r)), rng.uniform(0.1, 2, len(r))
    return Plant(neurons, r, offset, scale, seed)
