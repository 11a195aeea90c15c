"""The activations of a split, kept row by row so that more can be computed once every metric value is known.

A row holds one example's activations at every read position: (n_positions, n_neurons) float32. Rows stay in
memory up to ``IN_MEMORY`` bytes, beyond that in a temporary file that vanishes with the object. They are
written in the order in which batches come and read in the order of the examples, a block of neurons at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ResultsError

IN_MEMORY = 1 << 30
BLOCK = 1024  # neurons read at a time

Floats = npt.NDArray[np.float32]


class ActivationRows:
    """Rows of ``n_rows`` examples; ``put`` fills them in any order, every row once."""

    def __init__(self, n_rows: int, n_positions: int, n_neurons: int, *, in_memory: int = IN_MEMORY) -> None:
        self.shape = (n_rows, n_positions, n_neurons)
        if 4 * n_rows * n_positions * n_neurons <= in_memory:
            self._rows: Floats = np.empty(self.shape, dtype=np.float32)
            return
        try:
            with tempfile.TemporaryFile(prefix="skillneurons-") as file:  # the mapping outlives the open file
                if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a signal at the first write
                    os.posix_fallocate(file.fileno(), 0, 4 * n_rows * n_positions * n_neurons)
                self._rows = np.memmap(file, dtype=np.float32, mode="w+", shape=self.shape)
        except OSError as error:
            size = 4 * n_rows * n_positions * n_neurons / 1e9
            raise ResultsError(
                f"cannot keep {size:.1f} GB of activations in {tempfile.gettempdir()}: {error.strerror}; free some space, "
                "set TMPDIR to a larger disk, or measure fewer examples (data.discovery, data.heldout)"
            ) from error

    def put(self, rows: Sequence[int], activations: npt.NDArray[Any]) -> None:
        """Keep ``activations`` (len(rows), n_positions * n_neurons) as the rows of these numbers."""
        self._rows[np.asarray(rows)] = activations.reshape(len(rows), *self.shape[1:])

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[slice, Floats]]:
        """Yield (neurons, activations (n_rows, n_positions, neurons of the block)) over all neurons."""
        for start in range(0, self.shape[2], size):
            where = slice(start, min(start + size, self.shape[2]))
            yield where, self.block(where)

    def block(self, neurons: slice) -> Floats:
        """Return (n_rows, n_positions, neurons) of some neurons that stand beside each other."""
        return np.ascontiguousarray(self._rows[:, :, neurons])

    def of(self, neurons: npt.NDArray[np.int64], positions: npt.NDArray[np.int64] | None = None) -> Floats:
        """Return (n_rows, len(neurons)): each neuron at its position (the first one where none is given)."""
        at = np.zeros(len(neurons), dtype=np.int64) if positions is None else positions
        return np.ascontiguousarray(self._rows[:, at, neurons])
