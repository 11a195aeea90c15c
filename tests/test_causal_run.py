"""Causal work in whole runs: what stands in cells, across tasks and on the board; what happens when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.cli import main
from skillneurons.leaderboard.board import build_board, render
from skillneurons.pass_scores import read_scores
from skillneurons.results import ResultsFolder

SETTINGS = (
    *("prompt.steps=2", "prompt.num_virtual_tokens=3", "data.train=24", "data.validation=12", "data.discovery=40"),
    *("data.heldout=40", "causal.k=[2, 10]", "causal.random_sets=3", "causal.cards=1", "causal.steering=[-2, 2]"),
)


def run(lm: sn.LanguageModel, out: Path, *more: str) -> int:
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return main(
        ["run", "-m", lm.name, "-t", "arithmetic", "-t", "hans", "-o", str(out), "--device", "cpu", *settings, *more]
    )


def cells(out: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((out / "cells").glob("*.json")):
        if not path.name.endswith(".run.json"):
            cell = json.loads(path.read_text())
            found[f"{cell['task']['name']} {cell['metric']['name']}"] = cell
    return found


@pytest.fixture(scope="module")
def done(qwen: sn.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("causal")
    assert run(qwen, out) == 0
    return out


def test_the_primary_column_of_each_metric_is_tested_and_others_say_why_not(done: Path) -> None:
    found = cells(done)
    tested = {name: [c for c, v in cell["causal"]["columns"].items() if v.get("doses")] for name, cell in found.items()}
    assert tested == {
        "arithmetic confidence": ["confidence.p_target"],
        "arithmetic heuristics": ["heuristics.last_digit_ok"],
        "arithmetic labels": ["labels.correct"],
        "hans confidence": ["confidence.p_target"],
        "hans heuristics": ["heuristics.heuristic_follows"],
        "hans labels": ["labels.gold_label"],
    }
    others = found["arithmetic labels"]["causal"]["columns"]["labels.carry"]
    assert others == {
        "reason": "not the primary column of labels (labels.correct); causal.columns: all tests every one"
    }


def test_a_tested_column_has_doses_steering_neurons_and_the_tables_figures(done: Path) -> None:
    cell = cells(done)["hans confidence"]
    part = cell["causal"]["columns"]["confidence.p_target"]
    two, ten = part["doses"]
    assert (two["k"], ten["k"]) == (2, 10)
    assert part["ablation_drop"] == ten["outcomes"]["accuracy"]["effect"]
    assert part["random_drop_sd"] == ten["outcomes"]["accuracy"]["random_sd"]
    assert part["verdict"] == "undecided"  # three random sets decide nothing
    assert part["steering"]["alphas"] == [-2, 0, 2] and len(part["steering"]["neutral_loss"]) == 3
    (single,) = part["neurons"]
    best = cell["columns"]["confidence.p_target"]["top"][0]
    assert (single["layer"], single["neuron"]) == (best["layer"], best["neuron"])
    assert [one["alpha"] for one in single["steered"]] == [-2, 0, 2]
    assert cell["causal"]["n_heldout"] == 40


def test_the_dose_is_that_of_the_best_neurons_of_the_saved_scores(done: Path, qwen: sn.LanguageModel) -> None:
    import torch
    from skillneurons.examples import load_splits
    from skillneurons.inputs import encode_examples
    from skillneurons.prompt import SoftPrompt
    from skillneurons.reference import measure_reference
    from skillneurons.statistics import ranking

    cell = cells(done)["arithmetic labels"]
    scores = read_scores(ResultsFolder(done), cell["pass"])[0]["labels.correct"]
    chosen = [(int(n) // qwen.d_ff, int(n) % qwen.d_ff) for n in ranking(scores, 2)]
    prompt = SoftPrompt.from_pretrained(done / "prompts" / cell["prompt"])
    task = sn.get_task("arithmetic")
    sizes = {"train": 24, "validation": 12, "discovery": 40, "heldout": 40}
    data = load_splits(task, sizes, seed=0, options=dict(cell["task"]["options"]))
    encoded = {s: encode_examples(qwen, task, data[s], num_virtual_tokens=3) for s in ("discovery", "heldout")}
    reference = measure_reference(qwen, encoded["discovery"], prompt)

    def log_prob(changed: bool) -> float:
        total = 0.0
        for row in encoded["heldout"]:
            parts = [qwen.embed(torch.tensor([row.ids])), prompt.embeddings[None]]
            if len(row.target) > 1:
                parts.append(qwen.embed(torch.tensor([row.target[:-1]])))
            hooks = []
            for layer, projection in enumerate(qwen.projections):

                def edit(_m: Any, args: Any, layer: int = layer, n: int = len(row.ids)) -> Any:
                    a = args[0].clone()
                    for at, neuron in chosen:
                        if at == layer:
                            mean = torch.tensor(reference.mean["prompt"][:, at * qwen.d_ff + neuron])
                            a[0, n : n + 3, neuron] = mean.float()
                    return (a,)

                if changed:
                    hooks.append(projection.register_forward_pre_hook(edit))
            with torch.no_grad():
                logits = qwen.model(inputs_embeds=torch.cat(parts, dim=1)).logits[0].log_softmax(-1)
            for hook in hooks:
                hook.remove()
            start = len(row.ids) + 2
            total += sum(float(logits[start + i, token]) for i, token in enumerate(row.target))
        return total / len(encoded["heldout"])

    expected = log_prob(False) - log_prob(True)
    found = cell["causal"]["columns"]["labels.correct"]["doses"][0]["outcomes"]["log_prob"]["effect"]
    assert found == pytest.approx(expected, abs=1e-4)


def test_across_tasks_there_is_specificity_interaction_and_a_gate(done: Path) -> None:
    (path,) = (done / "across").glob("*.json")
    found = json.loads(path.read_text())
    assert found["tasks"] == ["arithmetic", "hans"]
    assert found["columns"] == {"arithmetic": "labels.correct", "hans": "heuristics.heuristic_follows"}
    assert [(e["set"], e["on"]) for e in found["specificity"]] == [
        ("arithmetic", "arithmetic"),
        ("arithmetic", "hans"),
        ("hans", "arithmetic"),
        ("hans", "hans"),
    ]
    own = next(e for e in found["specificity"] if (e["set"], e["on"]) == ("arithmetic", "arithmetic"))
    assert found["n_heldout"] == {"arithmetic": 40, "hans": 40}
    ten = cells(done)["arithmetic labels"]["causal"]["columns"]["labels.correct"]["doses"][1]
    assert own["log_prob"]["effect"] == pytest.approx(ten["outcomes"]["log_prob"]["effect"], abs=1e-5)
    assert own["log_prob"]["random"] == pytest.approx(ten["outcomes"]["log_prob"]["random"], abs=1e-5)
    assert len(found["interactions"]["between"]["overlaps"]) == 1
    assert set(found["interactions"]["between"]["joints"]) == {"arithmetic", "hans"}
    assert len(found["interactions"]["within"]["hans"]["joints"]) == 3
    assert found["on_demand"]["recognised"]["mean"] >= 0.8
    assert set(found["on_demand"]["policies"]) >= {"never", "gate", "oracle", "always hans", "gate + boost"}


def test_a_second_run_computes_nothing_and_switching_off_is_another_cell(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.json")}
    assert run(qwen, done) == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.json")} == before
    assert run(qwen, tmp_path, "--set", "causal.enabled=false", "-M", "labels") == 0
    off = cells(tmp_path)["hans labels"]
    assert off["causal"] is None and off["key"] != cells(done)["hans labels"]["key"]
    assert off["columns"] == cells(done)["hans labels"]["columns"]
    assert not (tmp_path / "across").exists() and not (tmp_path / "cards").exists()


def test_a_cells_bytes_do_not_depend_on_what_else_is_asked_for(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    assert run(qwen, tmp_path, "-M", "heuristics", "--set", "causal.across=false") == 0
    for path in (tmp_path / "cells").glob("*.json"):
        if not path.name.endswith(".run.json"):
            assert path.read_bytes() == (done / "cells" / path.name).read_bytes()


def test_the_board_tells_it(done: Path, tmp_path: Path) -> None:
    board = build_board([done])
    text = render(board, "md").decode()
    for part in (
        "### Causes",
        "**Steering**",
        "**Specificity**",
        "**Interactions between tasks**",
        "**Skills on demand**",
    ):
        assert part in text
    assert "| hans | `heuristics.heuristic_follows` | 10 |" in text
    (row,) = [r for r in board.rows if (r["task"], r["column"]) == ("arithmetic", "labels.correct")]
    assert row["ablation_drop"] is not None and row["random_drop_sd"] is not None
    (other,) = [r for r in board.rows if (r["task"], r["column"]) == ("arithmetic", "labels.carry")]
    assert "causal: not the primary column of labels (labels.correct)" in other["reason"]
    assert render(build_board([done]), "md") == render(board, "md")
    (path,) = (done / "across").glob("*.json")
    damaged = tmp_path / "copy"
    (damaged / "across").mkdir(parents=True)
    (damaged / "cells").symlink_to(done / "cells")
    (damaged / "across" / path.name).write_text("{")
    again = build_board([damaged])
    assert (
        "is left out: it is not valid JSON" in again.problems[0]
        and "**Specificity**" not in render(again, "md").decode()
    )
    (damaged / "across" / path.name).write_text(json.dumps({"schema_version": 1, "key": "k"}))
    assert "written by another version of skillneurons; run again" in build_board([damaged]).problems[0]
    whole = json.loads(path.read_text())
    for place, value, told in (
        (("model",), None, "model: Input should be a valid string; delete the file and run again"),
        (
            ("specificity", 0, "log_prob", "effect"),
            "x",
            "specificity.0.log_prob.effect: Input should be a valid number",
        ),
        (("interactions", "between", "joints", "hans", 0, "kind"), 3, "interactions.between.joints.hans.0.kind: Input"),
        (("on_demand", "policies", "gate"), [1], "on_demand.policies.gate: Input should be a valid dictionary"),
    ):
        broken_file = json.loads(json.dumps(whole))
        part = broken_file
        for step in place[:-1]:
            part = part[step]
        part[place[-1]] = value
        (damaged / "across" / path.name).write_text(json.dumps(broken_file))
        assert told in build_board([damaged]).problems[0]


def test_a_causal_part_that_cannot_be_done_leaves_the_correlations(qwen: sn.LanguageModel, tmp_path: Path) -> None:
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.positions=answer", "--set", "causal.across=false") == 0
    found = cells(tmp_path)["hans labels"]
    assert found["status"] == "ok" and found["columns"]["labels.gold_label"]["top10_r"] > 0
    assert "error" not in found["causal"]  # it cannot be done with these settings: no next run tries again
    reason = found["causal"]["columns"]["labels.gold_label"]["reason"]
    assert "no position of that kind is run, because every answer is one token" in reason
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.positions=answer", "--set", "causal.across=false") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == before
    (row,) = [r for r in build_board([tmp_path]).rows if (r["task"], r["column"]) == ("hans", "labels.gold_label")]
    assert "causal: causal.positions 'answer': no position of that kind is run" in row["reason"]


def test_a_k_beyond_the_neurons_and_a_factor_too_large_say_why(qwen: sn.LanguageModel, tmp_path: Path) -> None:
    settings = ("causal.k=[10, 500]", "causal.steering=[1.0e+300]", "causal.across=false")
    more = [part for one in settings for part in ("--set", one)]
    assert run(qwen, tmp_path, "-M", "labels", *more) == 0
    part = cells(tmp_path)["arithmetic labels"]["causal"]["columns"]["labels.correct"]
    assert part["doses"][0]["outcomes"] is not None
    assert part["doses"][1]["reason"] == (
        "K = 500: only 144 neurons are ranked for this column; use a smaller causal.k"
    )
    assert "makes the logits non-finite; use a smaller factor" in part["steering"]["reason"]


def test_without_ten_among_k_the_tables_figures_are_empty_with_the_reason(
    qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    more = ("-M", "labels", "--set", "causal.k=[2]", "--set", "causal.across=false")
    assert run(qwen, tmp_path, *more) == 0
    (row,) = [r for r in build_board([tmp_path]).rows if (r["task"], r["column"]) == ("arithmetic", "labels.correct")]
    assert row["ablation_drop"] is None
    assert "causal: causal.k has no 10, which the table's figures are about" in row["reason"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("causal.k=[]", "causal.k"),
        ("causal.k=[0]", "causal.k.0"),
        ("causal.random_sets=1", "causal.random_sets"),
        ("causal.mode=median", "causal.mode"),
        ("causal.positon=prompt", "unknown setting"),
        ("causal.steering=[.nan]", "causal.steering.0"),
        ("causal.columns=[labels.corect]", "no task has a column 'labels.corect'; did you mean 'labels.correct'?"),
        ("causal.columns=[lables.correct]", "no metric named 'lables'"),
        ("causal.neutral_text=none.txt", "no file 'none.txt'; give a text file, or one of english, pocket"),
    ],
)
def test_bad_settings(
    qwen: sn.LanguageModel, tmp_path: Path, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(qwen, tmp_path, "--set", setting) == 2
    assert message in capsys.readouterr().err


def broken(*_arguments: Any, **_settings: Any) -> Any:
    raise RuntimeError("out of luck")


def test_what_fails_across_tasks_or_in_cards_leaves_the_rest(
    qwen: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import skillneurons.across
    import skillneurons.unit

    monkeypatch.setattr(skillneurons.across, "measure_across", broken)
    monkeypatch.setattr(skillneurons.unit, "make_cards", broken)
    assert run(qwen, tmp_path, "-M", "labels") == 0
    told = capsys.readouterr().err
    assert "across tasks, seed 0: not measured: RuntimeError: out of luck" in told
    assert "no neuron cards: RuntimeError: out of luck" in told
    found = cells(tmp_path)
    assert all(cell["status"] == "ok" and "error" not in cell["causal"] for cell in found.values())
    assert found["hans labels"]["causal"]["columns"]["labels.gold_label"]["doses"]
    assert (tmp_path / "board.md").exists()


def test_a_step_that_fails_leaves_the_doses(
    qwen: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import skillneurons.causal

    monkeypatch.setattr(skillneurons.causal, "steering_curve", broken)
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.across=false") == 0
    part = cells(tmp_path)["hans labels"]["causal"]["columns"]["labels.gold_label"]
    assert part["steering"] == {"reason": "RuntimeError: out of luck"} and part["doses"][0]["outcomes"]
    assert cells(tmp_path)["hans labels"]["causal"]["error"] == "RuntimeError: out of luck"
    assert "its causal part failed: RuntimeError: out of luck; the next run tries again" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.across=false") == 0
    again = cells(tmp_path)["hans labels"]["causal"]
    assert "error" not in again and again["columns"]["labels.gold_label"]["steering"]["alphas"] == [-2, 0, 2]


def test_a_run_that_is_broken_off_keeps_the_correlations_and_goes_on(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skillneurons.unit_causal

    def interrupted(*_arguments: Any, **_settings: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(skillneurons.unit_causal, "causal_part", interrupted)
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.across=false") == 130
    (cell,) = cells(tmp_path).values()
    assert cell["status"] == "ok" and cell["causal"] == {"pending": True, "columns": {}}
    assert cell["columns"] == cells(done)["arithmetic labels"]["columns"]
    (row, *_) = [r for r in build_board([tmp_path]).rows if r["column"] == "labels.correct"]
    assert row["top10_r"] > 0 and "causal: the run broke off before its causal part; run again" in row["reason"]
    monkeypatch.undo()
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.across=false") == 0
    for path in (tmp_path / "cells").glob("*.json"):
        if not path.name.endswith(".run.json"):
            assert path.read_bytes() == (done / "cells" / path.name).read_bytes()


def test_a_resume_that_fails_takes_nothing_back_and_across_waits_for_it(
    done: Path,
    qwen: sn.LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import skillneurons.causal
    import skillneurons.unit

    monkeypatch.setattr(skillneurons.causal, "dose_curve", broken)
    assert run(qwen, tmp_path) == 0
    first = cells(tmp_path)
    assert all("error" in cell["causal"] for cell in first.values())
    assert not list((tmp_path / "across").glob("*.json"))
    assert (
        "across tasks, seed 0: not measured yet: the causal part of 6 cells is not finished" in capsys.readouterr().err
    )
    monkeypatch.setattr(skillneurons.unit, "measure", broken)
    assert run(qwen, tmp_path) == 1
    told = capsys.readouterr().err
    assert "its causal part could not be finished: RuntimeError: out of luck; its correlations stand" in told
    assert cells(tmp_path) == first
    monkeypatch.undo()
    assert run(qwen, tmp_path) == 0
    for name in ("cells", "across"):
        for path in (done / name).glob("*.json"):
            if not path.name.endswith(".run.json"):
                assert path.read_bytes() == (tmp_path / name / path.name).read_bytes()


def test_single_neurons_that_fail_leave_doses_and_steering(
    qwen: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skillneurons.causal

    def refused(*_arguments: Any, **_settings: Any) -> Any:
        raise sn.CellError("steering by 2 sd makes the logits non-finite")

    monkeypatch.setattr(skillneurons.causal, "single_neurons", refused)
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.across=false") == 0
    part = cells(tmp_path)["hans labels"]["causal"]["columns"]["labels.gold_label"]
    assert part["doses"][0]["outcomes"] and part["steering"]["alphas"] and part["neurons"] == []
    assert part["neurons_reason"] == "steering by 2 sd makes the logits non-finite"
    assert build_board([tmp_path]).rows


def test_a_metric_that_fails_when_neurons_change_spoils_no_other(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    plugin = tmp_path / "touchy.py"
    plugin.write_text(
        "import skillneurons as sn\n"
        "seen = {}\n"
        "def touchy(example, output):\n"
        "    if abs(seen.setdefault(example.id, output.target_log_prob) - output.target_log_prob) > 0.2:\n"
        "        raise ValueError('that is another model')\n"
        "    return output.margin\n"
        "@sn.hookimpl\n"
        "def register_metrics(register):\n"
        "    register(sn.Metric('touchy', touchy))\n"
    )
    more = ("-M", "labels", "-M", "touchy", "--plugin", str(plugin), "--set", "causal.across=false")
    run(qwen, tmp_path / "out", *more, "--set", "prompt.steps=0")
    found = cells(tmp_path / "out")
    for name in ("arithmetic labels", "hans labels"):
        (part,) = [one for one in found[name]["causal"]["columns"].values() if "doses" in one]
        assert part["doses"][1]["outcomes"] and "error" not in found[name]["causal"]


def test_a_part_across_tasks_that_fails_leaves_the_others_and_is_tried_again(
    qwen: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import skillneurons.across

    monkeypatch.setattr(skillneurons.across, "joint_ablation", broken)
    more = ("-M", "labels", "--set", "causal.across_k=[2, 10, 500]")
    assert run(qwen, tmp_path, *more) == 0
    assert "joint ablation on hans: RuntimeError: out of luck" in capsys.readouterr().err
    (path,) = (tmp_path / "across").glob("*.json")
    found = json.loads(path.read_text())
    assert set(found["errors"]) == {"joint ablation on arithmetic", "joint ablation on hans"}
    assert [(e["set"], e["on"], e["k"]) for e in found["specificity"]] == [
        (a, b, k) for a in ("arithmetic", "hans") for k in (2, 10, 500) for b in ("arithmetic", "hans")
    ]
    for entry in found["specificity"]:
        if entry["k"] == 500:
            assert entry["reason"] == "K = 500: only 144 neurons are ranked for this column; use a smaller causal.k"
        else:
            assert entry["log_prob"]["effect"] is not None and entry["random_sets"] == 3
            assert (entry["moved"]["effect"] or 0) == 0  # labels of the examples do not move
    assert found["on_demand"]["policies"]
    text = render(build_board([tmp_path]), "md").decode()
    assert "nats lost by the 2 neurons of" in text and "only 144 neurons are ranked" in text
    monkeypatch.undo()
    assert run(qwen, tmp_path, *more) == 0
    again = json.loads(path.read_text())
    assert again["errors"] == {} and again["interactions"]["between"]["joints"]["hans"]
    assert again["specificity"] == found["specificity"]


def test_specificity_says_how_far_the_metric_moves(done: Path) -> None:
    (path,) = (done / "across").glob("*.json")
    own = [e for e in json.loads(path.read_text())["specificity"] if e["on"] == "hans"]
    assert {e["k"] for e in own} == {10} and all(e["moved"]["effect"] > 0 for e in own)
    ten = cells(done)["hans heuristics"]["causal"]["columns"]["heuristics.heuristic_follows"]["doses"][1]
    (same,) = [e for e in own if e["set"] == "hans"]
    assert same["moved"]["effect"] == pytest.approx(ten["outcomes"]["moved"]["effect"], abs=1e-4)
    assert "metric moved (sd) by the 10 neurons of" in render(build_board([done]), "md").decode()


def test_without_a_prompt_there_is_nothing_across_tasks_and_it_is_said(
    qwen: sn.LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(qwen, tmp_path, "-M", "labels", "--set", "attribution.position=input_last") == 0
    told = capsys.readouterr().err
    assert "across tasks, seed 0: not measured, it needs two tasks (arithmetic: there is no prompt" in told
    reason = cells(tmp_path)["hans labels"]["causal"]["columns"]["labels.gold_label"]["reason"]
    assert "causal.positions 'prompt' changes activations at prompt tokens, but there is no prompt" in reason


def test_steering_by_other_factors_is_shown_too(done: Path, qwen: sn.LanguageModel, tmp_path: Path) -> None:
    other = ("--set", "causal.steering=[-3, 3, 1.0e+300]", "--set", "causal.across=false")
    assert run(qwen, tmp_path, "-M", "labels", *other) == 0
    text = render(build_board([done, tmp_path]), "md").decode()
    assert "| follows | -2 | +0 | +2 | trend" in text and "| follows | -3 | +0 | +3 | trend" in text
    assert "Not steered: arithmetic" in text and "by 1e+300: steering by 1e+300 sd makes the logits non-finite" in text


def test_comparisons_across_tasks_of_other_settings_are_not_pooled(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.mode=zero") == 0
    board = build_board([done, tmp_path])
    (name,) = [path.name for path in (tmp_path / "across").glob("*.json")]
    assert board.left_out == [f"across/{name}: another comparison, of as many cells or more, is shown"]
    assert render(board, "md").decode().count("**Specificity**") == 1


def test_cells_of_other_settings_are_told_apart_on_the_board(
    done: Path, qwen: sn.LanguageModel, tmp_path: Path
) -> None:
    assert run(qwen, tmp_path, "-M", "labels", "--set", "causal.mode=zero", "--set", "causal.across=false") == 0
    text = render(build_board([done, tmp_path]), "md").decode()
    assert "`labels.gold_label (mean, prompt, " in text and "`labels.gold_label (zero, prompt, " in text
    assert "(mean, at prompt tokens; zero, at prompt tokens)" in text


def test_a_metric_that_was_measured_and_stood_still_is_shown_as_zero() -> None:
    from skillneurons.leaderboard.causes import _specificity

    still = {"effect": 0.0, "random": 0.0, "percentile": 50.0}
    names = ("follows", "label")
    entries = [{"set": a, "on": b, "k": 10, "moved": still} for a in names for b in names]
    across = {
        "tasks": list(names),
        "columns": {"follows": "c.p", "label": "labels.x"},
        "outcomes": {"follows": "moved", "label": "log_prob"},
        "specificity": entries,
    }
    lines = [line for line in _specificity([across]) if line.startswith(("| follows |", "| label |"))]
    assert lines[-2:] == ["| follows | 0.000 (0.000) 50 | - |", "| label | 0.000 (0.000) 50 | - |"]
