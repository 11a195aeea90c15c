"""Random sets of neurons that an ablation is compared with: as many per layer, and of like mean |activation|.

For every neuron of the skill set one of the ``WINDOW`` nearest in mean |activation| among the other neurons of its
layer is drawn, none twice. A large effect of a set may come from its layers or from the size of its activations
alone; such a random set shares both. It may hold other neurons that correlate: the comparison is conservative.

No set comes twice: equal sets would count one control several times. The sets of a single neuron are drawn among the
``n_sets`` nearest to it (at least ``WINDOW``). Where the window gives too few different ones (small sets) it is widened;
where the layers hold few in all, those still missing are drawn from the list of all, and there are fewer sets where it ends.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from skillneurons.errors import CellError

WINDOW = 20
DRAWS = 20  # before the window is doubled
LISTED = 100  # sets per set asked for: with more than that in all, draws that are all known have no chance to speak of

Doubles = npt.NDArray[np.float64]


def matched_sets(
    neurons: Sequence[int], size: Doubles, d_ff: int, n_sets: int, *, seed: int = 0
) -> list[tuple[int, ...]]:
    """Return ``n_sets`` different random sets (flat indices, sorted) matched to ``neurons`` by layer and mean |activation|.

    ``size`` (n_neurons,) is the mean |activation|. The same arguments give the same sets, whatever the order of
    ``neurons``; fewer sets where the layers hold no more. Raise CellError where a layer has too few other neurons.
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
    if len(neurons) == 1:
        (left,), (neuron,) = others.values(), neurons
        near = _nearest(left, size, size[neuron], max(WINDOW, n_sets))
        return [(one,) for one in random.Random(f"controls/{seed}").sample(near, min(n_sets, len(near)))]
    widest = max(map(len, others.values()), default=0)
    window = WINDOW
    sets: dict[tuple[int, ...], None] = {}
    while len(sets) < n_sets and by_layer:
        stream = random.Random(f"controls/{seed}/{len(sets)}")
        for _ in range(DRAWS):
            drawn = _drawn(stream, by_layer, others, size, window)
            if drawn not in sets:
                sets[drawn] = None
                break
        else:
            if window >= widest:
                sets |= dict.fromkeys(_missing(stream, by_layer, others, sets, n_sets - len(sets)))
                break
            window *= 2
    return list(sets)


def _missing(
    stream: random.Random,
    by_layer: Mapping[int, Sequence[int]],
    others: Mapping[int, Sequence[int]],
    known: Mapping[tuple[int, ...], None],
    n: int,
) -> list[tuple[int, ...]]:
    """Return up to ``n`` sets that are not ``known``, from the list of all that the layers hold."""
    total = math.prod(math.comb(len(others[layer]), len(mine)) for layer, mine in by_layer.items())
    if total > LISTED * (len(known) + n):
        return []
    parts = (itertools.combinations(sorted(others[layer]), len(mine)) for layer, mine in sorted(by_layer.items()))
    left = [one for one in (tuple(itertools.chain(*part)) for part in itertools.product(*parts)) if one not in known]
    return stream.sample(left, min(n, len(left)))


def _drawn(
    stream: random.Random,
    by_layer: Mapping[int, Sequence[int]],
    others: Mapping[int, Sequence[int]],
    size: Doubles,
    window: int,
) -> tuple[int, ...]:
    """Return one random set."""
    chosen: list[int] = []
    for layer, mine in by_layer.items():
        left = list(others[layer])
        for neuron in stream.sample(mine, len(mine)):
            near = _nearest(left, size, size[neuron], window)
            drawn = near[stream.randrange(len(near))]
            chosen.append(drawn)
            left.remove(drawn)
    return tuple(sorted(chosen))


def matched_singles(neurons: Sequence[int], size: Doubles, d_ff: int, n: int) -> dict[int, tuple[int, ...]]:
    """Return for each neuron up to ``n`` others of its layer, those nearest to it in mean |activation|, nearest first.

    None of ``neurons`` is among them. They are what the neuron alone is compared with.
    """
    found = {}
    for neuron in neurons:
        left = _others(neuron // d_ff, neurons, size, d_ff)
        found[int(neuron)] = tuple(_nearest(left, size, size[neuron], n))
    return found


def _others(layer: int, mine: Sequence[int], size: Doubles, d_ff: int) -> list[int]:
    """Return the other neurons of a layer, by mean |activation|."""
    apart = set(mine)
    every = range(layer * d_ff, (layer + 1) * d_ff)
    return sorted((n for n in every if n not in apart), key=lambda n: (size[n], n))


def _nearest(ordered: list[int], size: Doubles, value: float, window: int) -> list[int]:
    """Return the ``window`` neurons of an ordered list whose mean |activation| is nearest to ``value``."""
    sizes = size[ordered]
    middle = int(np.searchsorted(sizes, value))
    low, high = max(0, middle - window), min(len(ordered), middle + window)
    near = sorted(range(low, high), key=lambda i: (abs(sizes[i] - value), ordered[i]))
    return [ordered[i] for i in near[:window]]
