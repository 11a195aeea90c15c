"""Where a tuning stands, on disk: a run that is killed goes on from there, to the same bytes.

State: the prompt's embeddings (num_virtual_tokens, d_model) float32, the best so far, AdamW's two moments, and what stands
beside them: the next step, the losses since the last evaluation, the history. One safetensors file whose header names what
it was made for; it appears whole or not at all, at most once in ``EVERY`` seconds, and is removed when the prompt is saved. When it
is written never changes a number.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from skillneurons.atomic import make_folder, write_atomic
from skillneurons.errors import StorageError
from skillneurons.results import ResultsFolder
from skillneurons.run_files import CHECKPOINT_FORMAT

EVERY = 30.0  # seconds of work that are lost at most, and the step in hand


@dataclass(frozen=True, slots=True, eq=False)
class TuningState:
    """A tuning between two steps.

    ``step`` is the next to do and ``evaluated`` whether the prompt was already evaluated before it. ``moments`` are AdamW's
    (first, second), None before the first step. ``at_once`` is how many rows ran at once, which memory may have halved.
    """

    step: int
    evaluated: bool
    virtual: torch.Tensor
    best: torch.Tensor
    best_loss: float
    without: int
    moments: tuple[torch.Tensor, torch.Tensor] | None = None
    running: Sequence[float] = ()
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    at_once: int = 0


class TuningCheckpoint:
    """The file of one tuning; ``made_for`` is the key of its prompt, which covers everything that changes it.

    ``folder`` is the results folder that it belongs to. ``stop`` is asked between steps: where it says so the state is written and KeyboardInterrupt raised.
    """

    def __init__(
        self,
        path: Path,
        made_for: str,
        *,
        folder: ResultsFolder | None = None,
        every: float | None = None,
        stop: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.made_for = path, made_for
        self._folder = folder or ResultsFolder(path.parent.parent)
        self.every = EVERY if every is None else every
        self._stop, self._clock = stop, clock
        self.problem = ""  # why the file that is there was of no use
        self._written = clock()
        self.resumed = False  # whether a tuning went on from here

    def load(self) -> TuningState | None:
        """Return the state that is saved for this prompt; None where there is none that can be read."""
        self._folder.fetched(self.path)
        found = read_state(self.path, self.made_for) if self.path.is_file() else None
        if found is None and self.path.is_file():
            self.problem = f"{self.path}: not a checkpoint of this tuning, or damaged; tuned from the start"
        self.resumed = found is not None
        return found

    def offer(self, state: Callable[[], TuningState]) -> None:
        """Write the state if it is time; raise KeyboardInterrupt after that where the run is to stop."""
        stopping = self._stop is not None and self._stop()
        now = self._clock()
        if stopping or now - self._written >= self.every:
            self._write(_bytes(state(), self.made_for))
            self._written = now
        if stopping:
            raise KeyboardInterrupt

    def _write(self, data: bytes) -> None:
        while True:
            make_folder(self.path.parent)
            try:
                write_atomic(self.path, data)
                break
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise  # else another runner, whose tuning was the last, took the empty folder with it
        self._folder.publish(self.path)

    def remove(self) -> None:
        """Remove the file, and its folder with the last: the prompt is saved."""
        self._folder.remove(self.path)
        with contextlib.suppress(OSError):  # not there, or not empty: other tunings stand there
            self.path.parent.rmdir()


def _bytes(state: TuningState, made_for: str) -> bytes:
    tensors = {"virtual": state.virtual, "best": state.best}
    if state.moments is not None:
        tensors |= {"first_moment": state.moments[0], "second_moment": state.moments[1]}
    about = {
        "step": state.step,
        "evaluated": state.evaluated,
        "best_loss": state.best_loss,
        "without": state.without,
        "running": list(state.running),
        "history": [dict(row) for row in state.history],
        "at_once": state.at_once,
    }
    header = {"format": CHECKPOINT_FORMAT, "made_for": made_for, "state": json.dumps(about, sort_keys=True)}
    kept = {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(kept, metadata=header)


def read_state(path: Path, made_for: str) -> TuningState | None:
    """Return the state in a file; None where it is damaged, of another prompt, or of another version."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != CHECKPOINT_FORMAT or header.get("made_for") != made_for:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        about = json.loads(header["state"])
        moments = tensors.get("first_moment"), tensors.get("second_moment")
        return TuningState(
            step=int(about["step"]),
            evaluated=bool(about["evaluated"]),
            virtual=tensors["virtual"],
            best=tensors["best"],
            best_loss=float(about["best_loss"]),
            without=int(about["without"]),
            moments=None if moments[0] is None or moments[1] is None else (moments[0], moments[1]),
            running=[float(one) for one in about["running"]],
            history=[dict(row) for row in about["history"]],
            at_once=int(about["at_once"]),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None  # tuned from the start, as if there were none
