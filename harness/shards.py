"""One pass as shards: who runs them, in what order they are put together, and what becomes of one that is lost.

A shard is a contiguous share of the batches of a split (``shares``). What it found is a ``ShardPart``: outputs and values of its
rows, and accumulators, which are merged in the order of the shards, whoever was first. r of S shards is that of one pass to
1e-12, and outputs, values and kept rows are the same to the bit.

**How an executor connects.** It gives ``RunContext.runners``: a function of a planned unit and the loaded model that returns
``ShardRunner``s. Shard i goes to runner i modulo their number, always the same one, for it keeps what it has run of
the inputs. Each owns a loaded model and the unit, planned in its own process from the same config; ``shard_runner.UnitShardRunner``
is all that a worker process has to hold, one for each (model, task, data hash), over all seeds. The caller's side of it is a
class with the same six methods (``run``, ``of``, ``block``, ``permuted``, ``release``, and ``moves = True``) that asks the worker. Everything
that is passed is plain data, arrays and accumulators; what goes back from another process goes through ``portable``, and so does what
is raised there (``portable_error``). A proxy raises ``ShardLost`` where its worker is gone: the shard is run again by another
runner, or here. A call ends when its worker is killed; ``release`` never raises. Its ``run`` calls ``progress`` with the number of rows that are done. Runners that move are asked from threads, one
each; the one in this process from the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ShardLost, SkillNeuronsError
from skillneurons.inputs import EncodedExample
from skillneurons.measurement import Applied, Measured
from skillneurons.plugin_calls import ToldElsewhere, kind_of
from skillneurons.registry import Registry
from skillneurons.sharded_rows import KeptShard, RowsKeeper, ShardedRows, together
from skillneurons.types import Output, Split

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class ShardRequest:
    """What one shard is to run: plain data. The batches follow from it, and are the same wherever it runs.

    ``prompt`` (num_virtual_tokens, d_model) float32, None without one. ``columns`` are the columns by metric. ``at_once`` and ``limit``
    form the batches as ``MicroBatches`` of these does. ``kind`` ``activations`` sums activations alone, no answer is run. ``with_inputs``: keys and values of
    inputs are kept (without a prompt) or begun with (with one). ``controls`` are those of partial r, ``means`` what a statistic needs.
    """

    split: Split
    shard: int
    n_shards: int
    prompt: npt.NDArray[np.float32] | None
    placement: str
    position: str
    at_once: int
    limit: int
    kind: Literal["pass", "activations"] = "pass"
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keep_rows: bool = False
    with_inputs: bool = False
    controls: tuple[tuple[int, ...], ...] | None = None
    means: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class ShardPart:
    """What one shard found; rows in the order of ``where`` they stand in the split, ascending.

    ``ticket`` names the kept rows of ``shape`` (rows, positions, neurons) at the runner. ``total`` are the summed activations. ``size`` and ``halved`` say
    how many rows ran at once in the end, and how often memory ran out.
    """

    where: npt.NDArray[np.int64]
    outputs: Sequence[Output] = ()
    values: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    accumulator: Any = None
    partial: Any = None
    failures: Mapping[str, SkillNeuronsError] = field(default_factory=dict)
    ticket: int | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    total: npt.NDArray[np.float64] | None = None
    size: int = 0
    halved: int = 0


class ShardRunner(RowsKeeper, Protocol):
    """Who runs shards of one unit's passes and keeps their rows."""

    def run(self, request: ShardRequest, progress: Progress | None = None) -> ShardPart:
        """Run one shard; raise ShardLost where that cannot be, though it could elsewhere."""


@dataclass(frozen=True, eq=False)
class RunShard:
    """A part, and by whom it was run."""

    part: ShardPart
    runner: ShardRunner


def run_sharded(
    requests: Sequence[ShardRequest],
    runners: Sequence[ShardRunner],
    fallback: ShardRunner | None = None,
    progress: Progress | None = None,
) -> list[RunShard]:
    """Return the parts of all requests in their order, the shards of a lost runner run by others, or by ``fallback``.

    Raise the error of the first shard, in their order, that has one: the error of the single pass.
    """
    done: dict[int, RunShard] = {}
    gone: list[ShardRunner] = []
    while len(done) < len(requests):
        living = [runner for runner in runners if runner not in gone]
        if not living and fallback is not None and fallback not in gone:
            living = [fallback]
        if not living:
            raise ShardLost(f"all {len(gone)} runners of shards are lost; run the same command again")
        turns: dict[int, list[int]] = {}
        for i in range(len(requests)):
            if i not in done:
                own = runners[i % len(runners)] if runners else living[0]
                at = living.index(own) if own in living else i % len(living)
                turns.setdefault(at, []).append(i)
        calls = [(living[at].moves, _turn(living[at], requests, own, progress)) for at, own in turns.items()]
        ended = together(calls)
        stopped = min((one for one in ended if one.error is not None), key=lambda one: one.at, default=None)
        if stopped is not None and stopped.error is not None and not isinstance(stopped.error, ShardLost):
            raise stopped.error
        for at, one in zip(turns, ended, strict=True):
            done |= {i: RunShard(part, living[at]) for i, part in one.parts.items()}
            if isinstance(one.error, ShardLost):
                gone.append(living[at])
    return [done[i] for i in range(len(requests))]


@dataclass
class _Ended:
    """How one runner's turn ended: its parts, and what stopped it at request ``at``."""

    parts: dict[int, ShardPart] = field(default_factory=dict)
    at: int = 0
    error: Exception | None = None


def _turn(
    runner: ShardRunner, requests: Sequence[ShardRequest], own: Sequence[int], progress: Progress | None
) -> Callable[[], _Ended]:
    def run() -> _Ended:
        ended = _Ended()
        for i in own:
            try:
                ended.parts[i] = runner.run(requests[i], progress)
            except Exception as error:  # raised by the caller, who knows which shard comes first
                ended.at, ended.error = i, error
                break
        return ended

    return run


def merged(
    encoded: Sequence[EncodedExample],
    metrics: Applied,
    shards: Sequence[RunShard],
    rerun: Callable[[int], RunShard],
) -> tuple[Measured, Any]:
    """Return the pass that the shards are the parts of, and its partial accumulator; ``rerun`` runs a shard again.

    A metric that failed has the values of the single pass: those before its first failure, NaN after it. Its sums are of no use
    (there as here), and hold what the shards without a failure added.
    """
    parts = [one.part for one in shards]
    outputs: list[Output | None] = [None] * len(encoded)
    values = np.full((len(encoded), parts[0].values.shape[1]), np.nan)
    failures: dict[str, SkillNeuronsError] = {}
    sums, partial = None, None
    for part in parts:
        for i, output in zip(part.where, part.outputs, strict=True):
            outputs[i] = output
        values[part.where] = part.values
        at = 0
        for name, (_, columns) in metrics.items():
            if name in failures:
                values[part.where, at : at + len(columns)] = np.nan
            at += len(columns)
        failures = {**part.failures, **failures}
        sums = part.accumulator if sums is None else _joined(sums, part.accumulator)
        partial = part.partial if partial is None else _joined(partial, part.partial)
    ordered = {name: failures[name] for one in parts for name in one.failures}
    rows = None
    if parts[0].ticket is not None:
        shape = (len(encoded), *parts[0].shape[1:])
        rows = ShardedRows(shape, [_kept(i, one, rerun) for i, one in enumerate(shards)])
    known = [output for output in outputs if output is not None]
    return Measured(encoded, known, values, sums, ordered, rows), partial


def _joined(sums: Any, more: Any) -> Any:
    """Return the sums of both: a plugin's ``merge`` may return them, or nothing where it has added to its own."""
    found = sums.merge(more)
    return sums if found is None else found


def _kept(i: int, shard: RunShard, rerun: Callable[[int], RunShard]) -> KeptShard:
    def again() -> tuple[RowsKeeper, int]:
        found = rerun(i)
        return found.runner, int(found.part.ticket or 0)

    return KeptShard(shard.runner, int(shard.part.ticket or 0), shard.part.where, again)


def portable(part: ShardPart, registry: Registry) -> ShardPart:
    """Return a part that another process can read: its sums in host memory, its errors as they are told here."""
    if hasattr(part.accumulator, "to"):
        part.accumulator.to("cpu")
    return replace(part, failures={name: portable_error(error, registry) for name, error in part.failures.items()})


def portable_error(error: BaseException, registry: Registry) -> ToldElsewhere:
    """Return an error that another process can read and tell with the cell that it spoils."""
    if isinstance(error, ToldElsewhere):
        return error
    return ToldElsewhere(kind_of(error), registry.told(error, "\0"))
