"""Screens keep what the pilot says, and what is kept is measured as in the full pass."""

from __future__ import annotations

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.planting import plant_strengths
from skillneurons.prompt import initial_prompt
from skillneurons.screening import METHODS, recall

TASK = sn.Task(
    "parity",
    "1",
    lambda split, *, limit=None, seed=0: parity_examples(split, limit or 60),
    chance=0.5,
    label_columns=("even",),
)
SIZES = {"discovery": 60, "heldout": 40}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("position", ["last", "mean"])
def test_kept_neurons_score_as_in_the_full_pass(tiny: sn.LanguageModel, method: str, position: str) -> None:
    prompt = initial_prompt(tiny, 3)
    found = sn.screen(tiny, TASK, prompt=prompt, method=method, fraction=0.2, pilot=40, position=position)
    assert found.keep.sum() == round(0.2 * tiny.n_neurons) and found.n_pilot == 40
    part = sn.attribute_kept(tiny, TASK, found, prompt=prompt, position=position, **SIZES)
    whole = sn.attribute(tiny, TASK, prompt=prompt, position=position, permutations=0, bootstrap=0, **SIZES)
    for column in whole.scores:
        for mine, full in ((part.scores, whole.scores), (part.heldout, whole.heldout)):
            assert np.isnan(mine[column][~found.keep]).all()
            np.testing.assert_allclose(mine[column][found.keep], full[column][found.keep], atol=1e-5)
    assert part.top(3, "labels.even").equals(part.top(3, "labels.even"))


def test_layers_keeps_whole_layers_first(tiny: sn.LanguageModel) -> None:
    found = sn.screen(tiny, TASK, prompt=initial_prompt(tiny, 3), method="layers", fraction=0.5, pilot=40)
    shares = sorted(found.keep.mean(axis=1).tolist())
    assert shares == pytest.approx([0.0, 0.5, 1.0])


def test_a_planted_neuron_is_kept_by_its_pilot(tiny: sn.LanguageModel) -> None:
    plant = plant_strengths(tiny.n_layers, tiny.d_ff, [0.95], seed=1)
    metric = sn.Metric("planted", lambda example, output: plant.metric(example.id))
    options = {"metrics": [metric], "prompt": initial_prompt(tiny, 3), "plant": plant}
    found = sn.screen(tiny, TASK, method="pilot", fraction=0.02, pilot=60, **options)
    assert found.keep.ravel()[plant.neurons].all()
    part = sn.attribute_kept(tiny, TASK, found, **options, **SIZES)
    assert (np.abs(part.scores["planted"].ravel()[plant.neurons]) > 0.85).all()


def test_gradient_equals_a_plain_backward_pass(qwen: sn.LanguageModel) -> None:
    prompt = initial_prompt(qwen, 3)
    found = sn.screen(qwen, TASK, prompt=prompt, method="gradient", fraction=0.1, pilot=12)
    total = np.zeros(qwen.n_neurons)
    for example in parity_examples("train", 12):
        ids = torch.tensor([qwen.encode(example.prompt)])
        target = qwen.encode_answer(example.target)
        tail = [qwen.embed(torch.tensor([target[:-1]]))] if len(target) > 1 else []
        seen: list[torch.Tensor] = []
        hooks = [p.register_forward_pre_hook(lambda _m, a: seen.append(a[0])) for p in qwen.projections]
        embedded = torch.cat([qwen.embed(ids), prompt.embeddings[None], *tail], dim=1).requires_grad_(True)
        log_probs = qwen.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
        for hook in hooks:
            hook.remove()
        read = ids.shape[1] + 3 - 1
        loss = sum(log_probs[read + i, token] for i, token in enumerate(target))
        gradients = torch.autograd.grad(loss, seen)
        parts = [(a[0, read] * g[0, read]).abs().detach() for a, g in zip(seen, gradients, strict=True)]
        total += torch.cat(parts).double().numpy()
    expected = set(np.argsort(-total)[: round(0.1 * qwen.n_neurons)].tolist())
    assert set(np.flatnonzero(found.keep.ravel()).tolist()) == expected


def test_recall_by_hand() -> None:
    true = np.array([[0.9, -0.8, np.nan], [0.1, 0.7, -0.2]])
    keep = np.array([[True, False, True], [False, True, False]])
    assert recall(true, keep, 1) == 1.0
    assert recall(true, keep, 2) == 0.5
    assert recall(true, keep, 3) == pytest.approx(2 / 3)
    assert recall(true, keep, 100) == pytest.approx(2 / 5)
    with pytest.raises(sn.UserError, match="no neuron has a score"):
        recall(np.full((1, 2), np.nan), np.array([[True, True]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "layer"}, "no screening method named 'layer'; did you mean 'layers'"),
        ({"fraction": 0}, "fraction 0: must be above 0 and at most 1"),
        ({"fraction": 1.5}, "fraction 1.5: must be above 0 and at most 1"),
        ({"columns": ["labels.odd"]}, "no column named 'labels.odd'"),
        ({"pilot": 3}, "pilot 3: a screen needs at least 10 examples"),
        ({"position": "last", "prompt": None}, "there is no prompt; use input_last"),
        ({"position": "max"}, "position 'max' reads a prompt token per neuron"),
    ],
)
def test_bad_input(qwen: sn.LanguageModel, changes: dict, message: str) -> None:
    with pytest.raises(sn.UserError, match=message):
        sn.screen(qwen, TASK, **{"prompt": initial_prompt(qwen, 3), "pilot": 20, **changes})


def test_a_screen_of_another_model_is_refused(qwen: sn.LanguageModel) -> None:
    found = sn.screen(qwen, TASK, prompt=initial_prompt(qwen, 3), method="pilot", pilot=20)
    smaller = type(found)(found.keep[:1], found.method, found.n_pilot)
    with pytest.raises(sn.UserError, match="the screen is of a model of .1, 48. neurons, this one has .3, 48."):
        sn.attribute_kept(qwen, TASK, smaller, prompt=initial_prompt(qwen, 3))
