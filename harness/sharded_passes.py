"""The passes of a unit in shards: who is asked for which, and what they give put together as one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.measurement import Applied, Measured
from skillneurons.micro_batches import MicroBatches
from skillneurons.partial import PartialCorrelationAccumulator
from skillneurons.prompt import SoftPrompt
from skillneurons.shard_runner import UnitShardRunner
from skillneurons.shards import Progress, RunShard, ShardRequest, ShardRunner, merged, run_sharded
from skillneurons.types import Split


@dataclass(frozen=True, eq=False)
class ShardedPasses:
    """The passes of a unit in ``n_shards`` shards (fewer where there are fewer batches), run by ``runners``, or by ``here``."""

    n_shards: int
    runners: Sequence[ShardRunner]
    here: UnitShardRunner

    def measure(
        self,
        split: Split,
        metrics: Applied,
        prompt: SoftPrompt | None,
        fitting: MicroBatches,
        *,
        position: str,
        means: npt.NDArray[np.float64] | None = None,
        keep_rows: bool = False,
        partial: PartialCorrelationAccumulator | None = None,
        with_inputs: bool = False,
        progress: Progress | None = None,
    ) -> Measured:
        """Return what ``measurement.measure`` does of a split, from shards."""
        more: dict[str, Any] = {
            "columns": {name: tuple(columns) for name, (_, columns) in metrics.items()},
            "keep_rows": keep_rows,
            "with_inputs": with_inputs,
            "controls": tuple(partial.controls) if partial is not None else None,
            "means": means,
        }
        requests = self._requests(split, prompt, fitting, position, more)
        shards = self._run(requests, fitting, progress)

        def rerun(i: int) -> RunShard:
            return run_sharded([requests[i]], self.runners, self.here)[0]

        encoded = self.here.encoded(split, prompt.num_virtual_tokens if prompt else 0)
        measured, found = merged(encoded, metrics, shards, rerun)
        if partial is not None:
            partial.merge(found)
        return measured

    def mean_activations(
        self,
        split: Split,
        prompt: SoftPrompt | None,
        fitting: MicroBatches,
        *,
        position: str,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return what ``measurement.mean_activations`` does of a split, from shards."""
        requests = self._requests(split, prompt, fitting, position, {"kind": "activations"})
        parts = [one.part for one in self._run(requests, fitting, progress)]
        total = sum((part.total for part in parts if part.total is not None), np.zeros(1))
        return total / sum(len(part.where) for part in parts)

    def _requests(
        self,
        split: Split,
        prompt: SoftPrompt | None,
        fitting: MicroBatches,
        position: str,
        more: Mapping[str, Any],
    ) -> list[ShardRequest]:
        def request(shard: int, n_shards: int) -> ShardRequest:
            return ShardRequest(
                split=split,
                shard=shard,
                n_shards=n_shards,
                prompt=None if prompt is None else prompt.embeddings.detach().float().cpu().numpy(),
                placement="append" if prompt is None else prompt.placement,
                position=position,
                at_once=fitting.size,
                limit=fitting.limit,
                **more,
            )

        n = len(self.here.share(request(0, 1)).cut(self.n_shards))
        return [request(shard, n) for shard in range(n)]

    def _run(
        self, requests: Sequence[ShardRequest], fitting: MicroBatches, progress: Progress | None
    ) -> list[RunShard]:
        shards = run_sharded(requests, self.runners, self.here, progress)
        for one in shards:
            if one.part.halved:
                fitting.size = fitting.limit = min(fitting.size, one.part.size)
                fitting.halved += one.part.halved
        return shards


def sharded_passes(
    n_shards: int,
    here: Callable[[], UnitShardRunner],
    runners: Sequence[ShardRunner] | None = None,
) -> ShardedPasses | None:
    """Return the passes of a unit in shards; None for one shard, which is the single pass."""
    if n_shards == 1:
        return None
    own = here()
    return ShardedPasses(n_shards, [own] if runners is None else runners, own)
