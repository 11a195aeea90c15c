"""Random sets of neurons that an ablation is compared with: as many per layer, and of like mean |activation|.

For every neuron of the skill set one of the ``WINDOW`` nearest in mean |activation| among the other neurons of its
layer is drawn, none twice. A large effect of a set may come from its layers or from the size of its activations
alone; such a random set shares both. It may hold other neurons that correlate: the comparison is conservative.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skillneurons.errors import CellError

WINDOW = 20

Doubles = npt.NDArray[np.float64]


def matched_sets(
    neurons: Sequence[int], size: Doubles, d_ff: int, n_sets: int, *, seed: int = 0
) -> list[tuple[int, ...]]:
    """Return ``n_sets`` random sets (flat indices, sorted) matched to ``neurons`` by layer and mean |activation|.

    ``size`` (n_neurons,) is the mean |activation|. The same arguments give the same sets, whatever the order of
    ``neurons``. Raise CellError where a layer has too few other neurons.
    """
    by_layer: dict[int, list[int]] = {}
    for neuron in sorted(neurons):
        by_layer.setdefault(neuron // d_ff, []).append(neuron)
    others = {layer: _others(layer, mine, size, d_ff) for layer, mine in by_layer.items()}
    for layer, mine in by_layer.items():
        if len(others[layer]) < len(mine):
            raise CellError(
                f"no random set of this size: {len(mine)} of the {d_ff} neurons of layer {layer} are in the skill set, and "
                f"only {len(others[layer])} others are left; use a smaller causal.k"
            )
    sets = []
    for number in range(n_sets):
        stream = random.Random(f"controls/{seed}/{number}")
        chosen: list[int] = []
        for layer, mine in by_layer.items():
            left = others[layer].copy()
            for neuron in stream.sample(mine, len(mine)):
                near = _nearest(left, size, size[neuron])
                drawn = near[stream.randrange(len(near))]
                chosen.append(drawn)
                left.remove(drawn)
        sets.append(tuple(sorted(chosen)))
    return sets


def matched_singles(neurons: Sequence[int], size: Doubles, d_ff: int, n: int) -> dict[int, tuple[int, ...]]:
    """Return for each layer of ``neurons`` up to ``n`` other neurons, those nearest to them in mean |activation|.

    They are what each single neuron of the layer is compared with; drawn in turn for each of them, none twice.
    """
    by_layer: dict[int, list[int]] = {}
    for neuron in sorted(neurons):
        by_layer.setdefault(neuron // d_ff, []).append(neuron)
    found = {}
    for layer, mine in by_layer.items():
        left, chosen = _others(layer, mine, size, d_ff), list[int]()
        while left and len(chosen) < n:
            neuron = mine[len(chosen) % len(mine)]
            nearest = min(left, key=lambda other: (abs(size[other] - size[neuron]), other))
            chosen.append(nearest)
            left.remove(nearest)
        found[layer] = tuple(chosen)
    return found


def _others(layer: int, mine: Sequence[int], size: Doubles, d_ff: int) -> list[int]:
    """Return the other neurons of a layer, by mean |activation|."""
    apart = set(mine)
    every = range(layer * d_ff, (layer + 1) * d_ff)
    return sorted((n for n in every if n not in apart), key=lambda n: (size[n], n))


def _nearest(ordered: list[int], size: Doubles, value: float) -> list[int]:
    """Return the ``WINDOW`` neurons of an ordered list whose mean |activation| is nearest to ``value``."""
    sizes = size[ordered]
    middle = int(np.searchsorted(sizes, value))
    low, high = max(0, middle - WINDOW), min(len(ordered), middle + WINDOW)
    near = sorted(range(low, high), key=lambda i: (abs(sizes[i] - value), ordered[i]))
    return [ordered[i] for i in near[:WINDOW]]
