"""A runner of shards as one of another process is: all that goes to it and back is copied, and it can die."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from skillneurons.errors import ShardLost
from skillneurons.permutation_sums import Permutations, PermutationSums
from skillneurons.registry import Registry, load_registry
from skillneurons.shard_runner import UnitShardRunner
from skillneurons.shards import ShardPart, ShardRequest, portable, portable_error

ONE_MODEL = threading.Lock()  # runners of other processes have a model each; these share one


def copied(given: Any) -> Any:
    return pickle.loads(pickle.dumps(given))  # noqa: S301 - what a cluster does to all that it moves


class FarRunner:
    """``lives``: how many more calls it answers; ``asked`` the names of those that it did."""

    moves = True

    def __init__(self, own: UnitShardRunner, lives: int = 10**9, registry: Registry | None = None) -> None:
        self.own, self.lives, self.asked = own, lives, list[str]()
        self.registry = registry or load_registry()
        self.moved = 0

    def _answer(self, name: str, *given: Any) -> Any:
        if self.lives <= 0:
            raise ShardLost("the worker is gone")
        self.lives -= 1
        self.asked.append(name)
        try:
            with ONE_MODEL:
                found = getattr(self.own, name)(*copied(given))
        except Exception as error:
            raise copied(portable_error(error, self.registry)) from None
        if isinstance(found, ShardPart):
            found = portable(found, self.registry)
        self.moved += len(pickle.dumps(found))
        return copied(found)

    def run(self, request: ShardRequest, progress: Callable[[int], None] | None = None) -> ShardPart:
        part: ShardPart = self._answer("run", request)
        if progress:
            progress(len(part.where))
        return part

    def of(self, ticket: int, neurons: np.ndarray, positions: np.ndarray | None) -> np.ndarray:
        found: np.ndarray = self._answer("of", ticket, neurons, positions)
        return found

    def block(self, ticket: int, start: int, stop: int) -> np.ndarray:
        found: np.ndarray = self._answer("block", ticket, start, stop)
        return found

    def permuted(self, ticket: int, permutations: Permutations, start: int, stop: int) -> list[PermutationSums]:
        found: list[PermutationSums] = self._answer("permuted", ticket, permutations, start, stop)
        return found

    def release(self, ticket: int) -> None:
        if self.lives > 0:
            self.own.release(ticket)
