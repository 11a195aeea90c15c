"""A statistic's sums of a model that lies on several devices: each layer's stay on the layer's own device while rows come in.

Layers in a row on one device share one accumulator there. When all rows are in, the accumulators of the devices are joined in
the order of layers; nothing but finished sums travels between devices. Shapes: the rows of a device are (batch, positions, neurons of its
layers), a neuron's number is the one it has in the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.activations import DeviceRows


class DeviceSums:
    """Accumulators of ``factory`` on as many devices as rows come from; ``joined`` is the one that knows all of it.

    ``factory(n_neurons, n_columns, missing=..., device=...)`` makes one, and its ``beside`` joins several.
    """

    def __init__(self, factory: Callable[..., Any], n_neurons: int, n_columns: int, *, missing: bool) -> None:
        self._factory, self._missing = factory, missing
        self.n_neurons, self.n_columns = n_neurons, n_columns
        self._parts: list[Any] = []
        self._positions = 1

    @property
    def devices(self) -> list[str]:
        """Where the sums are, in the order of layers."""
        return [str(part.device) for part in self._parts]

    def update(self, activations: DeviceRows | Any, values: npt.NDArray[np.float64]) -> DeviceSums:
        """Add rows: activations by device, or (rows, neurons) in one place."""
        if not isinstance(activations, DeviceRows):
            whole = activations if isinstance(activations, torch.Tensor) else torch.from_numpy(activations)
            activations = DeviceRows((whole[:, None],))
        if not self._parts:
            self._positions = activations.parts[0].shape[1]
            self._parts = [self._made(part.shape[1] * part.shape[2], part.device) for part in activations.parts]
        for sums, part in zip(self._parts, activations.parts, strict=True):
            sums.update(part.flatten(1), values)
        return self

    def joined(self) -> Any:
        """Return one accumulator of all neurons, in host memory; of a single device, the one that is there."""
        if len(self._parts) == 1:
            return self._parts[0]
        if not self._parts:
            return self._made(self.n_neurons, torch.device("cpu"))
        return self._factory.beside(self._parts, self._positions)  # type: ignore[attr-defined]

    def _made(self, n_neurons: int, device: torch.device) -> Any:
        return self._factory(n_neurons, self.n_columns, missing=self._missing, device=device)
