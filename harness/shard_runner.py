"""Run shards of a unit's passes in this process, on its model.

A shard's arithmetic is the single pass's. Its batches are (``shares``), and so are the keys and values of inputs: what a pass with a
prompt begins with comes from a forward pass of the same shape whether it was kept or is run again. One case asks for
more: an input that stands twice in a split is kept where it first ran. Where that is another shard's batch, that batch
is run here too, before. (A cache budget that has no room for the first of the two leaves them to float32's rounding.)

All shards that run in one process share its budget. What runs at once is fixed by the request; where memory runs out it halves,
for this shard alone, with results the same up to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.config import Config
from skillneurons.errors import ShardLost
from skillneurons.input_cache import CacheBudget, InputCache
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.measurement import (
    activation_sums,
    batches_of,
    batches_of_inputs,
    measure,
    positions_read,
)
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.partial import PartialCorrelationAccumulator
from skillneurons.permutation_sums import Permutations, PermutationSums
from skillneurons.plan import Unit
from skillneurons.planting import Plant
from skillneurons.prefix import by_length, run_prefix
from skillneurons.prompt import SoftPrompt
from skillneurons.registry import Registry
from skillneurons.shards import Progress, ShardPart, ShardRequest
from skillneurons.shares import Share
from skillneurons.spool import ActivationRows
from skillneurons.types import Split
from skillneurons.unit_prompt import budget_of

Place = tuple[int, int]  # a batch of the pass without a prompt, and the run of one length in it
_TICKETS = itertools.count(1)  # of the process: an old one never names the rows of another runner


@dataclass(eq=False)
class _Inputs:
    """The inputs of a split: where each first runs without a prompt, what was tried to be kept, and what is."""

    share: Share
    first: dict[tuple[int, ...], Place]
    cache: InputCache
    tried: set[Place] = field(default_factory=set)

    def runs(self, batch: int) -> list[list[EncodedExample]]:
        """Return the runs of one length of a batch, which run by themselves where the pass does so."""
        rows = list(self.share.batches[batch])
        return by_length(rows) if self.share.apart else [rows]


@dataclass(eq=False)
class _Kept:
    """Kept rows and where they stand in the split; permuted values of those rows, for the last permutations asked about."""

    rows: ActivationRows
    where: npt.NDArray[np.int64]
    name: str = ""
    permuted: Sequence[npt.NDArray[np.float64]] = ()


class UnitShardRunner:
    """Runs shards of the passes of a unit's task on a loaded model, for every seed; see ``shards.ShardRunner``."""

    moves = False

    def __init__(
        self, config: Config, registry: Registry, unit: Unit, lm: LanguageModel, plant: Plant | None = None
    ) -> None:
        self.lm, self.unit = lm, unit
        self._config, self._registry, self._plant = config, registry, plant
        self._factory = registry.attribution(config.attribution.statistic)
        self._gradient = bool(getattr(self._factory, "gradient", False))
        self._left: CacheBudget = budget_of(config)
        self._encoded: dict[tuple[Split, int], list[EncodedExample]] = {}
        self._inputs: dict[Split, _Inputs] = {}
        self._kept: dict[int, _Kept] = {}

    def encoded(self, split: Split, num_virtual_tokens: int) -> list[EncodedExample]:
        """Return the examples of a split, with room for that many tokens of a prompt."""
        key = (split, num_virtual_tokens)
        if key not in self._encoded:
            self._encoded[key] = encode_examples(
                self.lm,
                self.unit.data.task,
                self.unit.data.splits[split],
                num_virtual_tokens=num_virtual_tokens,
                too_long=self._config.model.too_long,
            )
        return self._encoded[key]

    def share(self, request: ShardRequest) -> Share:
        """Return all batches of the pass that a request is a shard of."""
        prompt, fitting = _prompt(request), MicroBatches(request.at_once, request.limit)
        encoded = self.encoded(request.split, prompt.num_virtual_tokens if prompt else 0)
        if request.kind == "activations":
            return batches_of_inputs(self.lm, encoded, fitting)
        return batches_of(self.lm, self.unit.data.task, encoded, prompt, fitting, gradient=self._gradient)

    def run(self, request: ShardRequest, progress: Progress | None = None) -> ShardPart:
        """Run one shard of a pass."""
        shares = self.share(request).cut(request.n_shards)
        share, prompt, fitting = shares[request.shard], _prompt(request), MicroBatches(request.at_once)
        where = np.array(sorted(row.index for rows in share.batches for row in rows), dtype=np.int64)
        reading: dict[str, Any] = {"position": request.position, "site": self._config.attribution.site}
        if request.kind == "activations":
            total = activation_sums(self.lm, share.batches, prompt, fitting, **reading, progress=progress)
            return ShardPart(where, total=total, size=fitting.size, halved=fitting.halved)
        partial = None
        if request.controls is not None:
            n = positions_read(prompt, request.position) * self.lm.n_neurons
            partial = PartialCorrelationAccumulator(n, request.controls)
        inputs = self._begun(request, share, sum(map(len, (one.batches for one in shares[: request.shard]))))
        measured = measure(
            self.lm,
            self.unit.data.task,
            self.encoded(request.split, prompt.num_virtual_tokens if prompt else 0),
            {name: (self._registry.metric(name), columns) for name, columns in request.columns.items()},
            prompt,
            **reading,
            accumulator=self._factory,
            baseline=request.means,
            keep_rows=request.keep_rows,
            plant=self._plant if request.keep_rows else None,
            partial=partial,
            inputs=inputs.cache if inputs else None,
            fitting=fitting,
            share=share,
            progress=progress,
        )
        if inputs:
            self._left = inputs.cache.left
        ticket, shape = None, (0, 0, 0)
        if isinstance(measured.rows, ActivationRows):
            ticket, shape = next(_TICKETS), measured.rows.shape
            self._kept[ticket] = _Kept(measured.rows, where)
        return ShardPart(
            where=where,
            outputs=measured.outputs,
            values=measured.values,
            accumulator=measured.accumulator,
            partial=partial,
            failures=measured.failures,
            ticket=ticket,
            shape=shape,
            size=fitting.size,
            halved=fitting.halved,
        )

    def of(
        self, ticket: int, neurons: npt.NDArray[np.int64], positions: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.float32]:
        """Return (rows of the shard, neurons)."""
        return self._of_ticket(ticket).rows.of(neurons, positions)

    def block(self, ticket: int, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return (rows of the shard, n_positions, stop - start)."""
        return self._of_ticket(ticket).rows.block(slice(start, stop))

    def permuted(self, ticket: int, permutations: Permutations, start: int, stop: int) -> list[PermutationSums]:
        """Return the permutation sums of neurons start to stop over the rows of the shard."""
        kept = self._of_ticket(ticket)
        if kept.name != permutations.name:
            kept.name, kept.permuted = permutations.name, permutations.of_rows(kept.where)
        block = kept.rows.block(slice(start, stop)).reshape(len(kept.where), -1)
        return permutations.sums(block, kept.where, kept.permuted)

    def release(self, ticket: int) -> None:
        """Forget the rows of a shard."""
        self._kept.pop(ticket, None)

    def _of_ticket(self, ticket: int) -> _Kept:
        if ticket not in self._kept:
            raise ShardLost(f"nobody keeps rows under ticket {ticket} here; run the shard again")
        return self._kept[ticket]

    def _begun(self, request: ShardRequest, share: Share, first_batch: int) -> _Inputs | None:
        """Return the inputs that a shard fills or begins with, those kept already that the single pass would have kept."""
        if not request.with_inputs or self._gradient or request.placement != "append":  # those run each input whole
            return None
        inputs = self._inputs_of(request)
        inputs.cache.allow(self._left)
        left = inputs.cache.left.device_bytes + inputs.cache.left.host_bytes
        needed = {inputs.first[row.ids] for rows in share.batches for row in rows if row.ids in inputs.first}
        own = range(first_batch, first_batch + len(share.batches))
        if request.prompt is None:
            needed = {place for place in needed if place[0] not in own}
        fitting = MicroBatches(request.at_once)
        for batch, run in sorted(needed - inputs.tried) if left else ():
            fitting.run(inputs.runs(batch)[run], lambda rows: self._keep(inputs.cache, rows))
            inputs.tried.add((batch, run))
        if request.prompt is None:
            inputs.tried |= {(batch, run) for batch in own for run in range(len(inputs.runs(batch)))}
        return inputs

    @torch.inference_mode()
    def _keep(self, cache: InputCache, rows: Sequence[EncodedExample]) -> None:
        cache.keep(rows, run_prefix(self.lm, rows, None, logits=False, read=1).cache)

    def _inputs_of(self, request: ShardRequest) -> _Inputs:
        split = request.split
        if split not in self._inputs:
            task = self.unit.data.task
            encoded = self.encoded(split, 0)
            answers = max(len(one) for row in encoded for one in (row.target, *(row.choices or ())))
            room = answers if task.kind == "choice" else max(answers, task.max_new_tokens)
            cache = InputCache(self.lm, room=self._config.prompt.num_virtual_tokens + room, budget=self._left)
            fitting = MicroBatches(request.at_once, request.limit)
            found = _Inputs(batches_of(self.lm, task, encoded, None, fitting), {}, cache)
            for batch in range(len(found.share.batches)):
                for run, rows in enumerate(found.runs(batch)):
                    for row in rows:
                        found.first.setdefault(row.ids, (batch, run))
            self._inputs[split] = found
        return self._inputs[split]


def _prompt(request: ShardRequest) -> SoftPrompt | None:
    if request.prompt is None:
        return None
    return SoftPrompt(torch.from_numpy(np.array(request.prompt)), placement=request.placement)
