"""The embedded model: its form, what it was not trained on, and that it has learned its skills."""

from __future__ import annotations

import itertools
import json

import pytest
import skillneurons as sn
import torch
from safetensors import safe_open
from skillneurons.attribution import accuracy, measure
from skillneurons.inputs import encode_examples
from skillneurons.model_source import pocket_folder
from skillneurons.pocket.corpus import training_examples
from skillneurons.prompt import initial_prompt
from skillneurons.tasks import arithmetic, hans, skillmix
from skillneurons.tasks.arithmetic_items import SHARES


@pytest.fixture(scope="module")
def pocket() -> sn.LanguageModel:
    return sn.load_model("pocket", device="cpu")


def heldout_accuracy(
    lm: sn.LanguageModel, name: str, examples: list[sn.Example], prompt: sn.SoftPrompt | None
) -> float:
    task = sn.get_task(name)
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=10)
    measured = measure(lm, task, encoded, {}, prompt, accumulator=None)
    return accuracy(measured.encoded, measured.outputs)[0]


def test_form(pocket: sn.LanguageModel) -> None:
    weights = pocket_folder() / "model.safetensors"
    assert weights.stat().st_size < 10e6
    with safe_open(weights, "pt") as tensors:
        assert {str(tensors.get_tensor(name).dtype) for name in tensors.keys()} == {"torch.bfloat16"}  # noqa: SIM118
    assert pocket.architecture == "Qwen2ForCausalLM" and pocket.dtype == torch.float32
    assert 2e6 <= sum(p.numel() for p in pocket.model.parameters()) <= 5e6
    assert pocket.model.config.hidden_act == "silu"
    record = json.loads((pocket_folder() / "training.json").read_text())
    assert record["steps"] > 0 and (pocket_folder() / "README.md").read_text().count("seed")


def test_digits_are_single_tokens_and_any_text_round_trips(pocket: sn.LanguageModel) -> None:
    assert [pocket.decode([i]) for i in pocket.encode("947")] == ["9", "4", "7"]
    text = "What is 12 plus 47? Ünïcode — ok."
    assert pocket.decode(pocket.encode(text)) == text


def test_no_test_item_is_in_the_training_text() -> None:
    """Regenerate the start of the text and hold it against the splits it must not touch."""
    for kind in ("open", "verification"):
        for example in itertools.islice(training_examples(kind, 0), 3000):
            assert sn.split_by_group(example.group, "arithmetic", SHARES) == "train"
    for example in itertools.islice(training_examples("skillmix", 0), 500):
        assert sn.split_by_group(example.group, "skillmix") == "train"


def test_the_training_text_is_seeded() -> None:
    first, again, other = (
        [example.prompt for example in itertools.islice(training_examples("open", seed), 20)] for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("prompted", [False, True])
def test_it_adds_and_subtracts_what_it_never_saw(pocket: sn.LanguageModel, prompted: bool) -> None:
    prompt = initial_prompt(pocket, 10) if prompted else None
    examples = arithmetic.load("heldout", form="open", limit=200, digits=[1, 2], operations=["addition", "subtraction"])
    assert heldout_accuracy(pocket, "arithmetic-open", examples, prompt) >= 0.9


def test_it_verifies_better_than_chance_across_an_untuned_prompt(pocket: sn.LanguageModel) -> None:
    examples = arithmetic.load("heldout", form="verification", limit=300, digits=[1, 2])
    assert heldout_accuracy(pocket, "arithmetic", examples, initial_prompt(pocket, 10)) >= 0.78


def test_hans_catches_it_out(pocket: sn.LanguageModel) -> None:
    """Right where the heuristic is right, clearly worse where it is wrong."""
    found = {}
    for gold in ("entailment", "non-entailment"):
        examples = [e for e in hans.load("heldout", limit=300) if e.fields["gold_label"] == gold]
        found[gold] = heldout_accuracy(pocket, "hans", examples, None)
    assert found["entailment"] >= 0.8 and found["non-entailment"] <= found["entailment"] - 0.25


def test_it_shows_most_but_not_all_asked_skills(pocket: sn.LanguageModel) -> None:
    task = sn.get_task("skillmix")
    encoded = encode_examples(pocket, task, skillmix.load("heldout", limit=60, k=[2, 3]), num_virtual_tokens=0)
    outputs = measure(pocket, task, encoded, {}, None, accumulator=None).outputs
    asked = [(o, skill) for row, o in zip(encoded, outputs, strict=True) for skill in row.example.fields["skills"]]
    shown = sum(o.labels[f"shown_{skillmix.COLUMNS[skill]}"] for o, skill in asked) / len(asked)
    assert 0.5 < shown < 0.98
