"""Cached inputs against the plain pass over whole sequences: losses, gradients, trained prompts, budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.answer_loss import answer_loss, cached_answer_loss
from skillneurons.cli import main
from skillneurons.input_cache import CacheBudget, InputCache
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.measurement import measure
from skillneurons.prompt import initial_prompt
from skillneurons.tuning import TuningSettings, run_inputs, tune_on

M = 4
NOTHING = CacheBudget(0, 0)


def encoded_of(lm: sn.LanguageModel, n: int = 7) -> list[EncodedExample]:
    """Return inputs and answers of several lengths."""
    task = sn.Task("t", "1", parity_examples, kind="open")
    examples = [sn.Example(str(i), f"What is {10 ** (i % 4)} and {i}?", str(3 * 10 ** (4 - i % 3))) for i in range(n)]
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=M)
    assert len({len(row.ids) for row in encoded}) > 2 and len({len(row.target) for row in encoded}) > 2
    return encoded


@pytest.mark.parametrize("budget", [None, NOTHING, CacheBudget(0, 20_000)])
def test_loss_and_gradient_are_the_plain_passs(tiny: sn.LanguageModel, budget: CacheBudget | None) -> None:
    rows = encoded_of(tiny)
    inputs = InputCache(tiny, room=M + 6, budget=budget).fill(rows, batch_size=2)
    assert sum(inputs.stored.values()) == len(rows)
    assert (inputs.stored["again"] == 0) == (budget is None)
    assert (inputs.stored["device"] > 0) == (budget != NOTHING)
    for batch in (rows, rows[:1], [rows[0], rows[4]], rows[::-1]):
        found = []
        for cached in (False, True):
            virtual = initial_prompt(tiny, M, seed=3).embeddings.clone().requires_grad_(True)
            if cached:
                loss, n = cached_answer_loss(tiny, batch, virtual, inputs)
            else:
                loss, n = answer_loss(tiny, batch, virtual, "append")
            loss.backward()
            found.append((float(loss.detach()), n, virtual.grad))
        (plain, n_plain, gradient), (ours, n_ours, our_gradient) = found
        assert ours == pytest.approx(plain, rel=1e-5) and n_ours == n_plain
        torch.testing.assert_close(our_gradient, gradient, rtol=1e-3, atol=1e-5)


def test_the_trained_prompt_is_the_plain_paths(tiny: sn.LanguageModel) -> None:
    train, validation = encoded_of(tiny, 20), encoded_of(tiny, 9)
    settings = TuningSettings(steps=10, lr=0.05, batch_size=6, eval_every=5)
    start = initial_prompt(tiny, M, seed=1)
    plain = tune_on(tiny, train, validation, start, settings, seed=2)
    inputs = run_inputs(tiny, train, validation, M, batch_size=4)
    ours = tune_on(tiny, train, validation, start, settings, seed=2, inputs=inputs)
    assert not torch.equal(plain.embeddings, start.embeddings)
    torch.testing.assert_close(ours.embeddings, plain.embeddings, rtol=1e-3, atol=1e-3)
    for one, other in zip(ours.history, plain.history, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    again = tune_on(tiny, train, validation, start, settings, seed=2, inputs=inputs)
    assert torch.equal(again.embeddings, ours.embeddings)  # what was run on the cache has left it as it was


def test_equal_inputs_are_kept_once_and_the_cache_stays(qwen: sn.LanguageModel) -> None:
    rows = encoded_of(qwen)
    inputs = InputCache(qwen, room=M + 6).fill([*rows, *rows])
    assert inputs.stored == {"device": len(rows), "host": 0, "again": 0}
    first = inputs.start(rows[:2])
    before = [layer.keys.clone() for layer in first.cache.layers]
    with torch.no_grad():
        qwen.model(inputs_embeds=initial_prompt(qwen, M).embeddings.expand(2, -1, -1), past_key_values=first.cache)
    assert first.cache.layers[0].keys.shape[2] == first.cache.layers[0].values.shape[2] == before[0].shape[2] + M
    for layer, keys in zip(inputs.start(rows[:2]).cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_steps_use_one_place_in_memory_and_find_nothing_of_each_other_there(tiny: sn.LanguageModel) -> None:
    rows = encoded_of(tiny)
    inputs = InputCache(tiny, room=M + 6).fill(rows)
    virtual = initial_prompt(tiny, M, seed=3).embeddings

    def gradient(batch: list[EncodedExample], cache: InputCache) -> torch.Tensor:
        own = virtual.clone().requires_grad_(True)
        return torch.autograd.grad(cached_answer_loss(tiny, batch, own, cache)[0], own)[0]

    alone = [gradient(batch, InputCache(tiny, room=M + 6).fill(rows)) for batch in (rows[:2], rows, rows[3:4])]
    kept = inputs.start(rows)  # not for once: no step may touch it
    before = [layer.keys.clone() for layer in kept.cache.layers]
    for _ in range(2):
        for batch, wanted in zip((rows[:2], rows, rows[3:4]), alone, strict=True):
            assert torch.equal(gradient(batch, inputs), wanted)
        for flat in inputs._workspace._flat.values():
            flat.fill_(float("nan"))  # what stands there is never read
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(kept.cache.layers, before, strict=True))
    with pytest.raises(sn.UserError, match="run for at most 5 tokens behind them, and .* follow; run them again"):
        cached_answer_loss(tiny, rows, virtual, InputCache(tiny, room=5).fill(rows))


def test_a_window_that_the_sequence_exceeds_is_run_again(tmp_path: Path) -> None:
    from skillneurons.model_source import pocket_folder
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    for window, stored in ((6, "again"), (100, "device")):
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=window,
            initializer_range=0.3,
        )
        MistralForCausalLM(config).save_pretrained(tmp_path / str(window))
        tokenizer.save_pretrained(tmp_path / str(window))
        lm = sn.load_model(str(tmp_path / str(window)), device="cpu")
        rows = encoded_of(lm)
        inputs = InputCache(lm, room=M + 6).fill(rows)
        assert inputs.stored[stored] == len(rows)
        virtual = initial_prompt(lm, M, seed=3).embeddings
        with torch.no_grad():
            for batch in (rows, rows[:1]):
                ours, plain = (
                    cached_answer_loss(lm, batch, virtual, inputs)[0],
                    answer_loss(lm, batch, virtual, "append")[0],
                )
                assert float(ours) == pytest.approx(float(plain), rel=1e-5)


def test_budgets_that_make_no_sense_are_refused(qwen: sn.LanguageModel) -> None:
    with pytest.raises(sn.UserError, match="a cache budget must not be negative"):
        CacheBudget(-1, 0)
    with pytest.raises(sn.UserError, match="the cache budget of 10 bytes does not hold one input .* or 0 for both"):
        InputCache(qwen, room=M, budget=CacheBudget(0, 10)).fill(encoded_of(qwen))
    with pytest.raises(sn.UserError, match="a prompt before the input changes the input's keys and values"):
        rows = encoded_of(qwen)
        start = initial_prompt(qwen, M, placement="prepend")
        tune_on(qwen, rows, rows, start, TuningSettings(steps=1), inputs=run_inputs(qwen, rows, rows, M))


def cells(place: Path) -> dict[str, Any]:
    found = (path for path in (place / "cells").glob("*.json") if not path.name.endswith(".run.json"))
    return {path.stem: json.loads(path.read_text()) for path in found}


def test_a_run_is_the_same_whatever_its_budget_and_seeds_share_their_inputs(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    fill = InputCache.fill

    def counted(self: InputCache, encoded: Any, *args: Any, **more: Any) -> InputCache:
        runs.append(len(encoded))
        return fill(self, encoded, *args, **more)

    monkeypatch.setattr(InputCache, "fill", counted)
    settings = ["prompt.steps=2", "prompt.num_virtual_tokens=3", "attribution.permutations=19", "causal.enabled=false"]
    command = ["run", "-m", str(model_folder("llama")), "-t", "arithmetic-open", "-M", "confidence", "--limit", "16"]
    command += [part for setting in settings for part in ("--set", setting)]
    command += ["--device", "cpu", "--seed", "0", "--seed", "1"]
    assert main([*command, "-o", str(tmp_path / "kept")]) == 0
    assert runs == [3, 1, 16, 16]  # the parity check at load; train and validation, once for both seeds
    nothing = ["--set", "cache.device_gb=0", "--set", "cache.host_gb=0"]
    assert main([*command, *nothing, "-o", str(tmp_path / "again")]) == 0
    kept, again = cells(tmp_path / "kept"), cells(tmp_path / "again")
    assert len(kept) == 2 and kept.keys() == again.keys()  # a budget changes no result, so it is no part of a key
    for key, cell in kept.items():
        assert cell["accuracy"] == pytest.approx(again[key]["accuracy"], nan_ok=True)
        for name, figures in cell["columns"].items():
            other = again[key]["columns"][name]
            for what in ("top10_r", "heldout_top10_r", "baseline_top10_r", "untuned_top10_r"):
                assert figures[what] == pytest.approx(other[what], abs=2e-3)


def test_a_pass_under_a_prompt_runs_no_input_twice(qwen: sn.LanguageModel) -> None:
    rows = encoded_of(qwen)
    task = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=2)
    prompt = initial_prompt(qwen, M, seed=1)
    applied = {"confidence": (sn.get_metric("confidence"), sn.get_metric("confidence").columns_for(task))}
    inputs = InputCache(qwen, room=M + 6)
    plain = measure(qwen, task, rows, applied, prompt)
    measure(qwen, task, rows, applied, None, inputs=inputs)
    assert inputs.stored["device"] == len(rows)
    lengths: list[int] = []
    hook = qwen.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: lengths.append(
            (kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]).shape[1]
        ),
        with_kwargs=True,
    )
    cached = measure(qwen, task, rows, applied, prompt, inputs=inputs)
    hook.remove()
    assert max(lengths) <= max(M, 5) < min(len(row.ids) for row in rows)
    np.testing.assert_allclose(cached.values, plain.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cached.accumulator.result(), plain.accumulator.result(), atol=1e-3)


def test_a_budget_is_spent_in_order_device_first(qwen: sn.LanguageModel) -> None:
    rows = sorted(encoded_of(qwen), key=lambda row: len(row.ids))
    whole = InputCache(qwen, room=M).fill(rows)
    size = CacheBudget().device_bytes - whole.left.device_bytes
    assert size == sum(2 * 3 * 2 * 8 * 4 * len(row.ids) for row in rows)  # K and V, layers, heads, head size, float32
    part = InputCache(qwen, room=M, budget=CacheBudget(size // 2, 0)).fill(rows, batch_size=1)
    assert part.stored["device"] and part.stored["again"] and part.left.device_bytes >= 0
    assert not part.holds(rows) and part.holds(rows[:1])
    assert CacheBudget.of_gigabytes(0.5, 0) == CacheBudget(500_000_000, 0)
