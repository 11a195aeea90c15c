"""Where changes are tried: a task's held-out examples under a prompt, with the metrics that watch.

The neurons were chosen on discovery, what they normally do is measured on discovery, and their effect on heldout.
A change is measured once however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from skillneurons.changes import Change
from skillneurons.effects import Behaviour, behaviour_of, effect, effect_interval
from skillneurons.inputs import EncodedExample
from skillneurons.measurement import Applied
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt
from skillneurons.reference import Reference, measure_reference
from skillneurons.replay import Replay
from skillneurons.types import Task


@dataclass(eq=False)
class Testbed:
    """``behaviours(changes)`` runs changes; ``intact`` is what the unchanged model does."""

    __test__ = False  # pytest: this is no test

    replay: Replay
    metrics: Applied
    _known: dict[Change, Behaviour] = field(default_factory=dict)

    @property
    def lm(self) -> LanguageModel:
        return self.replay.lm

    @property
    def reference(self) -> Reference:
        return self.replay.reference

    @property
    def columns(self) -> list[str]:
        """The metric columns in the order of ``Behaviour.values``."""
        return [column for _, columns in self.metrics.values() for column in columns]

    @property
    def _everything(self) -> Change:
        return Change(tuple(range(self.lm.n_neurons)), "mean")

    @property
    def intact(self) -> Behaviour:
        return self.behaviours([Change()])[0]

    def fresh(self) -> Testbed:
        """Return a testbed that has seen nothing but the unchanged model (and what ``outcome_of`` needs).

        What is measured there depends on nothing that was asked before, not even the last digit of a number, which may
        change with what runs side by side.
        """
        known = {Change(): self.intact}
        if self._everything in self._known:
            known[self._everything] = self._known[self._everything]
        return Testbed(self.replay, self.metrics, known)

    def behaviours(self, changes: Sequence[Change], progress: Callable[[int], None] | None = None) -> list[Behaviour]:
        """Return what the model does under each change; ``progress`` is told of changes times examples."""
        if Change() not in self._known:
            self._measure([Change()])
        new = [change for change in dict.fromkeys(changes) if change not in self._known]
        if new:
            self._measure(new, progress)
        return [self._known[change] for change in changes]

    def _measure(self, changes: Sequence[Change], progress: Callable[[int], None] | None = None) -> None:
        for change, outputs in zip(changes, self.replay.outputs(changes, progress), strict=True):
            self._known[change] = behaviour_of(self.replay.encoded, outputs, self.metrics)

    def effects(self, changes: Sequence[Change], column: str | None, outcome: str) -> list[float]:
        """Return one outcome of each change (``effects``)."""
        index = None if column is None else self.columns.index(column)
        return [effect(self.intact, after, index, outcome) for after in self.behaviours(changes)]

    def interval(
        self, change: Change, column: str | None, outcome: str, *, resamples: int, seed: int
    ) -> tuple[float, float]:
        """Return the bootstrap interval of an outcome."""
        index = None if column is None else self.columns.index(column)
        (after,) = self.behaviours([change])
        return effect_interval(self.intact, after, index, outcome, resamples=resamples, seed=seed)

    def outcome_of(self, column: str) -> str:
        """Return what a change is judged by: ``moved`` for a column that follows behaviour, else ``log_prob``.

        A column follows behaviour if any of its values changes when every neuron is put to its mean: one fixed change, so
        that the choice depends on no neuron that is under test. An external label never does.
        """
        index = self.columns.index(column)
        (after,) = self.behaviours([self._everything])
        same = np.array_equal(after.values[:, index], self.intact.values[:, index], equal_nan=True)
        return "log_prob" if same else "moved"

    def of(self, metrics: Applied) -> Testbed:
        """Return a testbed of the same examples that watches other metrics."""
        return Testbed(self.replay, metrics)


def testbed(
    lm: LanguageModel,
    task: Task,
    discovery: Sequence[EncodedExample],
    heldout: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    metrics: Applied,
    *,
    mode: str = "mean",
    positions: str = "prompt",
    batch_size: int = 64,
    seed: int = 0,
) -> Testbed:
    """Measure on discovery what neurons normally do, and make heldout ready for changes."""
    fitting = MicroBatches(batch_size)
    reference = measure_reference(
        lm, discovery, prompt, positions=positions, donors=mode == "resample", fitting=fitting
    )
    return Testbed(Replay(lm, task, heldout, prompt, reference, positions, batch_size, seed, fitting), metrics)


testbed.__test__ = False  # type: ignore[attr-defined]  # pytest: neither is this
