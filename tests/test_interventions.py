"""Interventions against plain PyTorch edits of the model, and that they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
import torch
from skillneurons.interventions import Intervention, LayerEdit, edited

ARCHITECTURES = ("qwen2", "llama", "gpt2")
IDS = torch.tensor([[5, 9, 30, 7, 11], [4, 4, 8, 100, 2]])


@pytest.fixture(params=ARCHITECTURES)
def lm(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> sn.LanguageModel:
    return sn.load_model(str(model_folder(request.param)), device="cpu")


def logits(lm: sn.LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = lm.model(input_ids=IDS).logits
    return found


def hooks(lm: sn.LanguageModel) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in lm.model.modules())


def test_the_model_is_bit_identical_after_use(lm: sn.LanguageModel) -> None:
    before, n = logits(lm), hooks(lm)
    weights = {name: value.clone() for name, value in lm.model.state_dict().items()}
    with sn.ablate(lm, [(0, 3), (2, 1)]):
        assert not torch.equal(logits(lm), before) and hooks(lm) == n + 3  # one on the whole model
    assert torch.equal(logits(lm), before) and hooks(lm) == n
    assert all(torch.equal(value, weights[name]) for name, value in lm.model.state_dict().items())


def test_hooks_go_also_when_an_exception_passes(lm: sn.LanguageModel) -> None:
    before, n = logits(lm), hooks(lm)
    with pytest.raises(RuntimeError, match="mine"), sn.steer(lm, [(1, 0)], [3.0]):
        assert hooks(lm) == n + 2
        raise RuntimeError("mine")
    assert hooks(lm) == n and torch.equal(logits(lm), before)
    wrong = Intervention(lm, {0: LayerEdit(torch.tensor([10**6]), torch.zeros(1))})
    with pytest.raises(IndexError), wrong:
        logits(lm)
    assert hooks(lm) == n and torch.equal(logits(lm), before)


def test_changing_no_neuron_changes_no_bit(lm: sn.LanguageModel) -> None:
    before = logits(lm)
    for context in (sn.ablate(lm, []), sn.steer(lm, [], []), sn.ablate(lm, [(0, 1)], window=slice(0, 0))):
        with context:
            assert torch.equal(logits(lm), before)
    with sn.steer(lm, [(0, 1), (2, 5)], [0.0, 0.0]):
        assert torch.equal(logits(lm), before)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_ablating_a_whole_layer_is_a_pass_without_that_feed_forward(lm: sn.LanguageModel, layer: int) -> None:
    with sn.ablate(lm, [(layer, n) for n in range(lm.d_ff)]):
        ours = logits(lm)

    def without(_module: Any, _args: Any, out: torch.Tensor) -> torch.Tensor:
        bias = getattr(lm.projections[layer], "bias", None)
        return torch.zeros_like(out) if bias is None else bias.expand_as(out)  # what is left of a plain block

    handle = lm.projections[layer].register_forward_hook(without)
    try:
        torch.testing.assert_close(ours, logits(lm), rtol=0, atol=1e-6)
    finally:
        handle.remove()


def test_values_and_windows_by_a_plain_hook(lm: sn.LanguageModel) -> None:
    def plain(_module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        a = args[0].clone()
        a[:, -2:, 4], a[:, -2:, 7] = 0.5, -2.0
        return (a,)

    handle = lm.projections[1].register_forward_pre_hook(plain)
    expected = logits(lm)
    handle.remove()
    with sn.ablate(lm, [(1, 4), (1, 7)], mode="mean", values=[0.5, -2.0], window=slice(-2, None)):
        assert torch.equal(logits(lm), expected)


def test_an_edit_by_hand() -> None:
    a = torch.arange(12.0).reshape(1, 3, 4)
    edit = LayerEdit(torch.tensor([1, 3]), torch.tensor([10.0, 20.0]), add=True)
    assert edited(a, edit, slice(1, 2)).tolist() == [[[0, 1, 2, 3], [4, 15, 6, 27], [8, 9, 10, 11]]]
    some = LayerEdit(torch.tensor([0]), torch.tensor([-1.0]), chosen=torch.tensor([[[False]]]))
    assert torch.equal(edited(a, some), a)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda lm: sn.ablate(lm, [(3, 0)]), "no neuron L03.N0000 in .*: it has layers 0 to 2 of"),
        (lambda lm: sn.ablate(lm, [(0, 10**5)]), "no neuron L00.N100000"),
        (lambda lm: sn.ablate(lm, [(0, 1), (0, 1)]), "a neuron stands twice in the set; name each once"),
        (lambda lm: sn.ablate(lm, [(0, 1)], mode="median"), "no ablation mode named 'median'; did you mean 'mean'"),
        (lambda lm: sn.ablate(lm, [(0, 1)], mode="mean"), "mode 'mean' needs values, one per neuron"),
        (lambda lm: sn.steer(lm, [(0, 1)], [1.0, 2.0]), "2 values for 1 neurons; give one per neuron"),
        (lambda lm: sn.steer(lm, [(0, 1)], [float("inf")]), "a value for a neuron is not finite"),
    ],
)
def test_bad_input(lm: sn.LanguageModel, make: Callable[[sn.LanguageModel], Intervention], message: str) -> None:
    with pytest.raises(sn.UserError, match=message):
        make(lm)
