"""Whole runs of tiny random models through the command line, as a user starts them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skillneurons as sn
import torch
from skillneurons.cli import main
from skillneurons.pass_scores import read_scores
from skillneurons.results import ResultsFolder

STRANGER = """
import skillneurons as sn

def load(split, *, limit=None, seed=0):
    start = {"train": 0, "validation": 1000, "discovery": 2000, "heldout": 3000}[split]
    numbers = [start + 37 * i for i in range(limit or 40)]
    return [
        sn.Example(str(n), f"Is {n} even?", "no" if n % 2 else "yes", choices=("yes", "no"), labels={"even": 1.0 - n % 2})
        for n in numbers
    ]

@sn.hookimpl
def register_tasks(register):
    register(sn.Task("parity", "1", load, chance=0.5, label_columns=("even",)))

@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("thousands", lambda example, output: float(int(example.prompt.split()[1]) // 100)))
"""
FAST = [
    "--limit",
    "24",
    "--set",
    "causal.random_sets=2",
    "--set",
    "causal.k=[2, 10]",
    "--set",
    "prompt.steps=3",
    "--set",
    "prompt.num_virtual_tokens=3",
    "--device",
    "cpu",
]


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    path = tmp_path / "my_plugin.py"
    path.write_text(STRANGER)
    return str(path)


def cells(out: Path) -> dict[str, dict]:
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((out / "cells").glob("*.json"))
        if not path.name.endswith(".run.json")
    }


def files(out: Path) -> dict[str, bytes]:
    kept = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.endswith(".run.json")]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_local_folder_of_another_architecture_runs(
    architecture: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    arguments = ["run", "-m", str(model_folder(architecture)), "-o", str(out), *FAST]
    assert main([*arguments, "-t", "arithmetic", "-t", "hans", "--set", "tasks.arithmetic.digits=[2]"]) == 0
    table = capsys.readouterr().out
    assert "confidence.p_target" in table and "heuristics.heuristic_follows" in table
    found = cells(out)
    assert len(found) == 6 and {cell["status"] for cell in found.values()} == {"ok"}
    assert (out / "board.md").is_file() and len(pd.read_csv(out / "board.csv")) == len(
        pd.read_parquet(out / "board.parquet")
    )


def test_all_three_kinds_of_task_run_and_get_every_row(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    chosen = [f"-t{name}" for name in ("arithmetic-open", "skillmix")]
    settings = ["--set", "tasks.arithmetic-open.digits=[1]", "--limit", "12"]
    assert main(["run", "-m", str(model_folder("qwen2")), "-o", str(out), *FAST, *chosen, *settings]) == 0
    board = pd.read_csv(out / "board.csv")
    assert set(board["task"]) == {"arithmetic-open", "skillmix"}
    for cell in cells(out).values():
        assert set(cell["columns"]) == set(cell["metric"]["columns"])
        assert all(c["status"] == "ok" or c["reason"] for c in cell["columns"].values())
    assert set(board["column"]) == {name for cell in cells(out).values() for name in cell["metric"]["columns"]}


def run_stranger(stranger: str, model: Path, out: Path, *more: str) -> int:
    names = ["-t", "parity", "-M", "thousands", "-M", "labels", "-M", "confidence"]
    return main(["run", "-p", stranger, "-m", str(model), "-o", str(out), *FAST, *names, *more])


def test_a_strangers_file_is_listed_runs_and_gets_rows(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len([line for line in STRANGER.splitlines() if line]) < 30
    assert main(["list", "tasks", "-p", stranger]) == 0 and "parity" in capsys.readouterr().out
    assert main(["list", "metrics", "-p", stranger]) == 0 and "thousands" in capsys.readouterr().out
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    assert {"thousands", "labels.even", "confidence.p_target"} <= set(pd.read_csv(out / "board.csv")["column"])
    records = [json.loads(path.read_text()) for path in (out / "cells").glob("*.run.json")]
    assert {(one["limit"], *one["plugins"]) for one in records} == {(24, stranger)}  # what running it again needs


def test_a_second_run_computes_nothing_and_a_changed_setting_only_its_cells(
    stranger: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out, "--dry-run") == 0
    assert "3 of 3 cells to run" in capsys.readouterr().out and not out.exists()
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    before = files(out)

    def never(*args: object, **settings: object) -> None:
        raise AssertionError("nothing was to be done")

    with monkeypatch.context() as patch:
        patch.setattr("skillneurons.loading.load_model", never)
        assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    assert files(out) == before
    assert run_stranger(stranger, model_folder("qwen2"), out, "-M", "heuristics") == 0  # a metric added later
    added = set(cells(out)) - {Path(name).stem for name in before}
    assert len(added) == 1 and {
        name: data for name, data in files(out).items() if name in before and "board" not in name
    } == {name: data for name, data in before.items() if "board" not in name}
    prompts = set((out / "prompts").iterdir())
    assert len(prompts) == 1  # the later metric used the same prompt
    assert run_stranger(stranger, model_folder("qwen2"), out, "--set", "prompt.lr=0.5") == 0
    assert len(set((out / "prompts").iterdir())) == 2


def test_the_same_seed_gives_the_same_bytes(stranger: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert (
        run_stranger(stranger, model_folder("qwen2"), first)
        == run_stranger(stranger, model_folder("qwen2"), second)
        == 0
    )
    assert files(first) == files(second)


def test_a_score_can_be_recomputed_from_the_files_and_the_plain_model(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Tokenise the saved prompt, append the saved embeddings, read the last position, correlate."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    cell = next(cell for cell in cells(out).values() if cell["metric"]["name"] == "confidence")
    model = AutoModelForCausalLM.from_pretrained(model_folder("qwen2"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder("qwen2"))
    virtual = sn.SoftPrompt.from_pretrained(out / "prompts" / cell["prompt"]).embeddings
    examples = pd.read_parquet(out / "passes" / cell["pass"] / "examples.parquet")
    examples = examples[examples["split"] == "discovery"]
    seen: list[torch.Tensor] = []
    model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0][0, -1]))
    with torch.no_grad():
        for text in examples["prompt"]:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            model(inputs_embeds=torch.cat([model.model.embed_tokens(ids), virtual[None]], dim=1))
    activations = torch.stack(seen).numpy()
    scores, _ = read_scores(ResultsFolder(out), cell["pass"])
    expected = [np.corrcoef(activations[:, n], examples["confidence.p_target"])[0, 1] for n in range(48)]
    np.testing.assert_allclose(scores["confidence.p_target"][1], expected, atol=1e-5)


def test_a_metric_that_raises_fails_its_own_cell_only(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(stranger)
    path.write_text(STRANGER.replace("// 100)", "// 0)"))
    out = tmp_path / "runs"
    assert run_stranger(str(path), model_folder("qwen2"), out) == 1
    by_metric = {cell["metric"]["name"]: cell for cell in cells(out).values()}
    assert {name: cell["status"] for name, cell in by_metric.items()} == {
        "thousands": "failed",
        "labels": "ok",
        "confidence": "ok",
    }
    failed = by_metric["thousands"]
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 2000 // 0
    assert failed["error"] == {
        "type": "PluginCallError",
        "message": f"plugin {path.stem} ({path}:18) failed in hook register_metrics "
        f"(metric 'thousands', per_example, example '2000') for cell {failed['key']}: "
        f"ZeroDivisionError: {raised.value}",
    }
    printed = capsys.readouterr()
    assert "failed: parity-thousands-s0-" in printed.err and "Traceback" not in printed.err
    path.write_text(STRANGER)  # mended: only what failed runs again
    finished = {key: cell for key, cell in cells(out).items() if cell["status"] == "ok"}
    assert run_stranger(str(path), model_folder("qwen2"), out) == 0
    assert finished.items() <= cells(out).items() or {c["status"] for c in cells(out).values()} == {"ok", "failed"}


def test_a_task_whose_data_is_bad_fails_and_the_others_go_on(
    model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "runs", tmp_path / "hans.tsv"
    data.write_text("gold_label\tsentence1\nentailment\tA .\n")
    arguments = ["run", "-m", str(model_folder("qwen2")), "-o", str(out), *FAST, "-M", "labels", "-t", "hans"]
    arguments += ["--set", f"tasks.hans.path={data}"]
    assert main(arguments) == 2 and "hans.tsv" in capsys.readouterr().err
    assert main([*arguments, "-t", "arithmetic", "--set", "tasks.arithmetic.digits=[1]"]) == 1
    statuses = {cell["task"]["name"]: cell["status"] for cell in cells(out).values()}
    assert statuses == {"hans": "failed", "arithmetic": "ok"}


def test_a_half_written_cell_is_named_and_done_again(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    before = files(out)
    (victim, *_) = sorted((out / "cells").glob("parity-thousands-s0-????????????????.json"))
    victim.write_bytes(victim.read_bytes()[:100])
    assert main(["leaderboard", str(out)]) == 1
    assert victim.name in capsys.readouterr().err
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    after = files(out)
    assert after[str(victim.relative_to(out))] == before[str(victim.relative_to(out))]
    assert {name for name in before if name.startswith("cells")} == {name for name in after if name.startswith("cells")}


def test_a_damaged_prompt_is_tuned_again_and_said(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    before = files(out)
    shutil.rmtree(out / "cells")
    (prompt,) = (out / "prompts").iterdir()
    (prompt / "adapter_model.safetensors").write_bytes(b"half")
    capsys.readouterr()
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    assert "not a readable prompt" in capsys.readouterr().err
    assert files(out) == before


def test_a_folder_that_cannot_be_written(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert run_stranger(stranger, model_folder("qwen2"), blocked / "runs") == 2
    assert "cannot write" in capsys.readouterr().err


def test_input_last_needs_no_prompt(stranger: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out, "--set", "attribution.position=input_last") == 0
    assert {cell["prompt"] for cell in cells(out).values()} == {None} and not list((out / "prompts").iterdir())


def test_show_prints_a_cell_and_a_neuron(
    stranger: str, model_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert run_stranger(stranger, model_folder("qwen2"), out) == 0
    capsys.readouterr()
    assert main(["show", str(out), "parity-confidence", "--column", "p_target", "--top", "3"]) == 0
    text = capsys.readouterr().out
    assert "confidence.p_target: 10th largest |r|" in text and text.count("  L0") == 3
    assert main(["show", str(out), "parity-confidence", "--neuron", "L01.N0007"]) == 0
    assert "L01.N0007:" in capsys.readouterr().out
    for arguments, message in (
        (["parity-"], "begins 3 keys"),
        (["parity-labelz"], "no cell named 'parity-labelz'"),
        (["parity-confidence", "--column", "p_tarket"], "did you mean 'confidence.p_target'?"),
        (["parity-confidence", "--neuron", "L99.N0000"], "the model has layers L00 to L02"),
        (["parity-confidence", "--neuron", "7"], "write layer and neuron as in L03.N0127"),
    ):
        assert main(["show", str(out), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_sn_run_returns_results(stranger: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(
        f"models: ['{model_folder('qwen2')}']\ntasks: [parity]\nmetrics: [labels]\nplugins: ['{stranger}']\n"
        f"output: '{tmp_path / 'runs'}'\nlimit: 24\ndevice: cpu\nprompt: {{steps: 2, num_virtual_tokens: 2}}\n"
    )
    (result,) = sn.run(config)
    assert isinstance(result, sn.Result) and result.status == "ok" and "labels.even" in result.columns
