"""Which batches of a split each shard runs: a contiguous share of what the single pass runs, and no other batches.

A pass forms its batches over the whole split and cuts them to what runs at once; shard i of S takes a run of
those. So every forward pass has the shapes it has in the single pass and its activations are the same to the bit;
only float64 sums are added up in another order. Shares are balanced by rows x length of input, by whole numbers alone.
Batches do not grow here (attribution.batch_size auto grows by what a device has free, which no plan knows beforehand): what
runs at once is fixed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skillneurons.inputs import EncodedExample
from skillneurons.spool import IN_MEMORY

Batch = Sequence[EncodedExample]


@dataclass(frozen=True)
class Share:
    """``batches`` that run one after another, and how: ``apart`` runs inputs of one length of a batch by themselves.

    ``in_memory`` is how many bytes of kept rows stay in memory.
    """

    batches: Sequence[Batch]
    apart: bool = False
    in_memory: int = IN_MEMORY

    def cut(self, n_shards: int) -> list[Share]:
        """Return at most ``n_shards`` shares of these batches, none of them empty."""
        n_rows = sum(map(len, self.batches))
        costs = [len(batch) * max(len(row.ids) for row in batch) for batch in self.batches]
        found = []
        for own in contiguous(costs, n_shards):
            batches = self.batches[own.start : own.stop]
            found.append(Share(batches, self.apart, self.in_memory * sum(map(len, batches)) // n_rows))
        return found


def contiguous(costs: Sequence[int], n: int) -> list[range]:
    """Return at most ``n`` runs that cover ``costs``, none empty: each ends where it is nearest to its part of the total."""
    n = min(n, len(costs))
    total, so_far = sum(costs), 0
    sums = [0]
    for cost in costs:
        so_far += cost
        sums.append(so_far)
    ends = [0]
    for i in range(1, n):
        lowest, highest = ends[-1] + 1, len(costs) - (n - i)  # every run keeps one at least
        ends.append(min(range(lowest, highest + 1), key=lambda end: (abs(sums[end] * n - total * i), end)))
    return [range(start, stop) for start, stop in zip(ends, [*ends[1:], len(costs)], strict=True)]
