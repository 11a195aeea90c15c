from __future__ import annotations

from pathlib import Path

import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.checkpoint import TuningCheckpoint, TuningState, read_state
from skillneurons.errors import StorageError
from skillneurons.inputs import encode_examples
from skillneurons.micro_batches import MicroBatches
from skillneurons.prompt import initial_prompt
from skillneurons.results import ResultsFolder
from skillneurons.tuning import TuningSettings, run_inputs, tune_on

SETTINGS = TuningSettings(steps=7, lr=0.05, batch_size=4, eval_every=3, patience=5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tuned(
    lm: sn.LanguageModel, task: sn.Task, checkpoint: TuningCheckpoint | None = None, *, cached: bool = True
) -> sn.SoftPrompt:
    sizes = (("train", 10), ("validation", 6))
    rows = [encode_examples(lm, task, parity_examples(split, n), num_virtual_tokens=3) for split, n in sizes]
    start = initial_prompt(lm, 3, seed=1)
    inputs = run_inputs(lm, rows[0], rows[1], 3) if cached else None
    return tune_on(
        lm,
        rows[0],
        rows[1],
        start,
        SETTINGS,
        seed=1,
        inputs=inputs,
        checkpoint=checkpoint,
        fitting=MicroBatches(SETTINGS.batch_size),
    )


@pytest.mark.parametrize("cached", [True, False])
def test_a_tuning_broken_off_at_any_step_ends_at_the_same_bytes(
    qwen: sn.LanguageModel, parity: sn.Task, tmp_path: Path, cached: bool
) -> None:
    whole = tuned(qwen, parity, cached=cached)
    standing = [
        (0, False),
        (0, True),
        (1, False),
        (2, False),
        (3, False),
        (3, True),
        (4, False),
        (5, False),
        (6, False),
    ]
    standing += [(6, True), (7, False), (7, True)]  # where it is asked: before each step, and around each evaluation
    for stop_after, (step, evaluated) in enumerate(standing):
        asked = iter([False] * stop_after + [True])
        path = tmp_path / f"{stop_after}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            tuned(qwen, parity, TuningCheckpoint(path, "k", stop=lambda asked=asked: next(asked)), cached=cached)
        saved = read_state(path, "k")
        assert saved is not None and (saved.step, saved.evaluated) == (step, evaluated)
        again = tuned(qwen, parity, TuningCheckpoint(path, "k"), cached=cached)
        assert torch.equal(again.embeddings, whole.embeddings)
        assert list(again.history) == list(whole.history)


def test_that_the_state_matters(qwen: sn.LanguageModel, parity: sn.Task, tmp_path: Path) -> None:
    """A resume that forgot AdamW's moments would end elsewhere: the test above can fail."""
    whole = tuned(qwen, parity)
    path = tmp_path / "x.safetensors"
    asked = iter([False] * 5 + [True])
    with pytest.raises(KeyboardInterrupt):
        tuned(qwen, parity, TuningCheckpoint(path, "k", stop=lambda: next(asked)))
    saved = read_state(path, "k")
    assert saved is not None

    class Forgetful(TuningCheckpoint):
        def load(self) -> TuningState | None:
            from dataclasses import replace

            return replace(saved, moments=None)

    assert not torch.equal(tuned(qwen, parity, Forgetful(path, "k")).embeddings, whole.embeddings)


def test_it_is_written_when_it_is_time_and_only_then(tmp_path: Path) -> None:
    clock, made = Clock(), []

    def state() -> TuningState:
        made.append(clock.now)
        return TuningState(1, False, torch.zeros(2, 3), torch.zeros(2, 3), 0.5, 0)

    checkpoint = TuningCheckpoint(tmp_path / "a" / "b.safetensors", "k", every=30, clock=clock)
    for now in (0, 10, 29.9, 30, 31, 59, 60):
        clock.now = now
        checkpoint.offer(state)
    assert made == [30, 60] and not checkpoint.resumed
    assert checkpoint.load() is not None and checkpoint.resumed
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.safetensors"]
    checkpoint.remove()
    assert checkpoint.load() is None and not checkpoint.path.exists() and not checkpoint.resumed


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = TuningState(
        step=3,
        evaluated=True,
        virtual=torch.randn(2, 3),
        best=torch.randn(2, 3),
        best_loss=float("inf"),
        without=2,
        moments=(torch.randn(2, 3), torch.rand(2, 3)),
        running=[0.1, 1 / 3],
        history=[{"step": 0, "validation_loss": 1 / 7}],
        at_once=8,
    )
    TuningCheckpoint(path, "k", every=0).offer(lambda: state)
    again = read_state(path, "k")
    assert again is not None and again.moments is not None and state.moments is not None
    for mine, theirs in (
        (state.virtual, again.virtual),
        (state.best, again.best),
        *zip(state.moments, again.moments, strict=True),
    ):
        assert torch.equal(mine, theirs)
    for name in ("step", "evaluated", "best_loss", "without", "running", "history", "at_once"):
        assert getattr(again, name) == getattr(state, name)


def test_what_is_not_of_this_prompt_or_damaged_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    TuningCheckpoint(path, "k", every=0).offer(
        lambda: TuningState(1, False, torch.zeros(1, 1), torch.zeros(1, 1), 1.0, 0)
    )
    assert read_state(path, "k") is not None
    assert read_state(path, "another") is None
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read_state(path, "k") is None
    path.write_bytes(whole.replace(b'format":"1', b'format":"0'))
    assert read_state(path, "k") is None


def test_a_store_whose_bucket_is_gone_ends_the_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder of this disk is made again; a missing bucket is an error once, not for ever."""
    asked = []

    def gone(self: ResultsFolder, *paths: Path) -> None:
        asked.append(paths)
        raise StorageError("there is no bucket") from FileNotFoundError("NoSuchBucket")

    monkeypatch.setattr(ResultsFolder, "publish", gone)
    checkpoint = TuningCheckpoint(tmp_path / "checkpoints" / "a.safetensors", "a", every=0.0)
    state = TuningState(1, False, torch.ones(2, 3), torch.ones(2, 3), 0.5, 0)
    with pytest.raises(StorageError, match="there is no bucket"):
        checkpoint.offer(lambda: state)
    assert len(asked) == 1
