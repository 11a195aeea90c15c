"""Every supported family: neurons found and recorded, the cached path equal to the plain forward pass; others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from families import FAMILIES, SIZES, family_model
from parity_task import parity_examples
from skillneurons.activations import ActivationRecorder
from skillneurons.answer_loss import answer_loss, cached_answer_loss
from skillneurons.cli import main
from skillneurons.feed_forward import find_feed_forward
from skillneurons.gradients import activation_times_gradient
from skillneurons.input_cache import InputCache
from skillneurons.inputs import encode_examples
from skillneurons.measurement import measure
from skillneurons.model_source import pocket_folder
from skillneurons.parity import checked_parity
from skillneurons.prompt import initial_prompt

M = 3
MIXTURES = tuple(name for name in FAMILIES if "moe" in name or name == "mixtral")
PROJECTIONS = {
    "phi": "mlp.fc2",
    "gpt-2": "mlp.c_proj",
    "gpt-neox, pythia": "mlp.dense_4h_to_h",
    "opt": "fc2",
    "bloom": "mlp.dense_4h_to_h",
    "falcon": "mlp.dense_4h_to_h",
    "gpt-j": "mlp.fc_out",
}
Loaded = Callable[..., sn.LanguageModel]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return a function that loads a family's model from its folder, once per family and dtype."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    folders: dict[str, Path] = {}
    known: dict[tuple[str, str], sn.LanguageModel] = {}

    def load(family: str, dtype: str = "float32") -> sn.LanguageModel:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp("family")
            family_model(family, len(tokenizer)).save_pretrained(folders[family])
            tokenizer.save_pretrained(folders[family])
        if (family, dtype) not in known:
            known[family, dtype] = sn.load_model(str(folders[family]), device="cpu", dtype=dtype)
        return known[family, dtype]

    return load


def rows_of(lm: sn.LanguageModel, n: int = 6) -> tuple[sn.Task, list[Any]]:
    task = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=4)
    examples = [sn.Example(str(i), f"What is {10 ** (i % 3)} and {i}?", str(3 * 10 ** (i % 3))) for i in range(n)]
    return task, encode_examples(lm, task, examples, num_virtual_tokens=M)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cached_path_is_the_plain_pass(loaded: Loaded, family: str) -> None:
    lm = loaded(family)
    assert lm.parity is not None
    assert max(lm.parity.distribution, lm.parity.activations, lm.parity.feed_forward) < 1e-5
    assert lm.n_layers == 3 and lm.has_experts == (family in MIXTURES)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in MIXTURES])
def test_the_recorded_neurons_are_the_projections_input(loaded: Loaded, family: str) -> None:
    """Against hooks on the projection that the architecture's own code calls its output, over whole plain sequences."""
    lm = loaded(family)
    path = PROJECTIONS.get(family, "mlp.down_proj")
    named = [module for name, module in lm.model.named_modules() if name.endswith(f".{path}")]
    assert list(lm.projections) == named
    task, rows = rows_of(lm)
    prompt = initial_prompt(lm, M, seed=1)
    found = measure(lm, task, rows, {"labels": (sn.get_metric("labels"), ("labels.correct",))}, prompt, keep_rows=True)
    assert found.rows is not None
    for i, row in enumerate(rows):
        seen: list[torch.Tensor] = []
        hooks = [one.register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for one in named]
        embedded = torch.cat((lm.embed(torch.tensor([row.ids])), prompt.embeddings[None].to(lm.dtype)), dim=1)
        with torch.no_grad():
            lm.model(inputs_embeds=embedded)
        for hook in hooks:
            hook.remove()
        expected = torch.cat([one.reshape(-1, one.shape[-1])[-1] for one in seen]).numpy()
        np.testing.assert_allclose(found.rows.of(np.arange(lm.n_neurons))[i], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_tuning_on_cached_inputs_has_the_plain_gradient(loaded: Loaded, family: str) -> None:
    lm = loaded(family)
    _, rows = rows_of(lm)
    inputs = InputCache(lm, room=M + 6).fill(rows, batch_size=2)
    found = []
    for cached in (True, False):
        virtual = initial_prompt(lm, M, seed=3).embeddings.clone().requires_grad_(True)
        loss, _ = cached_answer_loss(lm, rows, virtual, inputs) if cached else answer_loss(lm, rows, virtual, "append")
        loss.backward()
        found.append((float(loss.detach()), virtual.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    scale = float(found[1][1].abs().max())
    torch.testing.assert_close(found[0][1] / scale, found[1][1] / scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["qwen1.5, qwen2, qwen2.5", "gpt-2", "gemma", "opt"])
def test_narrow_dtypes_load_and_are_measured_wide(loaded: Loaded, family: str, dtype: str) -> None:
    lm, wide = loaded(family, dtype), loaded(family)
    task, rows = rows_of(lm)
    prompt = initial_prompt(wide, M, seed=1)
    applied = {"labels": (sn.get_metric("labels"), ("labels.correct",))}
    one, other = (measure(model, task, rows, applied, prompt, keep_rows=True) for model in (lm, wide))
    assert one.rows is not None and other.rows is not None
    every = np.arange(lm.n_neurons)
    a, b = one.rows.of(every), other.rows.of(every)
    assert a.dtype == np.float32 and one.accumulator.result().dtype == np.float64
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_neurons_are_those_of_the_tokens_they_got(loaded: Loaded, family: str) -> None:
    """Against the layer's own router and weights, expert by expert, from what the layer was given."""
    lm = loaded(family)
    _, rows = rows_of(lm, 4)
    rows = [row for row in rows if len(row.ids) == len(rows[0].ids)]
    given: list[torch.Tensor] = []
    hooks = [one.module.register_forward_pre_hook(lambda _m, args: given.append(args[0])) for one in lm.layers]
    with torch.no_grad(), ActivationRecorder(lm) as recorder:
        lm.model(input_ids=torch.tensor([row.ids for row in rows]))
        found = recorder.take().reshape(len(rows), lm.n_layers, lm.d_ff).numpy()
    for hook in hooks:
        hook.remove()
    k = lm.model.config.num_experts_per_tok
    for i, layer in enumerate(lm.layers):
        block: Any = layer.module
        for b in range(len(rows)):
            x = given[i][b, -1]
            chosen = set((block.gate.weight @ x).topk(k).indices.tolist())
            width = layer.expert_width
            for expert in range(layer.n_experts):
                seen = found[b, i, expert * width : (expert + 1) * width]
                if expert not in chosen:
                    assert np.isnan(seen).all()
                    continue
                gate, up = (block.experts.gate_up_proj[expert] @ x).chunk(2)
                expected = torch.nn.functional.silu(gate) * up
                np.testing.assert_allclose(seen, expected.detach().numpy(), rtol=1e-3, atol=1e-5)
            if layer.projection is not None:
                shared = block.shared_expert
                expected = torch.nn.functional.silu(shared.gate_proj(x)) * shared.up_proj(x)
                seen = found[b, i, layer.n_experts * width :]
                np.testing.assert_allclose(seen, expected.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_an_architecture_that_cannot_be_told_names_the_module_to_pass(loaded: Loaded) -> None:
    model = family_model("llama", 64)
    for block in model.model.layers:
        block.mlp.second = torch.nn.Linear(48, 32)
    with pytest.raises(
        sn.ModelError, match=r"block 0 has 2 candidates .*mlp.down_proj, mlp.second.*--set model.ffn=PATH"
    ):
        find_feed_forward(model, "m")
    assert find_feed_forward(model, "m", "mlp.second")[1].projection is model.model.layers[1].mlp.second


def test_a_wrong_projection_is_found_out(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    family_model("llama", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(sn.ModelError, match=r"recorded row times the output projection differs .*--set model.ffn=PATH"):
        sn.load_model(str(tmp_path), device="cpu", ffn="mlp.up_proj")


def test_a_model_whose_cache_is_not_its_plain_pass_is_refused(loaded: Loaded) -> None:
    """A feed-forward layer that mixes positions: the last one alone is not what the whole sequence gives."""
    lm = loaded("phi 3")
    hook = lm.layers[2].module.register_forward_pre_hook(lambda _m, args: (args[0] + args[0].mean(1, keepdim=True),))
    try:
        with pytest.raises(
            sn.ModelError, match="kept keys and values differs from the plain forward pass .*not supported"
        ):
            checked_parity(lm)
    finally:
        hook.remove()
    checked_parity(lm)


def test_models_without_neurons_of_their_own_are_refused(loaded: Loaded) -> None:
    tied = family_model("llama", 64)
    for block in tied.model.layers[1:]:
        block.mlp = tied.model.layers[0].mlp
    with pytest.raises(sn.ModelError, match=r"share one feed-forward projection \(tied weights\)"):
        find_feed_forward(tied, "m")
    bare = family_model("llama", 64)
    for block in bare.model.layers:
        block.mlp = torch.nn.Identity()
    with pytest.raises(sn.ModelError, match="block 0 has 0 candidates .*none.*; linear modules: none"):
        find_feed_forward(bare, "m")
    mixed = family_model("qwen2 moe" if "qwen2 moe" in FAMILIES else "qwen1.5 moe, qwen2 moe", 64)
    mixed.model.layers[0].mlp = family_model("llama", 64).model.layers[0].mlp
    with pytest.raises(
        sn.ModelError, match=r"its blocks differ in the number of feed-forward neurons \(48, 136, 136\)"
    ):
        find_feed_forward(mixed, "m")
    assert SIZES["num_hidden_layers"] == 3


def test_a_mixture_has_no_single_projection_to_change(loaded: Loaded) -> None:
    with pytest.raises(sn.ModelError, match="is a mixture of experts: a change of neurons is there for plain"):
        _ = loaded("olmoe").projections


def test_layers_that_run_all_tokens_as_one_row_are_changed_row_by_row(loaded: Loaded) -> None:
    """OPT's feed-forward layer sees (batch * T, d): a change of the last position must reach each sequence's own."""
    lm = loaded("opt")
    ids = torch.tensor([lm.encode("What is 3?"), lm.encode("What is 4?"), lm.encode("What is 5?")])
    with torch.no_grad():
        plain = lm.model(input_ids=ids).logits
        with sn.ablate(lm, [(1, 5), (2, 7)], window=slice(-1, None)):
            changed = lm.model(input_ids=ids).logits
        torch.testing.assert_close(changed[:, :-1], plain[:, :-1])
        for row in range(3):
            hooks = []
            for layer, neuron in ((1, 5), (2, 7)):

                def zero(_module: Any, args: Any, neuron: int = neuron) -> Any:
                    alone = args[0].clone()
                    alone[-1, neuron] = 0.0  # one sequence: its last token is the last row
                    return (alone,)

                hooks.append(lm.projections[layer].register_forward_pre_hook(zero))
            expected = lm.model(input_ids=ids[row : row + 1]).logits
            for hook in hooks:
                hook.remove()
            torch.testing.assert_close(changed[row : row + 1], expected, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(changed[row, -1], plain[row, -1], atol=1e-4)


def test_activation_times_gradient_of_such_a_layer(loaded: Loaded) -> None:
    lm = loaded("opt")
    _, rows = rows_of(lm)
    rows = [row for row in rows if len(row.ids) == len(rows[0].ids) and len(row.target) == len(rows[0].target)]
    assert len(rows) >= 2
    prompt = initial_prompt(lm, M, seed=1)
    with ActivationRecorder(lm) as recorder:
        found = activation_times_gradient(lm, rows, prompt, recorder)
    row = rows[1]
    seen: list[torch.Tensor] = []
    hooks = [one.register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for one in lm.projections]
    ids, target = torch.tensor([row.ids]), torch.tensor([row.target])
    parts = (lm.embed(ids), prompt.embeddings[None], lm.embed(target[:, :-1]))
    embedded = torch.cat(parts, dim=1).requires_grad_(True)
    logits = lm.model(inputs_embeds=embedded).logits[0, -target.shape[1] :]
    for hook in hooks:
        hook.remove()
    log_prob = logits.log_softmax(-1).gather(1, target[0][:, None]).sum()
    gradients = torch.autograd.grad(log_prob, seen)
    at = len(row.ids) + M - 1
    expected = torch.cat([(a * g)[at] for a, g in zip(seen, gradients, strict=True)]).detach()
    torch.testing.assert_close(found[1], expected, rtol=1e-3, atol=1e-5)


def test_a_run_on_a_mixture_of_experts_has_a_null_and_says_what_it_lacks(loaded: Loaded, tmp_path: Path) -> None:
    name = loaded("qwen1.5 moe, qwen2 moe").name
    settings = [
        "prompt.steps=2",
        "prompt.num_virtual_tokens=3",
        "attribution.permutations=19",
        "attribution.bootstrap=50",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = ["run", "-m", name, "-t", "arithmetic", "-M", "labels", "--limit", "120", "--device", "cpu"]
    assert main([*command, *arguments, "-o", str(tmp_path / "runs")]) == 0
    (path,) = (one for one in (tmp_path / "runs" / "cells").glob("*.json") if not one.name.endswith(".run.json"))
    cell = json.loads(path.read_text())
    column = cell["columns"]["labels.is_addition"]
    assert cell["n_neurons"] == 3 * (4 * 24 + 40) and cell["model"]["parity"]["distribution"] < 1e-5
    assert column["n_permutations"] == 19 and 0 < column["null95_r"] < 1 and column["top10_r"] > 0
    assert "mixture of experts" in column["partial_reason"]
    assert "mixture of experts" in cell["causal"]["columns"]["labels.correct"]["reason"]
    code = main([*command, *arguments, "--set", "attribution.statistic=spearman", "-o", str(tmp_path / "other")])
    assert code == 1
    (path,) = (one for one in (tmp_path / "other" / "cells").glob("*.json") if not one.name.endswith(".run.json"))
    assert "of the statistics only pearson" in json.loads(path.read_text())["error"]["message"]
