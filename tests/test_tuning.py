from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.answer_loss import answer_loss, mean_loss
from skillneurons.inputs import encode_examples
from skillneurons.prompt import initial_prompt

FAST = {"num_virtual_tokens": 3, "steps": 12, "eval_every": 4, "batch_size": 8, "lr": 0.05}


def weights(lm: sn.LanguageModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def test_the_model_stays_frozen_to_the_bit(tiny: sn.LanguageModel, parity: sn.Task) -> None:
    before = weights(tiny)
    prompt = sn.tune_prompt(tiny, parity, **FAST)
    assert not torch.equal(prompt.embeddings, initial_prompt(tiny, 3).embeddings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in tiny.model.parameters())


def test_padded_loss_equals_the_plain_pass_example_by_example(tiny: sn.LanguageModel) -> None:
    """Left-padded inputs and right-padded answers, against one unpadded pass per example."""
    task = sn.Task("t", "1", parity_examples, kind="open")
    examples = [sn.Example(str(i), f"What is {10**i}?", str(3 * 10 ** (4 - i))) for i in range(5)]
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=4)
    assert len({len(row.ids) for row in encoded}) == 5 and len({len(row.target) for row in encoded}) == 5
    virtual = initial_prompt(tiny, 4, seed=5).embeddings
    with torch.no_grad():
        summed, count = answer_loss(tiny, encoded, virtual, "append")
        plain = 0.0
        for row in encoded:
            embedded = torch.cat([tiny.embed(torch.tensor(row.ids)), virtual, tiny.embed(torch.tensor(row.target))])
            log_probs = tiny.model(inputs_embeds=embedded[None]).logits[0].log_softmax(-1)
            start = len(row.ids) + 3
            plain -= sum(float(log_probs[start + i, token]) for i, token in enumerate(row.target))
    assert count == sum(len(row.target) for row in encoded)
    assert float(summed) == pytest.approx(plain, rel=1e-5)


def test_gradient_equals_finite_differences(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    encoded = encode_examples(qwen, parity, parity_examples("train", 6), num_virtual_tokens=2)
    virtual = initial_prompt(qwen, 2, seed=1).embeddings.double().requires_grad_(True)
    exact = replace(qwen, model=copy.deepcopy(qwen.model).double())
    loss, _ = answer_loss(exact, encoded, virtual, "append")
    loss.backward()  # type: ignore[no-untyped-call]
    assert virtual.grad is not None
    direction = torch.randn(virtual.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = 1e-3
    with torch.no_grad():
        ahead, _ = answer_loss(exact, encoded, virtual + step * direction, "append")
        behind, _ = answer_loss(exact, encoded, virtual - step * direction, "append")
    assert float((virtual.grad * direction).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=0.01)


def test_the_best_validation_loss_is_kept(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    prompt = sn.tune_prompt(qwen, parity, **FAST)
    losses = [row["validation_loss"] for row in prompt.history]
    assert losses[0] > min(losses)
    encoded = encode_examples(qwen, parity, parity_examples("validation", 200), num_virtual_tokens=3)
    assert mean_loss(qwen, encoded, prompt.embeddings, "append", 8) == pytest.approx(min(losses), rel=1e-5)


def test_same_seed_same_bytes_other_seed_other_prompt(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    first, again, other = (sn.tune_prompt(qwen, parity, seed=seed, **FAST) for seed in (0, 0, 1))
    assert torch.equal(first.embeddings, again.embeddings) and first.history == again.history
    assert not torch.equal(first.embeddings, other.embeddings)


def test_tuning_stops_early(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    prompt = sn.tune_prompt(qwen, parity, num_virtual_tokens=2, steps=100, eval_every=2, patience=2, lr=50.0)
    assert prompt.history[-1]["step"] < 100
    assert all(math.isfinite(row["validation_loss"]) for row in prompt.history)


def test_an_unknown_setting_is_refused(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    with pytest.raises(sn.UserError, match="tune_prompt has no setting 'stepz'; known: steps, lr"):
        sn.tune_prompt(qwen, parity, stepz=3)
