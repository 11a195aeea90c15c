"""Who does the work of a run: something that executes the open units of a context, chosen by ``executor.kind``.

The runner plans before and compiles the table after; in between an executor leaves the run folder as the local one would:
the same files with the same bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

from skillneurons.config import Config
from skillneurons.errors import ClusterError
from skillneurons.plan import Unit
from skillneurons.run_context import RunContext


class Executor(Protocol):
    """Runs what is open of the units, saves each cell as it is finished, and then what concerns several tasks."""

    def execute(self, context: RunContext, units: Sequence[Unit]) -> None: ...


def executor_of(config: Config) -> Executor:
    """Return the executor that a config asks for; raise ClusterError where it is not installed."""
    if config.executor.kind == "ray":
        if importlib.util.find_spec("ray") is None:
            raise ClusterError("executor.kind 'ray' needs Ray, which is not installed: pip install 'skillneurons[ray]'")
        from skillneurons.ray_executor import RayExecutor

        return RayExecutor()
    from skillneurons.local_executor import LocalExecutor

    return LocalExecutor()
