"""What a cell says beside its correlations, through a whole run: null, intervals, partial r, shortcuts, seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from skillneurons.cli import main

SMALL = ["--set", "prompt.steps=2", "--set", "prompt.num_virtual_tokens=3", "--set", "attribution.permutations=39"]
SMALL += ["--set", "attribution.bootstrap=50", "--limit", "80"]


def run(out: Path, model: Path, *arguments: str) -> dict[str, Any]:
    assert main(["run", "-m", str(model), "-t", "arithmetic", "-o", str(out), *SMALL, *arguments]) == 0
    cells = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json")) if ".run" not in path.name]
    return {name: figures for cell in cells for name, figures in cell["columns"].items()} | {"cells": cells}


def test_a_cell_holds_null_interval_partial_and_shortcut(
    tmp_path: Path, model_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(tmp_path, model_folder("qwen2"), "-M", "heuristics", "-M", "labels")
    figures = found["heuristics.last_digit_ok"]
    assert figures["n_permutations"] == 39 and 0 < figures["null95_r"] < 1
    assert figures["heldout_top10_r_low"] <= figures["heldout_top10_r"] <= figures["heldout_top10_r_high"]
    assert len(figures["resamples"].split()) == 50
    assert -1 <= figures["partial_r"] <= 1 and figures["untuned_top10_r"] is not None
    assert [level["threshold"] for level in figures["above"]] == [0.43, 0.83]
    assert figures["shortcut"]["wanted"] == "heuristics.correct"
    assert len(figures["shortcut"]["neurons"]) == 10 or figures["shortcut"]["reason"]
    length = found["heuristics.prompt_length"]
    assert length["partial_r"] is None
    assert length["partial_reason"] == "the column is the only one of attribution.nuisance here"
    (cell,) = [cell for cell in found["cells"] if cell["metric"]["name"] == "labels"]
    record = json.loads((tmp_path / "cells" / f"{cell['key']}.run.json").read_text())
    assert set(record["seconds_of"]) == {"tuning", "passes", "inference"}
    assert main(["show", str(tmp_path), "arithmetic-heuristics", "--column", "last_digit_ok", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "39 permutations of whole groups" in out and "shortcut report against heuristics.correct" in out


def test_the_kept_neurons_give_the_cells_figures_again(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    found = run(tmp_path, model_folder("llama"), "-M", "labels")
    (cell,) = found["cells"]
    place = tmp_path / "passes" / cell["pass"]
    kept, examples = load_file(place / "neurons.safetensors"), pd.read_parquet(place / "examples.parquet")
    column = "labels.is_addition"
    for i, row in enumerate(cell["columns"][column]["top"][:10]):
        assert kept[f"{column}/neurons"][i].tolist() == [row["layer"], row["neuron"]]
        for split, name in (("discovery", "r"), ("heldout", "r_heldout")):
            values = examples[examples["split"] == split][column]
            r = np.corrcoef(kept[f"{column}/{split}"][:, i], values)[0, 1]
            assert r == pytest.approx(row[name], abs=2e-6)


def test_a_cell_is_the_same_whatever_else_is_asked_for(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    """The nuisance and the wanted explanation are of a metric that is not asked for in the first run."""
    one = run(tmp_path / "one", model_folder("qwen2"), "-M", "labels")
    all_ = run(tmp_path / "all", model_folder("qwen2"), "-M", "labels", "-M", "heuristics", "-M", "confidence")
    name = next(path.name for path in (tmp_path / "one" / "cells").glob("*.json") if ".run" not in path.name)
    assert one["labels.correct"]["partial_r"] is not None and len(all_["cells"]) == 3
    both = [(tmp_path / place / "cells" / name).read_bytes() for place in ("one", "all")]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("attribution.permutations=0", "null: 0 permutations: at least 19 are needed for p = 0.05; 200 are usual"),
        ("attribution.bootstrap=0", "heldout interval: 0 resamples: 1000 are usual (attribution.bootstrap)"),
        ("attribution.nuisance=[]", "partial_r: the task has no column of attribution.nuisance"),
    ],
)
def test_what_was_not_asked_for_is_empty_with_its_reason(
    setting: str, reason: str, tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    run(tmp_path, model_folder("qwen2"), "-M", "labels", "--set", setting)
    board = pd.read_csv(tmp_path / "board.csv").set_index("column")
    assert reason in board.loc["labels.correct", "reason"]


def test_more_neurons_asked_for_than_there_are(
    tmp_path: Path, model_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "run",
        "-m",
        str(model_folder("qwen2")),
        "-t",
        "arithmetic",
        "-M",
        "labels",
        "-o",
        str(tmp_path),
        *SMALL,
    ]
    assert main([*arguments, "--set", "attribution.top_k=500"]) == 1
    assert "attribution.top_k 500: " in (err := capsys.readouterr().err) and "has 144 feed-forward neurons" in err


def test_a_statistic_of_two_classes_marks_other_columns(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    found = run(
        tmp_path, model_folder("qwen2"), "-M", "confidence", "-M", "labels", "--set", "attribution.statistic=auroc"
    )
    assert found["labels.correct"]["status"] == "ok" and found["labels.correct"]["n_fwer"] is not None
    assert found["labels.correct"]["partial_reason"] == "partial r is Pearson's; the statistic is another"
    bad = found["confidence.p_target"]
    assert (bad["status"], bad["reason"]) == (
        "degenerate",
        "the statistic is defined for no neuron: it needs a column of 0 and 1 with both, or more examples",
    )


def test_several_seeds_share_an_interval_and_have_a_chance_overlap(
    tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    run(tmp_path, model_folder("qwen2"), "-M", "labels", "--seed", "0", "--seed", "1")
    row = pd.read_csv(tmp_path / "board.csv").set_index("column").loc["labels.is_addition"]
    assert row["seeds"] == 2 and row["heldout_top10_r_low"] <= row["heldout_top10_r"] <= row["heldout_top10_r_high"]
    assert row["top10_r_sd"] >= 0 and 0 <= row["stability"] <= 1
    assert row["stability_chance"] == pytest.approx(10 / (20 - 100 / 144) * 10 / 144, rel=0.1)


def test_a_strangers_statistic_of_the_first_contract_runs(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    """No base class, no effect, no linear form: update, merge and result alone."""
    plugin = tmp_path / "sums.py"
    plugin.write_text(
        "import numpy as np\nimport skillneurons as sn\n\n\nclass Sums:\n    def __init__(self, n, c):\n"
        "        self.s = np.zeros((c, n))\n\n    def update(self, a, v):\n"
        "        self.s += np.nan_to_num(v - 0.5).T @ a\n        return self\n\n    def result(self):\n        return self.s\n\n\n"
        "@sn.hookimpl\ndef register_attributions(register):\n    register('sums', Sums)\n"
    )
    found = run(
        tmp_path / "runs",
        model_folder("qwen2"),
        "-M",
        "labels",
        "-p",
        str(plugin),
        "--set",
        "attribution.statistic=sums",
    )
    figures = found["labels.correct"]
    assert figures["null_reason"] == "this statistic has no linear form, so its permutations cannot be computed"
    assert figures["heldout_top10_r_low"] is not None


def test_a_nuisance_metric_that_fails_is_the_reason(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "import skillneurons as sn\n\n\n@sn.hookimpl\ndef register_metrics(register):\n"
        "    register(sn.Metric('bad', lambda example, output: 1 / 0))\n"
    )
    found = run(
        tmp_path / "runs",
        model_folder("qwen2"),
        "-M",
        "labels",
        "-p",
        str(plugin),
        "--set",
        "attribution.nuisance=[bad]",
    )
    figures = found["labels.correct"]
    assert figures["partial_r"] is None and figures["status"] == "ok"
    assert figures["partial_reason"].startswith(
        "metric 'bad' of attribution.nuisance failed: metric 'bad', per_example, example "
    )
