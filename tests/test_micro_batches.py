"""A batch that does not fit: halved and gone on with, the same results, a clear end at a single example."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons import local_executor
from skillneurons.changes import Change
from skillneurons.cli import main
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.measurement import measure
from skillneurons.micro_batches import MicroBatches, is_out_of_memory
from skillneurons.prompt import initial_prompt
from skillneurons.reference import measure_reference
from skillneurons.replay import Replay
from skillneurons.results import ResultsFolder
from skillneurons.tuning import TuningSettings, run_inputs, tune_on

M = 3


class Small:
    """A device with room for ``most`` sequences: a larger forward pass runs out of memory, as CUDA says it."""

    def __init__(self, model: Any, most: int) -> None:
        self.most, self.seen = most, []
        self._handle = model.register_forward_pre_hook(self._check, with_kwargs=True)

    def _check(self, _module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        given = kwargs.get("inputs_embeds") if kwargs.get("inputs_embeds") is not None else kwargs.get("input_ids")
        n = len(given)
        if n > self.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {n} sequences")
        self.seen.append(n)

    def __enter__(self) -> Small:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def rows_of(lm: sn.LanguageModel, n: int = 12, kind: Any = "open") -> tuple[sn.Task, list[EncodedExample]]:
    task = sn.Task("t", "1", parity_examples, kind=kind, max_new_tokens=4)
    choices = ("yes", "no indeed") if kind == "choice" else None
    examples = [
        sn.Example(str(i), f"Is {10 ** (i % 2)} more than {i % 10}?", "yes" if choices else str(i), choices=choices)
        for i in range(n)
    ]
    return task, encode_examples(lm, task, examples, num_virtual_tokens=M)


def test_a_part_that_does_not_fit_is_halved_and_nothing_is_run_twice() -> None:
    ran: list[list[int]] = []

    def work(part: Sequence[int]) -> int:
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        ran.append(list(part))
        return sum(part)

    fitting = MicroBatches(16)
    done = fitting.run(list(range(10)), work)
    assert (fitting.size, fitting.halved) == (2, 2)  # 10 -> 5 -> 2
    assert [list(part) for part, _ in done] == ran and [n for part in ran for n in part] == list(range(10))
    assert sum(result for _, result in done) == 45
    fitting.run([1, 2, 3], work)
    assert ran[-2:] == [[1, 2], [3]] and fitting.halved == 2  # what was learnt stays


def test_one_row_that_does_not_fit_is_the_end_and_other_errors_pass() -> None:
    def never(part: Sequence[int]) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    def broken(part: Sequence[int]) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(sn.CellError, match="out of memory with a single example at once .*cache.device_gb"):
        MicroBatches(4).run([1, 2, 3], never)
    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatches(4).run([1, 2, 3], broken)
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("out of memory"))


def test_a_batch_grows_while_there_is_room() -> None:
    sizes: list[int] = []
    shares = iter([0.1, 0.2, 0.6, 0.1, 0.1, 0.1])
    fitting = MicroBatches(2, 16, lambda: next(shares))
    fitting.run(range(40), lambda part: sizes.append(len(part)))
    assert sizes == [2, 4, 8, 8, 16, 2]
    unknown = MicroBatches(2, 16, lambda: None)
    unknown.run(range(9), lambda part: None)
    assert unknown.size == 2

    def small(part: Sequence[int]) -> None:
        if len(part) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    once = MicroBatches(2, 16, lambda: 0.0)
    once.run(range(40), small)
    assert (once.size, once.limit, once.halved) == (4, 4, 1)  # it does not try again


@pytest.mark.parametrize("kind", ["open", "choice"])
def test_a_pass_is_the_same_whatever_fits(tiny: sn.LanguageModel, kind: str) -> None:
    task, rows = rows_of(tiny, kind=kind)
    prompt = initial_prompt(tiny, M, seed=1)
    confidence = sn.get_metric("confidence")
    applied = {"confidence": (confidence, confidence.columns_for(task))}
    whole = measure(tiny, task, rows, applied, prompt)
    with Small(tiny.model, 3) as device:
        fitting = MicroBatches(64)
        cut = measure(tiny, task, rows, applied, prompt, fitting=fitting)
    assert fitting.halved and max(device.seen) <= 3
    assert [one.text for one in cut.outputs] == [one.text for one in whole.outputs]
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cut.accumulator.result(), whole.accumulator.result(), atol=2e-4)


def test_tuning_keeps_its_effective_batch(tiny: sn.LanguageModel) -> None:
    _, rows = rows_of(tiny, 16)
    start = initial_prompt(tiny, M, seed=1)
    settings = TuningSettings(steps=6, lr=0.05, batch_size=8, eval_every=3)

    def tuned(fitting: MicroBatches, cached: bool) -> Any:
        inputs = run_inputs(tiny, rows[:12], rows[12:], M, fitting=fitting) if cached else None
        return tune_on(tiny, rows[:12], rows[12:], start, settings, seed=1, inputs=inputs, fitting=fitting)

    for cached in (True, False):
        whole = tuned(MicroBatches(8), cached)
        with Small(tiny.model, 3) as device:
            fitting = MicroBatches(8)
            cut = tuned(fitting, cached)
        assert fitting.halved and fitting.size <= 3 and max(device.seen) <= 3
        torch.testing.assert_close(cut.embeddings, whole.embeddings, rtol=1e-3, atol=1e-3)
        for one, other in zip(cut.history, whole.history, strict=True):
            assert one == pytest.approx(other, rel=1e-4)


def test_causal_runs_go_on_in_smaller_batches(qwen: sn.LanguageModel) -> None:
    task, rows = rows_of(qwen, kind="choice")
    prompt = initial_prompt(qwen, M, seed=1)
    changes = [Change(), Change((3, 50), "zero")]
    reference = measure_reference(qwen, rows, prompt)
    whole = Replay(qwen, task, rows, prompt, reference).outputs(changes)
    with Small(qwen.model, 4):
        fitting = MicroBatches(8)
        cut_reference = measure_reference(qwen, rows, prompt, fitting=fitting)
        cut = Replay(qwen, task, rows, prompt, cut_reference, fitting=fitting).outputs(changes)
    assert fitting.halved and fitting.size < 8
    for stage, mean in reference.mean.items():
        np.testing.assert_allclose(cut_reference.mean[stage], mean, rtol=1e-3, atol=1e-5)
    for ours, other in zip(cut, whole, strict=True):
        for a, b in zip(ours, other, strict=True):
            assert a.choice_log_probs == pytest.approx(b.choice_log_probs, abs=1e-4)


@pytest.mark.parametrize("most", [2, 0])
def test_a_run_records_what_fitted_and_goes_on_where_nothing_does(
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    most: int,
) -> None:
    load = local_executor.load

    def small(context: Any, model: str) -> sn.LanguageModel:
        lm = load(context, model)
        Small(lm.model, most)
        return lm

    monkeypatch.setattr(local_executor, "load", small)
    settings = ["prompt.steps=2", "prompt.num_virtual_tokens=3", "attribution.permutations=19", "causal.enabled=false"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = ["run", "-m", str(model_folder("qwen2")), "-t", "arithmetic", "-M", "labels", "--limit", "20"]
    code = main([*command, *arguments, "--device", "cpu", "-o", str(tmp_path / "runs")])
    folder = ResultsFolder(tmp_path / "runs")
    (path,) = (path for path in folder.cells.glob("*.json") if not path.name.endswith(".run.json"))
    cell, record = json.loads(path.read_text()), json.loads(path.with_suffix(".run.json").read_text())
    told = " ".join(capsys.readouterr().err.split())
    if most:
        assert code == 0 and cell["status"] == "ok"
        assert record["batch_size"]["passes"] <= 2 and record["batch_size"]["tuning"] <= 2
        assert record["batch_size"]["out_of_memory"] >= 2
        assert "out of memory" in told and "results are the same up to rounding" in told
    else:
        assert code == 1 and cell["status"] == "failed"
        assert "out of memory with a single example at once" in cell["error"]["message"]
