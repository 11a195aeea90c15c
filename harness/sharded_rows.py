"""The kept activations of a split whose shards lie with whoever ran them, read as if they lay here.

``of``, ``blocks`` and ``shape`` are those of ``ActivationRows``, rows in the examples' order. For the null, either the rows
come here (4 bytes x rows x neurons; what is then computed is the single pass's to the bit), or the shards' permutation
sums do (8 bytes x columns x (B + 1) x neurons from each shard). Rows that lie in this process move no bytes. The sums are taken
where they move fewer bytes than the rows,

    2 x shards elsewhere x columns x (B + 1) < rows elsewhere,

which depends on sizes alone. They are float64 where the null of rows is float32 (``null``), so their figures are the single
pass's up to that rounding (2e-6 of r at most), and the same for every number of shards to 1e-12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ShardLost
from skillneurons.permutation_sums import Permutations, PermutationSums
from skillneurons.spool import BLOCK

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Found = TypeVar("Found")


class RowsKeeper(Protocol):
    """Who keeps the rows of shards, each under a ticket. What is gone is told with ShardLost."""

    moves: bool  # whether what it returns comes from another process

    def of(self, ticket: int, neurons: Numbers, positions: Numbers | None) -> Floats:
        """Return (rows of the shard, neurons), see ``ActivationRows.of``."""

    def block(self, ticket: int, start: int, stop: int) -> Floats:
        """Return (rows of the shard, n_positions, stop - start)."""

    def permuted(self, ticket: int, permutations: Permutations, start: int, stop: int) -> list[PermutationSums]:
        """Return the sums of neurons start to stop, all positions, one for each of ``permutations.shares``."""

    def release(self, ticket: int) -> None:
        """Forget the rows; never raises."""


@dataclass(eq=False)
class KeptShard:
    """The rows of one shard: ``where`` they stand in the split. ``again`` runs a lost shard elsewhere: (keeper, ticket)."""

    keeper: RowsKeeper
    ticket: int
    where: Numbers
    again: Callable[[], tuple[RowsKeeper, int]]

    def __del__(self) -> None:
        self.keeper.release(self.ticket)


def together(calls: Sequence[tuple[bool, Callable[[], Found]]]) -> list[Found]:
    """Return what calls return, in their order: (in a thread of its own or here, call); raise the first one's error."""
    apart = [i for i, (moves, _) in enumerate(calls) if moves]
    if not apart:
        return [call() for _, call in calls]
    pool = ThreadPoolExecutor(len(apart), thread_name_prefix="shard")
    try:
        waiting = {i: pool.submit(calls[i][1]) for i in apart}
        here = {i: call() for i, (moves, call) in enumerate(calls) if not moves}
        found = [waiting[i].result() if i in waiting else here[i] for i in range(len(calls))]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return found


class ShardedRows:
    """Rows of ``shape`` (n_rows, n_positions, n_neurons) that lie with the keepers of ``shards``."""

    def __init__(self, shape: tuple[int, int, int], shards: Sequence[KeptShard]) -> None:
        self.shape, self.shards = shape, list(shards)

    def of(self, neurons: Numbers, positions: Numbers | None = None) -> Floats:
        """Return (n_rows, len(neurons)): each neuron at its position (the first one where none is given)."""
        return self._joined((len(neurons),), lambda keeper, ticket: keeper.of(ticket, neurons, positions))

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[slice, Floats]]:
        """Yield (neurons, activations (n_rows, n_positions, neurons of the block)) over all neurons."""
        for start in range(0, self.shape[2], size):
            where = slice(start, min(start + size, self.shape[2]))
            yield where, self.block(where)

    def block(self, neurons: slice) -> Floats:
        """Return (n_rows, n_positions, neurons) of some neurons that stand beside each other."""
        shape = (self.shape[1], neurons.stop - neurons.start)
        return self._joined(shape, lambda keeper, ticket: keeper.block(ticket, neurons.start, neurons.stop))

    def bytes_as_rows(self) -> int:
        """Return how many bytes move where the rows are read."""
        elsewhere = sum(len(shard.where) for shard in self.shards if shard.keeper.moves)
        return 4 * elsewhere * self.shape[1] * self.shape[2]

    def bytes_as_sums(self, n_permutations: int, n_columns: int) -> int:
        """Return how many bytes move where the sums of that many permutations and columns are."""
        elsewhere = sum(shard.keeper.moves for shard in self.shards)
        return 8 * elsewhere * n_columns * (n_permutations + 1) * self.shape[1] * self.shape[2]

    def permuted(self, permutations: Permutations, size: int = BLOCK) -> Iterator[tuple[slice, list[PermutationSums]]]:
        """Yield (neurons, sums over all rows of each of ``permutations.shares``) over all neurons, shards merged in order."""
        for start in range(0, self.shape[2], size):
            stop = min(start + size, self.shape[2])
            first, *rest = self._asked(
                lambda keeper, ticket, a=start, b=stop: keeper.permuted(ticket, permutations, a, b)  # type: ignore[misc]
            )
            for other in rest:
                for mine, theirs in zip(first, other, strict=True):
                    mine.merge(theirs)
            yield slice(start, stop), first

    def _joined(self, shape: tuple[int, ...], question: Callable[[RowsKeeper, int], Floats]) -> Floats:
        found: Floats = np.empty((self.shape[0], *shape), dtype=np.float32)
        for shard, rows in zip(self.shards, self._asked(question), strict=True):
            found[shard.where] = rows
        return found

    def _asked(self, question: Callable[[RowsKeeper, int], Found]) -> list[Found]:
        """Return every shard's answer; what is lost is run again here, in this thread, once the others have answered."""

        def call(shard: KeptShard) -> Callable[[], Found | ShardLost]:
            def ask() -> Found | ShardLost:
                try:
                    return question(shard.keeper, shard.ticket)
                except ShardLost as error:
                    return error

            return ask

        found = []
        answers = together([(shard.keeper.moves, call(shard)) for shard in self.shards])
        for shard, answer in zip(self.shards, answers, strict=True):
            if isinstance(answer, ShardLost):
                shard.keeper, shard.ticket = shard.again()
                found.append(question(shard.keeper, shard.ticket))
            else:
                found.append(answer)
        return found
