"""Shards of a unit's passes on workers of a cluster: who has a unit in hand asks the workers that were given to it as helpers.

``RemoteShards`` is one helper as the leader sees it, a runner of shards that moves (``shards``). Requests, sums and rows go to and fro as Ray moves arrays. A
helper that is gone is told as ShardLost: its shards are run again by who is left.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from skillneurons.errors import ShardLost, SkillNeuronsError
from skillneurons.plan import Unit
from skillneurons.run_context import RunContext

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel
    from skillneurons.permutation_sums import Permutations, PermutationSums
    from skillneurons.shard_runner import UnitShardRunner
    from skillneurons.sharded_rows import Floats, Numbers
    from skillneurons.shards import ShardPart, ShardRequest, ShardRunner

METHODS = ("run", "of", "block", "permuted", "release")


class RemoteShards:
    """A helper: every question goes to its worker, about the unit of that number in the plan."""

    moves = True

    def __init__(self, worker: Any, unit: int) -> None:
        self._worker, self._unit = worker, unit

    def _asked(self, method: str, *given: Any) -> Any:
        import ray

        try:
            return ray.get(self._worker.shard.remote(self._unit, method, *given))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else ShardLost(str(error)) from None
        except ray.exceptions.RayError as error:
            raise ShardLost(f"the worker that ran a shard is gone: {type(error).__name__}") from error

    def run(self, request: ShardRequest, progress: Callable[[int], None] | None = None) -> ShardPart:
        part: ShardPart = self._asked("run", request)
        if progress:
            progress(len(part.where))
        return part

    def of(self, ticket: int, neurons: Numbers, positions: Numbers | None) -> Floats:
        return cast("Floats", self._asked("of", ticket, neurons, positions))

    def block(self, ticket: int, start: int, stop: int) -> Floats:
        return cast("Floats", self._asked("block", ticket, start, stop))

    def permuted(self, ticket: int, permutations: Permutations, start: int, stop: int) -> list[PermutationSums]:
        return cast("list[PermutationSums]", self._asked("permuted", ticket, permutations, start, stop))

    def release(self, ticket: int) -> None:
        self._worker.shard.remote(self._unit, "release", ticket)  # nobody waits for it


def runners_with(
    context: RunContext, units: Sequence[Unit], helpers: Sequence[Any]
) -> Callable[[Unit, LanguageModel], Sequence[ShardRunner]]:
    """Return who runs the shards of a unit: this process first, then the helpers."""

    def runners(unit: Unit, lm: LanguageModel) -> Sequence[ShardRunner]:
        from skillneurons.shard_runner import UnitShardRunner

        number = next(
            i for i, one in enumerate(units) if (one.model, one.data, one.seed) == (unit.model, unit.data, unit.seed)
        )
        own = UnitShardRunner(context.config, context.registry, unit, lm, context.plant)
        return [own, *(RemoteShards(helper, number) for helper in helpers)]

    return runners


class ShardsForOthers:
    """What a helper keeps: a runner of the unit that it was asked about last, the same for all seeds of a task."""

    def __init__(self) -> None:
        self._key: tuple[str, str, str | None] | None = None
        self._runner: UnitShardRunner | None = None

    def answer(
        self, context: RunContext, unit: Unit, lm: Callable[[], LanguageModel], method: str, given: Sequence[Any]
    ) -> Any:
        """Answer one question of a leader; an error comes as one that another process can read."""
        from skillneurons.shard_runner import UnitShardRunner
        from skillneurons.shards import portable, portable_error

        if method not in METHODS:
            raise ShardLost(f"nobody can be asked for {method!r} of a shard")
        try:
            key = (unit.model, unit.data.task.name, unit.data.hash)
            if self._runner is None or self._key != key:
                if method != "run":
                    raise ShardLost("the rows of that shard are kept no more; run it again")
                self._runner = None
                self._runner, self._key = UnitShardRunner(context.config, context.registry, unit, lm(), None), key
            if method == "run":
                return portable(_run(context, unit, self._runner, *given), context.registry)
            return getattr(self._runner, method)(*given)
        except ShardLost:
            raise
        except KeyboardInterrupt:
            raise ShardLost("the worker that ran a shard is to stop") from None
        except SkillNeuronsError as error:
            raise portable_error(error, context.registry) from None
        except (
            Exception
        ):  # by no rule of ours: the leader runs the shard itself, and another process takes this one's place
            traceback.print_exc()
            os._exit(1)


def _run(context: RunContext, unit: Unit, runner: UnitShardRunner, request: ShardRequest) -> ShardPart:
    """Run a shard on display, which is also where it can be left."""
    label = f"{unit.model} {unit.data.task.name} seed {unit.seed}: shard {request.shard + 1} of {request.n_shards}"
    rows = len(unit.data.splits[request.split])
    with context.display.work(label, -(-rows // request.n_shards)) as step:
        return runner.run(request, step)
