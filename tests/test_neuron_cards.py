"""The parts of a neuron card against the plain Hugging Face model and scipy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from scipy import stats
from skillneurons.activations import ActivationRecorder
from skillneurons.density import density_by_value, density_lines, density_svg
from skillneurons.inputs import encode_examples
from skillneurons.output_vocabulary import norms_after, output_vector, output_vocabulary
from skillneurons.outputs import read_inputs
from skillneurons.prompt import initial_prompt
from skillneurons.token_activations import token_view

TASK = sn.Task("parity", "1", lambda split: [])


def row_of(lm: sn.LanguageModel) -> sn.Example:
    return encode_examples(lm, TASK, parity_examples("heldout", 3)[2:], num_virtual_tokens=3)[0]


def test_output_vocabulary_is_norm_and_unembedding_of_the_output_vector(tiny: sn.LanguageModel) -> None:
    model = tiny.model
    norm = model.transformer.ln_f if hasattr(model, "transformer") else model.model.norm
    assert norms_after(tiny, 0) == ([], norm)
    weight = tiny.projections[1].weight
    vector = weight[5] if hasattr(model, "transformer") else weight[:, 5]
    assert torch.equal(output_vector(tiny, 1, 5), vector)
    logits = (norm(vector[None])[0] @ model.get_output_embeddings().weight.T).detach()[: len(tiny.tokenizer)]
    found = output_vocabulary(tiny, 1, 5, k=4)
    order = logits.argsort(descending=True).tolist()
    assert [token for token, _ in found.promoted] == [tiny.tokenizer.decode([i]) for i in order[:4]]
    assert [value for _, value in found.promoted] == pytest.approx(logits[order[:4]].tolist(), abs=1e-5)
    assert [token for token, _ in found.suppressed] == [tiny.tokenizer.decode([i]) for i in order[::-1][:4]]
    with pytest.raises(sn.UserError, match="no neuron L07.N0000"):
        output_vocabulary(tiny, 7, 0)


def test_token_view_is_the_plain_model(tiny: sn.LanguageModel) -> None:
    prompt, row = initial_prompt(tiny, 3), row_of(tiny)
    embedded = torch.cat([tiny.embed(torch.tensor([row.ids])), prompt.embeddings[None]], dim=1)
    former = tiny.model.config._attn_implementation
    with torch.no_grad():
        before = tiny.model(inputs_embeds=embedded).logits
        view = token_view(tiny, row, prompt, [(2, 7), (0, 1)])
        assert tiny.model.config._attn_implementation == former
        assert torch.equal(tiny.model(inputs_embeds=embedded).logits, before)
        kept: list[torch.Tensor] = []
        hook = tiny.projections[2].register_forward_pre_hook(lambda _m, args: kept.append(args[0][0, :, 7]))
        tiny.model.set_attn_implementation("eager")
        attentions = tiny.model(inputs_embeds=embedded, output_attentions=True).attentions
        tiny.model.set_attn_implementation(former)
        hook.remove()
    assert view.activations[0] == pytest.approx(kept[0].tolist(), abs=1e-4)
    assert view.attention[0] == pytest.approx(attentions[2][0, :, -1].mean(dim=0).tolist(), abs=1e-6)
    assert sum(view.attention[1]) == pytest.approx(1.0, abs=1e-5) and view.attention_reason == ""
    assert "".join(view.tokens) == tiny.tokenizer.decode(row.ids) + "[P1][P2][P3]"
    with ActivationRecorder(tiny) as recorder:
        read = read_inputs(tiny, [row], prompt, recorder)[0, 2 * tiny.d_ff + 7]
    assert view.activations[0][-1] == pytest.approx(float(read), abs=1e-4)


def test_attention_of_other_read_positions(tiny: sn.LanguageModel) -> None:
    prompt, row = initial_prompt(tiny, 3), row_of(tiny)
    embedded = torch.cat([tiny.embed(torch.tensor([row.ids])), prompt.embeddings[None]], dim=1)
    former = tiny.model.config._attn_implementation
    view = token_view(tiny, row, prompt, [(1, 4), (1, 4)], read=[[-3, -2, -1], [-2]])
    with torch.no_grad():
        tiny.model.set_attn_implementation("eager")
        weights = tiny.model(inputs_embeds=embedded, output_attentions=True).attentions[1][0].mean(dim=0)
        tiny.model.set_attn_implementation(former)
    assert view.attention[0] == pytest.approx(weights[-3:].mean(dim=0).tolist(), abs=1e-6)
    assert view.attention[1] == pytest.approx(weights[-2].tolist(), abs=1e-6)


def test_a_norm_after_the_block_and_the_biases_of_a_norm_count(tmp_path: Path) -> None:
    from skillneurons.model_source import pocket_folder
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, Olmo2Config, Olmo2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    wide = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    for name, config, build in (
        ("gemma2", Gemma2Config(**wide, head_dim=8, pad_token_id=0, bos_token_id=0), Gemma2ForCausalLM),
        ("olmo2", Olmo2Config(**wide, pad_token_id=0), Olmo2ForCausalLM),
    ):
        torch.manual_seed(0)
        model = build(config)
        block = model.model.layers[1]
        with torch.no_grad():
            block.post_feedforward_layernorm.weight.copy_(torch.linspace(-2, 2, 32))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        lm = sn.load_model(str(tmp_path / name), device="cpu")
        own, final = lm.model.model.layers[1].post_feedforward_layernorm, lm.model.model.norm
        assert norms_after(lm, 1) == ([own], final)
        weight = own.weight + 1 if name == "gemma2" else own.weight
        vector = lm.projections[1].weight[:, 5] * weight  # the norm rescales, which the final norm undoes
        logits = (final(vector[None])[0] @ lm.model.get_output_embeddings().weight.T).detach()[: len(tokenizer)]
        found = output_vocabulary(lm, 1, 5, k=3)
        assert [value for _, value in found.promoted] == pytest.approx(logits.topk(3).values.tolist(), rel=1e-3)


def test_what_the_final_norm_adds_to_any_vector_is_taken_off(model_folder: Callable[[str], Path]) -> None:
    lm = sn.load_model(str(model_folder("gpt2")), device="cpu")
    norm, head = lm.model.transformer.ln_f, lm.model.get_output_embeddings().weight
    with torch.no_grad():
        norm.bias.copy_(50 * head[7])  # promotes token 7 whatever is written
    vector = lm.projections[0].weight[3]
    centred = (vector - vector.mean()) / (vector.var(unbiased=False) + norm.eps).sqrt() * norm.weight
    logits = (head @ centred).detach()[: len(lm.tokenizer)]
    found = output_vocabulary(lm, 0, 3, k=3)
    assert [value for _, value in found.promoted] == pytest.approx(logits.topk(3).values.tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        (("attribution.position=mean",), "mean"),
        (("attribution.position=max",), "max"),
        (("attribution.position=input_last", "causal.positions=everywhere"), "input_last"),
        (("attribution.position=input_last",), "input_last"),  # no causal part, cards all the same
        (("attribution.statistic=grad_x_activation",), "last"),
    ],
)
def test_cards_of_every_read_position_and_of_products(
    settings: tuple[str, ...], read: str, tmp_path: Path, qwen: sn.LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from skillneurons.cli import main

    common = ("causal.k=[1]", "causal.random_sets=2", "causal.cards=1", "prompt.steps=1", "causal.across=false")
    run = ["run", "-m", qwen.name, "-t", "arithmetic", "-M", "labels", "--limit", "12", "-o", str(tmp_path)]
    assert (
        main([*run, *(part for one in (*common, "prompt.num_virtual_tokens=3", *settings) for part in ("--set", one))])
        == 0
    )
    (path,) = (tmp_path / "cards").glob("*.json")
    kept = json.loads(path.read_text())
    ((name, card),) = kept["columns"]["labels.correct"].items()
    example = card["highest"][0]
    assert sum(example["attention"]) == pytest.approx(1.0, abs=1e-2)
    ends = example["activations"][-3:]
    if "grad_x_activation" in settings[0]:
        assert kept["quantity"] == "activation x gradient"
    elif read == "mean":
        assert example["activation"] == pytest.approx(np.mean(ends), abs=1e-3)
        assert example["attention"][-1] > 0
    elif read == "max":
        top = json.loads((tmp_path / "cells" / path.name).read_text())["columns"]["labels.correct"]["top"][0]
        assert example["activation"] == pytest.approx(ends[top["position"]], abs=1e-3)
        seen = [a > 0 for a in example["attention"][-3:]]
        assert seen[top["position"] + 1 :] == [False] * (2 - top["position"])  # later tokens are not attended to
    else:
        assert example["activation"] == pytest.approx(ends[-1], abs=1e-3) and "[P1]" not in example["tokens"]
    capsys.readouterr()
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", name]) == 0
    assert f"{kept['quantity']} by value of the column" in capsys.readouterr().out


def test_the_attention_comes_back_also_when_an_exception_passes(qwen: sn.LanguageModel) -> None:
    former = qwen.model.config._attn_implementation
    with pytest.raises(IndexError):
        token_view(qwen, row_of(qwen), None, [(2, 10**6)])
    assert qwen.model.config._attn_implementation == former


def test_densities_are_scipys_and_integrate_to_one() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([0.0, 1.0], 200)
    a = rng.normal(size=400) + 2 * values
    found = density_by_value(a, values, points=200)
    assert [(curve.label, curve.n) for curve in found.curves] == [("0", 200), ("1", 200)]
    grid = np.array(found.grid)
    for curve, value in zip(found.curves, (0, 1), strict=True):
        np.testing.assert_allclose(curve.density, stats.gaussian_kde(a[values == value])(grid))
        assert np.trapezoid(curve.density, grid) == pytest.approx(1.0, abs=0.03)


def test_many_values_are_cut_at_their_terciles_and_nan_left_out() -> None:
    values = np.arange(90.0)
    values[::10] = np.nan
    found = density_by_value(np.sin(np.arange(90.0)), values)
    assert [curve.n for curve in found.curves] == [27, 27, 27]
    assert found.curves[0].label == "low (<= 30.3)" and found.curves[1].label == "middle"


def test_rows_without_an_activation_are_left_out() -> None:
    rng = np.random.default_rng(0)
    a, values = rng.normal(size=60), np.repeat([0.0, 1.0], 30)
    some = np.concatenate([a, np.full(9, np.nan)])  # no token of these examples reached the expert
    found = density_by_value(some, np.concatenate([values, np.zeros(9)]))
    assert found == density_by_value(a, values)
    assert len(density_lines(found)) == 3 and "nan" not in density_svg(found, "a neuron")
    assert density_by_value(np.full(9, np.nan), np.zeros(9)).curves == ()


def test_a_narrow_class_is_seen_and_a_constant_or_small_one_says_why() -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(scale=300, size=30), rng.normal(50, 0.01, size=30), np.zeros(3), np.ones(9)])
    values = np.repeat([0.0, 1.0, 2.0, 3.0], [30, 30, 3, 9])
    found = density_by_value(a, values)
    grid = np.array(found.grid)
    assert np.trapezoid(found.curves[1].density, grid) == pytest.approx(1.0, abs=0.05)
    assert found.curves[2].reason == "3 examples, a curve needs 5"
    assert found.curves[3].reason == "the activation is the same for all"
    lines = density_lines(found, width=40)
    assert "█" in lines[0] and "█" in lines[1] and lines[2] == "2  3 examples, a curve needs 5"
    assert len(lines) == 5
    empty = density_by_value(np.zeros(3), np.full(3, np.nan))
    assert empty.curves == () and density_lines(empty) == []


def test_the_svg_is_valid_and_escaped() -> None:
    found = density_by_value(np.random.default_rng(0).normal(size=60), np.repeat([0.0, 1.0], 30))
    text = density_svg(found, "L03.N0007 <script>alert('x')</script> & \"more\"")
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    assert root.tag.endswith("svg") and "<script>" not in text
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    numbers = [float(n) for points in re.findall(r'points="([^"]+)"', text) for n in re.split("[ ,]", points)]
    assert all(0 <= n <= 600 for n in numbers)


def test_a_run_writes_cards_and_show_prints_them(
    tmp_path: Path, qwen: sn.LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from skillneurons.cli import main

    settings = ["causal.k=[1, 2]", "causal.random_sets=3", "causal.cards=2", "prompt.steps=2", "causal.across=false"]
    run = ["run", "-m", qwen.name, "-t", "arithmetic", "-M", "labels", "--limit", "30", "-o", str(tmp_path)]
    assert main([*run, *(part for one in settings for part in ("--set", one))]) == 0
    (path,) = (tmp_path / "cards").glob("*.json")
    cell = json.loads((tmp_path / "cells" / path.name).read_text())
    cards = json.loads(path.read_text())["columns"]["labels.correct"]
    best = cell["columns"]["labels.correct"]["top"][:2]
    assert list(cards) == [f"L{n['layer']:02d}.N{n['neuron']:04d}" for n in best]
    card = cards[next(iter(cards))]
    assert len(card["highest"]) == len(card["lowest"]) == 3
    assert card["highest"][0]["activation"] >= card["highest"][1]["activation"] > card["lowest"][0]["activation"]
    assert card["highest"][0]["activations"][-1] == pytest.approx(card["highest"][0]["activation"], abs=1e-3)
    capsys.readouterr()
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", next(iter(cards))]) == 0
    shown = capsys.readouterr().out
    for part in ("activation by value", "verdict: ", "steered alone: ", "promoted: ", "drive it lowest", "attends to"):
        assert part in shown
    svg = tmp_path / "density.svg"
    name = next(iter(cards))
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", name, "--svg", str(svg)]) == 0
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")  # noqa: S314 - our own file
    other = next(f"L00.N{n:04d}" for n in range(48) if f"L00.N{n:04d}" not in cards)
    capsys.readouterr()
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", other]) == 0
    assert "drive it" not in capsys.readouterr().out
    for kept in ("heldout", "neurons"):  # a folder that keeps the scores and the cards alone
        (tmp_path / "passes" / path.stem / f"{kept}.safetensors").unlink()
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", name]) == 0
    less = capsys.readouterr().out
    assert less.splitlines()[2:] == [line for line in shown.splitlines()[2:] if line in less.splitlines()]
    assert less.splitlines()[:2] == shown.splitlines()[:2] and "by value of the column" not in less
    assert main(["show", str(tmp_path), path.stem, "--column", "correct", "--neuron", other]) == 0
    assert ", heldout not kept" in capsys.readouterr().out
    path.write_text("{")
    assert main(["show", str(tmp_path), path.stem, "--neuron", other]) == 2
    assert "not a readable card" in capsys.readouterr().err
