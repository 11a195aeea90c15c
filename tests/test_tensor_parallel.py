"""A model split over two ranks (processes, gloo on the CPU) gives what it gives whole, in one set of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from rank_pair import run_ranks
from safetensors.numpy import load_file
from skillneurons.cli import main
from skillneurons.errors import ModelError, UserError
from skillneurons.interventions import LayerEdit, own_edits
from skillneurons.neuron_split import NeuronSplit, check_divisible
from skillneurons.ranks import Ranks, agree, checked_ranks, largest, mean_over_ranks, ranks_here

COMMAND = "torchrun --nproc-per-node N -m skillneurons run ... --set model.tp_plan=auto"
SETTINGS = [
    "prompt.steps=4",
    "prompt.eval_every=2",
    "causal.examples=6",
    "causal.generated=3",
    "causal.random_sets=2",
    "causal.cards=1",
    "causal.k=[2]",
    "causal.across_k=[2]",
    "causal.steering=[2.0]",
    "causal.neutral_text=pocket",
    "attribution.permutations=19",
    "attribution.bootstrap=19",
]


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    settings = [part for one in (*SETTINGS, *more) for part in ("--set", one)]
    tasks = ["-t", "arithmetic", "-t", "arithmetic-open", "-M", "confidence", "-M", "labels", "--limit", "12"]
    return ["run", "-m", str(folder), *tasks, "-o", str(output), *settings]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def cells(folder: Path) -> dict[str, Any]:
    paths = [path for path in sorted((folder / "cells").glob("*.json")) if not path.name.endswith(".run.json")]
    return {path.stem: json.loads(path.read_text()) for path in paths}


def test_a_run_of_two_ranks_is_that_of_one_process(
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, one, two = model_folder("qwen2"), tmp_path / "one", tmp_path / "two"
    with ThreadPoolExecutor(1) as beside:  # at the same time: they have nothing in common
        ranks = beside.submit(run_ranks, ["-m", "skillneurons", *arguments(folder, two, "model.tp_plan=auto")])
        assert main([*arguments(folder, one), "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    leader, follower = ranks.result()
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert (follower.out, follower.err) == ("", "")
    assert len(leader.out.splitlines()) == len(table.splitlines()) and "ablation (mean" in leader.out
    assert files(one) == files(two) and not (two / "locks").exists()
    for name in files(one):
        if name.endswith(("/scores.safetensors", "/heldout.safetensors", "adapter_model.safetensors")):
            first, second = load_file(one / name), load_file(two / name)
            for column, scores in first.items():
                np.testing.assert_allclose(second[column], scores, atol=2e-5, rtol=0, err_msg=f"{name} {column}")
    split = cells(two)
    for key, whole in cells(one).items():
        assert split[key]["accuracy"] == whole["accuracy"] and split[key]["n"] == whole["n"]
        for column, tested in whole["causal"]["columns"].items():
            again = split[key]["causal"]["columns"][column]
            for dose, other in zip(tested.get("doses", ()), again.get("doses", ()), strict=True):
                assert (other["k"], other["outcomes"].keys()) == (dose["k"], dose["outcomes"].keys())
                for outcome, found in dose["outcomes"].items():
                    assert other["outcomes"][outcome].get("verdict") == found.get("verdict"), (key, column, outcome)
    record = json.loads(next((two / "cells").glob("*.run.json")).read_text())
    assert record["ranks"] == 2
    # a plain run goes on in the same folder: nothing is left to do
    monkeypatch.setattr("skillneurons.local_executor.load", lambda *_: pytest.fail("a model was loaded"))
    assert main([*arguments(folder, two), "--device", "cpu"]) == 0


SCRIPT = """
import contextlib
import io
import json
import sys
import numpy as np
import torch
import skillneurons as sn
from skillneurons.activations import ActivationRecorder
from skillneurons.interventions import ablate, steer
from skillneurons.output_vocabulary import output_vector
from skillneurons.prompt import initial_prompt
from skillneurons.cli import main
from skillneurons.errors import LockstepError
from skillneurons.ranks import agree, joined, largest, leave, meet
from skillneurons.token_activations import token_view
from skillneurons.inputs import EncodedExample

here, found = joined(), {}
meet()
agree("the weather", "fine")
assert largest(float(here.rank)) == 1.0
try:
    agree("the neurons", str(here.rank))
except LockstepError as error:
    found["differ"] = str(error)
said = io.StringIO()
with contextlib.redirect_stderr(said):
    found["refused"] = [main(sys.argv[2:])]
found["refused"].append(said.getvalue())

split, whole = sn.load_model(sys.argv[1], tp_plan="auto"), sn.load_model(sys.argv[1], device="cpu")
assert split.split is not None and split.split.bounds == (0, 24, 48), split.split
assert (split.d_ff, split.d_model, split.n_neurons) == (whole.d_ff, whole.d_model, whole.n_neurons)
ids = torch.arange(20, 30)[None].repeat(3, 1)
keep = np.random.default_rng(0).random((3, 48)) < 0.2
keep[1], keep[2, :24] = False, False
changes = [(0, 3), (1, 30), (2, 47), (2, 23)]
row = EncodedExample(0, sn.Example("0", "", "x"), "", tuple(range(20, 30)), (1,), None)

def seen(lm):
    found = []
    for site, kept, positions, reduce in (
        ("product", None, 1, "mean"), ("gate", None, 2, "mean"), ("product", keep, 3, "mean"), ("product", keep, 2, "each"),
    ):
        with torch.inference_mode(), ActivationRecorder(lm, positions, site=site, reduce=reduce, keep=kept) as recorder:
            lm.model(input_ids=ids)
            found.append(recorder.take())
    edits = [ablate(lm, changes), ablate(lm, changes, mode="mean", values=[1.0, -2.0, 3.0, 0.5]), steer(lm, changes[:1], [9.0])]
    for edit in edits:
        with torch.no_grad(), edit:
            found.append(lm.model(input_ids=ids).logits)
    found += [output_vector(lm, 1, 30), output_vector(lm, 2, 3), initial_prompt(lm, 4, init="RANDOM").embeddings]
    view = token_view(lm, row, None, [(0, 3), (2, 40)])
    found += [torch.tensor(view.activations), torch.tensor(view.attention)]
    return found

for number, (one, other) in enumerate(zip(seen(whole), seen(split), strict=True)):
    assert one.shape == other.shape, number
    torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4, msg=lambda told: f"{number}: {told}")
leave()
found["probe"] = "same"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pair(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of two ranks found: when they differ, of a model that cannot be split, and of one that can."""
    place = tmp_path_factory.mktemp("ranks")
    script = place / "script.py"
    script.write_text(SCRIPT)
    refused = arguments(model_folder("gpt2"), place / "runs", "model.tp_plan=auto")
    ended = run_ranks([str(script), str(model_folder("llama")), *refused])
    assert [one.code for one in ended] == [0, 0], "".join(one.err for one in ended)
    return [json.loads(one.out) for one in ended]


def test_what_is_recorded_changed_and_read_from_weights_is_that_of_the_whole_model(pair: list[dict[str, Any]]) -> None:
    assert [one["probe"] for one in pair] == ["same", "same"]


def test_what_two_ranks_cannot_do_is_told_once(pair: list[dict[str, Any]], model_folder: Callable[[str], Path]) -> None:
    leader, follower = (one["refused"] for one in pair)
    assert follower == [2, ""]
    assert leader == [
        2,
        f"skillneurons: error: model {str(model_folder('gpt2'))!r} (gpt2): transformers has no tensor-parallel plan for it, so "
        "model.tp_plan cannot split it; spread it with model.device_map\n",
    ]


def test_ranks_that_differ_are_stopped(pair: list[dict[str, Any]]) -> None:
    told = (
        "the ranks of this run differ in the neurons (rank 0 from 1), so what they compute together is of no use: a metric or a "
        "grader that answers differently each time does that; run it without model.tp_plan"
    )
    assert [one["differ"] for one in pair] == [told, told]


def test_one_process_is_told_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert ranks_here() is None
    names = ["run", "-t", "arithmetic", "-M", "confidence", "-o", str(tmp_path / "runs"), "--set", "model.tp_plan=auto"]
    assert main(names) == 2
    assert capsys.readouterr().err == (
        "skillneurons: error: model.tp_plan 'auto' splits a model over several processes, and this is one by itself; start one "
        f"process per GPU: {COMMAND}\n"
    )
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(UserError) as caught:
        checked_ranks()
    assert str(caught.value) == (
        "model.tp_plan 'auto' splits a model over several processes, and torchrun started one; give --nproc-per-node 2 or more, or "
        f"leave model.tp_plan out: {COMMAND}"
    )


def test_without_other_ranks_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    agree("anything", "at all")
    assert largest(0.25) == 0.25
    one = torch.ones(2)
    assert mean_over_ranks(one) is one


def test_the_loader_refuses_what_does_not_go_together(model_folder: Callable[[str], Path]) -> None:
    place = str(model_folder("qwen2"))
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"device_map": "auto"},
            "model.tp_plan 'auto' does not go with model.device_map 'auto'; leave one of them out",
        ),
        ({"device": "cpu"}, "model.tp_plan 'auto' gives each process its own device; leave --device at auto"),
        ({"tp_plan": "mine"}, "model.tp_plan 'mine': must be auto, the plan that transformers has for the model"),
    ]
    for more, told in refused:
        with pytest.raises(UserError) as caught:
            sn.load_model(place, **{"tp_plan": "auto", **more})
        assert str(caught.value) == told


class _Heads:
    num_attention_heads, num_key_value_heads = 20, 4

    def get_text_config(self) -> _Heads:
        return self


def test_heads_that_cannot_be_shared_are_told_with_what_can() -> None:
    check_divisible(_Heads(), "m", 4)
    with pytest.raises(UserError) as caught:
        check_divisible(_Heads(), "m", 5)
    assert str(caught.value) == (
        "model.tp_plan 'auto': model 'm' has 4 key-value heads, which 5 ranks cannot share evenly; start 2, 4"
    )
    odd = _Heads()
    odd.num_key_value_heads = 3
    with pytest.raises(
        UserError, match="has 20 attention heads, which 3 ranks .*; spread it with model.device_map instead"
    ):
        check_divisible(odd, "m", 3)


def test_a_split_by_hand() -> None:
    """Seven neurons over three ranks: 3, 3 and 1, as torch's chunk deals them."""
    split = NeuronSplit.even(Ranks(1, 3, 1), 7)
    assert split.bounds == (0, 3, 6, 7) and (split.start, split.stop) == (3, 6)
    assert [len(part) for part in torch.arange(7).chunk(3)] == [3, 3, 1]
    assert NeuronSplit.even(Ranks(2, 3, 2), 4).bounds == (0, 2, 4, 4)  # the last rank has none
    edit = LayerEdit(
        torch.tensor([0, 4, 5, 6]),
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        True,
        torch.tensor([[[True, False, True, True]]]),
    )
    own = own_edits(split, {2: edit, 3: LayerEdit(torch.tensor([6]), torch.tensor([1.0]))})
    assert list(own) == [2] and own[2].neurons.tolist() == [1, 2] and own[2].values.tolist() == [2.0, 3.0]
    assert own[2].chosen is not None and own[2].chosen.tolist() == [[[False, True]]] and own[2].add


def test_activations_are_joined_in_the_models_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, three neurons (2 and 1), two layers: each rank's own, layer by layer, become whole."""
    split = NeuronSplit(0, (0, 2, 3))
    layers = [torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0, 11.0]])]
    theirs = torch.tensor([[2.0, 12.0]])
    monkeypatch.setattr("skillneurons.neuron_split.joined_last", lambda own, widths: [own, theirs[..., : widths[1]]])
    assert split.whole(layers).tolist() == [[0, 1, 2, 10, 11, 12]]
    kept = [torch.tensor([1, 2]), torch.tensor([0])]
    mine = [torch.tensor([[1.0]]), torch.tensor([[10.0]])]
    theirs = torch.tensor([[2.0]])
    assert split.whole(mine, kept).tolist() == [[1, 2, 10]]


def test_a_mixture_of_experts_is_refused() -> None:
    from types import SimpleNamespace

    from skillneurons.neuron_split import split_of

    with pytest.raises(
        ModelError, match="is a mixture of experts, which model.tp_plan is not there for; spread it with"
    ):
        split_of(object(), "moe", [SimpleNamespace(experts=object())], Ranks(0, 2, 0))
