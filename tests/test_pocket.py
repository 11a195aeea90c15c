"""The embedded models: their form, what they were not trained on, and that they have learned their skills."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import skillneurons as sn
import torch
from safetensors import safe_open
from skillneurons.inputs import encode_examples
from skillneurons.measurement import accuracy, measure
from skillneurons.model_source import EMBEDDED, POCKET, SMALL, pocket_folder
from skillneurons.pocket.corpus import KINDS, NLI_POOL, training_examples
from skillneurons.predict import predict
from skillneurons.prompt import initial_prompt
from skillneurons.tasks import arithmetic, hans, nli, skillmix
from skillneurons.tasks.arithmetic_items import SHARES
from skillneurons.tasks.hans_grammar import generate_hans
from skillneurons.tasks.hans_source import read_pairs

ORIGINAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hans_eval_3000.tsv"


@pytest.fixture(scope="module")
def pocket() -> sn.LanguageModel:
    return sn.load_model("pocket", device="cpu")


@pytest.fixture(scope="module")
def small() -> sn.LanguageModel:
    return sn.load_model("pocket-small", device="cpu")


@pytest.fixture(scope="module", params=EMBEDDED)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each embedded model in turn."""
    return str(request.param)


def heldout_accuracy(
    lm: sn.LanguageModel, name: str, examples: list[sn.Example], prompt: sn.SoftPrompt | None
) -> float:
    task = sn.get_task(name)
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=10)
    measured = measure(lm, task, encoded, {}, prompt, accumulator=None)
    return accuracy(measured.encoded, measured.outputs)[0]


def test_form(name: str) -> None:
    folder, lm = pocket_folder(name), sn.load_model(name, device="cpu")
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 10e6
    with safe_open(weights, "pt") as tensors:
        assert {str(tensors.get_tensor(name).dtype) for name in tensors.keys()} == {"torch.bfloat16"}  # noqa: SIM118
    assert lm.architecture == "Qwen2ForCausalLM" and lm.dtype == torch.float32
    n = sum(p.numel() for p in lm.model.parameters())
    assert {POCKET: 2e6, SMALL: 1e6}[name] <= n <= {POCKET: 5e6, SMALL: 2e6}[name]
    assert lm.model.config.hidden_act == "silu"
    record = json.loads((folder / "training.json").read_text())
    card = (folder / "README.md").read_text()
    assert all(part["steps"] > 0 and f"--seed {part['seed']}" in card for part in record)
    assert f"{n / 1e6:.2f} million parameters" in card.replace("\n", " ")


def test_digits_are_single_tokens_and_any_text_round_trips(name: str) -> None:
    pocket = sn.load_model(name, device="cpu")
    assert [pocket.decode([i]) for i in pocket.encode("947")] == ["9", "4", "7"]
    text = "What is 12 plus 47? Ünïcode — ok."
    assert pocket.decode(pocket.encode(text)) == text


@pytest.fixture(scope="module")
def trained(name: str) -> list[dict[str, int]]:
    """Return the parts of the training: the seed of each, and how many examples of each kind it had."""
    parts = json.loads((pocket_folder(name) / "training.json").read_text())
    return [{"seed": part["seed"]} | {kind: part["steps"] * part["batch"][kind] for kind in KINDS} for part in parts]


@pytest.mark.parametrize("kind", ["open", "verification", "skillmix"])
def test_no_test_item_is_in_the_training_text(kind: str, trained: list[dict[str, int]]) -> None:
    """Regenerate the item list of the whole training: every group in it is of the split ``train``."""
    groups = {
        example.group
        for part in trained
        for example in itertools.islice(training_examples(kind, part["seed"]), part[kind])
    }
    salt, shares = ("skillmix", {}) if kind == "skillmix" else ("arithmetic", {"shares": SHARES})
    assert len(groups) > 1000
    assert {sn.split_by_group(group, salt, **shares) for group in groups} == {"train"}
    task = "skillmix" if kind == "skillmix" else f"arithmetic{'-open' if kind == 'open' else ''}"
    for split in ("discovery", "heldout"):
        assert groups.isdisjoint(example.group for example in sn.get_task(task).load(split, limit=2000))


@pytest.fixture(scope="module")
def nli_prompts(trained: list[dict[str, int]]) -> set[str]:
    pools = (nli.generate_nli(NLI_POOL, seed=part["seed"] + 1_000) for part in trained)
    return {example.prompt for pool in pools for example in pool}


def test_no_generated_hans_pair_is_in_the_training_text(nli_prompts: set[str]) -> None:
    generated = {nli.nli_prompt(pair.sentence1, pair.sentence2) for pair in generate_hans(1000, seed=0)}
    assert len(nli_prompts) > 50_000 and len(generated) == 30_000
    assert nli_prompts.isdisjoint(generated)


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the sample of the original HANS is not beside this folder")
def test_no_original_hans_pair_is_in_the_training_text(nli_prompts: set[str]) -> None:
    pairs = read_pairs(ORIGINAL)
    assert len(pairs) == 3000
    assert nli_prompts.isdisjoint(nli.nli_prompt(pair.sentence1, pair.sentence2) for pair in pairs)


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
    for turns in (1, 2):
        examples = skillmix.load("heldout", limit=60, k=[2, 3], turns=turns)
        outputs = [one.output for one in predict(pocket, sn.get_task("skillmix"), examples)]
        asked = [
            output.labels[f"shown_{column}"]
            for example, output in zip(examples, outputs, strict=True)
            for column in example.fields["columns"]
        ]
        assert 0.5 < sum(asked) / len(asked) < 0.98


def test_the_small_one_has_learned_too(small: sn.LanguageModel) -> None:
    prompt = initial_prompt(small, 10)
    sums = arithmetic.load("heldout", form="open", limit=200, digits=[1, 2], operations=["addition", "subtraction"])
    assert heldout_accuracy(small, "arithmetic-open", sums, prompt) >= 0.7
    statements = arithmetic.load("heldout", form="verification", limit=300, digits=[1, 2])
    assert heldout_accuracy(small, "arithmetic", statements, prompt) >= 0.65
