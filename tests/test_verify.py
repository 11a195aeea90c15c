"""An honest folder is accepted and computed again; every kind of tampering is named with what differs, and where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from skillneurons.cli import main
from skillneurons.finding import Finding
from skillneurons.registry import Registry, load_registry
from skillneurons.verify import ALL, Terms, Verification, open_submission, verify
from submission_files import Hands, edit_json, make_honest

P = "confidence.p_target"
Change = Callable[[Hands], object]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_honest(tmp_path_factory.mktemp("verify") / "honest")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@pytest.fixture
def hands(honest: Path, tmp_path: Path) -> Iterator[Hands]:
    shutil.copytree(honest, tmp_path / "sent")
    yield Hands(tmp_path / "sent")


def look(hands: Hands, registry: Registry, sample: int = 0, **terms: Any) -> Verification:
    return verify(open_submission(str(hands.root)), registry, Terms(sample=sample, device="cpu", **terms))


def lines(found: Verification) -> list[str]:
    """Return the findings as lines."""
    return [f"{one.level} {one.path}: {one.what}; {one.meaning}" for one in found.ledger.findings]


def column(**figures: Any) -> Change:
    return lambda hands: hands.edit(lambda cell: cell["columns"][P].update(figures))


def other_neuron(hands: Hands) -> None:
    def change(cell: dict[str, Any]) -> None:
        cell["columns"][P]["top"][2]["neuron"] += 1

    hands.edit(change)


def put_over(here: Path, there: Path) -> None:
    for path in here.iterdir():
        shutil.copy(there / path.name, path)


def other_value(hands: Hands) -> None:
    def change(table: dict[str, list[Any]]) -> None:
        table["labels.carry"][3] = 1.0 - table["labels.carry"][3]

    hands.table(change, "labels")


def other_probability(hands: Hands) -> None:
    def change(table: dict[str, list[Any]]) -> None:
        table[P][3], table[P][4] = table[P][4], table[P][3]

    hands.table(change)


def easier(hands: Hands) -> None:
    hands.table(lambda table: table.update(prompt=["1 plus 1 equals 2. Correct?"] * len(table["prompt"])))


def better_answers(hands: Hands) -> None:
    hands.table(lambda table: table.update(correct=[1.0] * len(table["correct"])))


def larger_drop(hands: Hands) -> None:
    def change(cell: dict[str, Any]) -> None:
        cell["causal"]["columns"][P]["ablation_drop"] = 0.3

    hands.edit(change)


def a_cause(hands: Hands) -> None:
    def change(cell: dict[str, Any]) -> None:
        part = cell["causal"]["columns"][P]
        part["verdict"] = part["doses"][0]["verdict"] = "cause"

    hands.edit(change)


def another_z(hands: Hands) -> None:
    def change(cell: dict[str, Any]) -> None:
        cell["causal"]["columns"][P]["doses"][0]["outcomes"]["log_prob"]["z"] = 9.0

    hands.edit(change)


def lower_null(hands: Hands) -> None:
    scores = load_file(hands.place() / "scores.safetensors")[P]

    def change(cell: dict[str, Any]) -> None:
        figures = cell["columns"][P]
        figures["null95_r"] = 0.3
        figures["n_fwer"] = int((abs(scores) > 0.3).sum())
        for row in figures["top"]:
            row["p_adjusted"] = round(1 / 41, 6)

    hands.edit(change)


def under_another_key(hands: Hands) -> None:
    old, new = hands.key("confidence", 0), "arithmetic-confidence-s0-0123456789abcdef"
    for path in (hands.root / "cells").glob(f"{old}*"):
        path.rename(path.with_name(path.name.replace(old, new)))
    (hands.root / "passes" / old).rename(hands.root / "passes" / new)
    (hands.root / "cards" / f"{old}.json").rename(hands.root / "cards" / f"{new}.json")
    edit_json(hands.root / "cells" / f"{new}.json", lambda cell: cell.update({"key": new, "pass": new}))
    edit_json(hands.root / "cards" / f"{new}.json", lambda cards: cards.update(key=new))


def easier_chance(hands: Hands) -> None:
    hands.edit(lambda cell: cell["task"].update(chance=0.25))


def causal_of(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda hands: hands.edit(lambda cell: change(cell["causal"]["columns"][P]))


def no_doses(hands: Hands) -> None:
    """Leave out the doses, as of a cell whose ablation failed."""
    hands.edit(lambda cell: cell["causal"]["columns"].update({P: {"reason": "no random sets"}}))


def no_null(hands: Hands) -> None:
    column(null95_r=None, n_fwer=None, n_fdr=None, n_replicated=None)(hands)


def wider_tolerances(hands: Hands) -> None:
    hands.edit(lambda cell: cell["model"].update(dtype="float16"))


def own_figure(hands: Hands) -> None:
    hands.edit(lambda cell: cell["scores"][0].update(value=0.999))


def fewer_figures(hands: Hands) -> None:
    hands.edit(lambda cell: cell["scores"].pop())


def cut_inputs(hands: Hands) -> None:
    """Say that one input was cut, and change all prompts."""
    easier(hands)
    hands.edit(lambda cell: cell["truncated"].update(discovery=1))


def a_degenerate_column(hands: Hands) -> None:
    column(status="degenerate", reason="constant on discovery (1 for every example)")(hands)


def a_late_run(hands: Hands) -> None:
    edit_json(hands.cell().with_suffix(".run.json"), lambda record: record.update(started="2999-01-01T00:00:00Z"))


def a_shorter_history(hands: Hands) -> None:
    path = hands.prompt() / "history.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))


KEY = "cells/arithmetic-confidence-s0-"
TAMPERING: dict[str, tuple[Change, str, str]] = {
    "an edited r": (column(top10_r=0.9), f"3 {KEY}", f"columns.{P}.top10_r is 0.9, the scores give 0.5"),
    "an r beyond 1": (
        column(top1_r=1.2),
        f"4 {KEY}",
        f"columns.{P}.top1_r is 1.2, beyond 1; no run gives such a figure",
    ),
    "an edited held-out figure": (
        column(heldout_top10_r=0.99),
        f"3 {KEY}",
        f"columns.{P}.heldout_top10_r is 0.99, the scores give 0.6",
    ),
    "an edited interval": (
        column(heldout_top10_r_low=0.6),
        f"3 {KEY}",
        f"{P}: heldout_top10_r_low is 0.6, its activations give 0.5",
    ),
    "an edited spread": (column(sd=0.5), f"3 {KEY}", f"columns.{P}.sd is 0.5, the values on discovery give 0.2"),
    "an edited list of neurons": (other_neuron, f"3 {KEY}", f"columns.{P}.top[2] is L03.N0"),
    "a swapped prompt": (
        lambda hands: put_over(hands.prompt(0), hands.prompt(1)),
        "4 cells/arithmetic-",
        "the prompt's embeddings are, byte for byte, those of cells/arithmetic-",
    ),
    "another seed's scores": (
        lambda hands: put_over(hands.place(), hands.place(seed=1)),
        "4 cells/arithmetic-confidence-s1-",
        f"the scores of {P} are, byte for byte, those of {KEY}",
    ),
    "a missing seed": (
        lambda hands: hands.remove("labels", 1),
        "4 cells: arithmetic-labels-s0-",
        "no cell of labels on arithmetic with seed 1; other cells of pocket-small with the same settings have seeds 0, 1; "
        "a seed was left out, so the mean over seeds is not that of the run",
    ),
    "an edited metric value": (
        other_value,
        "3 passes/arithmetic-labels-s0-",
        "computed again",
    ),
    "exchanged metric values": (other_probability, "3 passes/arithmetic-confidence-s0-", f"{P}: r of L0"),
    "an edited accuracy": (
        lambda hands: hands.edit(lambda cell: cell["accuracy"].update(tuned=1.0)),
        f"3 {KEY}",
        "the answers kept give 0.975000 (stderr 0.024367); the accuracy is not that of the examples",
    ),
    "edited answers": (better_answers, "3 passes/arithmetic-confidence-s0-", "and its answer "),
    "a lower null": (
        lower_null,
        f"3 {KEY}",
        "null95_r is 0.300000, and by its 10 strongest neurons alone it is at least 0.",
    ),
    "more neurons that pass": (column(n_fwer=200), f"3 {KEY}", f"columns.{P}.n_fwer is 200, and "),
    "easier examples": (
        easier,
        "3 passes/arithmetic-confidence-s0-",
        "is '1 plus 1 equals 2. Correct?', of the task '",
    ),
    "an edited setting": (
        lambda hands: hands.edit(lambda cell: cell["config"]["prompt"].update(steps=500)),
        f"2 {KEY}",
        "what it holds gives arithmetic-confidence-s0-",
    ),
    "an edited seed": (
        lambda hands: hands.edit(lambda cell: cell.update(seed=7)),
        f"2 {KEY}",
        "what it holds gives arithmetic-s7-",
    ),
    "an edited model": (
        lambda hands: hands.edit(lambda cell: cell["model"].update(name="pocket")),
        f"2 {KEY}",
        "what it holds gives arithmetic-confidence-s0-",
    ),
    "a cell under another key": (under_another_key, f"2 {KEY}", "what it holds gives arithmetic-confidence-s0-"),
    "another chance level": (easier_chance, f"2 {KEY}", "task.chance is 0.25, of the task here 0.5"),
    "a larger drop": (larger_drop, f"3 {KEY}", f"causal.columns.{P}.ablation_drop is 0.3, its dose of K = 10 says 0.0"),
    "a verdict of cause": (a_cause, f"3 {KEY}", "doses[K=10].verdict is cause, its figures give undecided"),
    "another z": (another_z, f"3 {KEY}", "doses[K=10].log_prob.z is 9.0, (effect - random) / random_sd is "),
    "doses left out": (
        causal_of(lambda part: part.update(doses=[])),
        f"3 {KEY}",
        f"causal.columns.{P}.doses are of K = [], its settings ask for [10]; something that was measured was left out",
    ),
    "a column left out of the causal part": (
        lambda hands: hands.edit(lambda cell: cell["causal"]["columns"].pop(P)),
        f"3 {KEY}",
        "causal.columns has confidence.margin, ",
    ),
    "no causal part": (
        lambda hands: hands.edit(lambda cell: cell.update(causal=None)),
        f"3 {KEY}",
        "columns has none,",
    ),
    "neurons one by one left out": (
        causal_of(lambda part: part.update(neurons=[])),
        f"3 {KEY}",
        f"causal.columns.{P}.neurons are 0, its settings ask for 1",
    ),
    "another percentile": (
        causal_of(lambda part: part.update(percentile=100.0)),
        f"3 {KEY}",
        f"causal.columns.{P}.percentile is 100.0, its dose of K = 10 says ",
    ),
    "no null": (no_null, f"3 {KEY}", f"columns.{P}.null95_r is absent, the config says 40 permutations"),
    "a column called degenerate": (
        a_degenerate_column,
        f"3 {KEY}",
        f"columns.{P}.status is degenerate, and its values vary and have scores; a column was left out",
    ),
    "another dtype": (wider_tolerances, f"2 {KEY}", "model.dtype is float16, its config says float32"),
    "another of the task's own figures": (own_figure, f"3 {KEY}", ".value is 0.999, by the answers "),
    "the task's own figures left out": (fewer_figures, f"3 {KEY}", "scores are [("),
    "examples that were cut": (
        cut_inputs,
        "3 passes/arithmetic-confidence-s0-",
        "is '1 plus 1 equals 2. Correct?', of",
    ),
    "a run of the future": (a_late_run, f"4 {KEY}", "started is 2999-01-01T00:00:00Z"),
    "a shorter history": (a_shorter_history, "3 prompts/arithmetic-s0-", "it ends at step 3, with these settings"),
}


def test_an_honest_folder_is_accepted_and_computed_again(hands: Hands, registry: Registry) -> None:
    before = {path: path.read_bytes() for path in hands.root.rglob("*") if path.is_file()}
    found = look(hands, registry, ALL)
    assert lines(found) == [] and found.ledger.remarks == []
    assert set(found.verdicts.values()) == {"recomputed"} and len(found.verdicts) == 4
    assert set(found.ledger.recomputed.values()) == {"byte-identical"}
    assert {path: path.read_bytes() for path in hands.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_named(kind: str, hands: Hands, registry: Registry) -> None:
    change, place, what = TAMPERING[kind]
    change(hands)
    found = look(hands, registry)
    assert [one for one in lines(found) if one.startswith(place) and what in one], lines(found)
    assert "found" in found.verdicts.values()


def shifted(hands: Hands) -> None:
    """Raise every score by a twentieth, with all figures that follow, and leave out the files that would tell."""
    place = hands.place()
    hands.tensors(
        place / "scores.safetensors", lambda all_: all_.update({n: (a * np.float32(1.05)) for n, a in all_.items()})
    )
    for name in ("neurons", "heldout"):
        (place / f"{name}.safetensors").unlink()
    scores = load_file(place / "scores.safetensors")

    def change(cell: dict[str, Any]) -> None:
        for name, figures in cell["columns"].items():
            for figure in ("top1_r", "top10_r", "top10_mean_r", "null95_r"):
                figures[figure] *= 1.05
            for row in figures["top"]:
                row["r"] = round(float(scores[name][row["layer"], row["neuron"]]), 6)
            for level in figures["above"]:
                level["n"] = int((abs(scores[name]) >= level["threshold"]).sum())
                level["share"] = level["n"] / scores[name].size

    hands.edit(change)


def test_what_is_altered_consistently_only_the_model_can_tell(hands: Hands, registry: Registry) -> None:
    shifted(hands)
    key = hands.key("confidence", 0)
    assert lines(look(hands, registry)) == []
    found = look(hands, registry, ALL)
    assert found.verdicts[key] == "found"
    assert sorted(set(found.verdicts.values())) == ["found", "recomputed"]
    place = f"5 passes/{key}/scores.safetensors: {P}: "
    assert [one for one in lines(found) if one.startswith(place) and "neurons differ by more than 0.002" in one]
    assert [one for one in lines(found) if f"columns.{P}.top10_mean_r is 0." in one and "computed again 0." in one]


def bolder(part: dict[str, Any]) -> None:
    """Make a cause of an effect: smaller spread, best p, an interval above all, all that follows from each other."""
    (dose,) = part["doses"]
    for one in dose["outcomes"].values():
        one.update(random_sd=1e-4, p=1 / 5, percentile=100.0)
        one["z"] = (one["effect"] - one["random"]) / 1e-4
    judged, table = dose["outcomes"][dose["outcome"]], dose["outcomes"]["accuracy"]
    part.update(random_drop_sd=1e-4, causal_z=table["z"], p=judged["p"], percentile=100.0)


def other_cards(hands: Hands) -> None:
    edit_json(
        hands.root / "cards" / f"{hands.key('confidence', 0)}.json",
        lambda cards: next(iter(next(iter(cards["columns"].values())).values()))["highest"][0].update(value=99.0),
    )


RECOMPUTED: dict[str, tuple[Change, str]] = {
    "a smaller spread of the random sets": (
        causal_of(bolder),
        f"causal.columns.{P}.doses[K=10].moved.random_sd is 0.0001,",
    ),
    "no doses, for a reason": (no_doses, f"the doses of causal.columns.{P} is [], computed again [10]"),
    "another figure without a prompt": (
        column(baseline_top10_r=0.1),
        f"columns.{P}.baseline_top10_r is 0.1, computed again",
    ),
    "another architecture": (
        lambda h: h.edit(lambda c: c["model"].update(architecture="Mine")),
        'model is {"architecture":"Mine",',
    ),
    "other cards": (other_cards, "it is not what the model gives, where cell and pass are, byte for byte"),
    "no cards": (
        lambda h: (h.root / "cards" / f"{h.key('confidence', 0)}.json").unlink(),
        "the neuron cards were altered or left",
    ),
}


@pytest.mark.parametrize("kind", RECOMPUTED)
def test_what_only_the_model_tells_is_told(kind: str, hands: Hands, registry: Registry) -> None:
    change, what = RECOMPUTED[kind]
    hands.remove("confidence", 1)
    hands.remove("labels", 0)
    hands.remove("labels", 1)
    shutil.rmtree(hands.prompt(1))
    change(hands)
    assert lines(look(hands, registry)) == []
    assert [one for one in lines(look(hands, registry, ALL)) if one.startswith("5 c") and what in one]


def test_a_prompt_of_another_seed_with_its_history_is_told_by_its_first_loss(hands: Hands, registry: Registry) -> None:
    for metric in ("confidence", "labels"):
        hands.remove(metric, 1)
    put_over(hands.prompt(0), hands.prompt(1))
    shutil.rmtree(hands.prompt(1))
    assert lines(look(hands, registry)) == []
    found = lines(look(hands, registry, 1))
    begun = "the first loss of its history (the prompt that seed 0 begins with) is "
    assert [one for one in found if one.startswith("5 prompts/arithmetic-s0-") and begun in one]


def test_a_prompt_that_was_changed_a_little_has_another_loss(hands: Hands, registry: Registry) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["prompt_embeddings"] += np.float32(0.05)

    hands.tensors(hands.prompt() / "adapter_model.safetensors", change)
    found = look(hands, registry, ALL)
    what = "the lowest validation loss of its history is "
    meaning = "the prompt was swapped: it is not the one that was tuned for these cells"
    assert [one for one in lines(found) if what in one and one.endswith(meaning)]
    assert found.verdicts[hands.key("confidence", 1)] == "recomputed"


def test_a_prompt_is_tuned_again_on_request(hands: Hands, registry: Registry) -> None:
    found = look(hands, registry, 1, seed=1, retune=True)
    assert lines(found) == [] and len(found.ledger.recomputed) == 1


def test_the_sample_follows_from_its_seed(hands: Hands, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillneurons.recomputation.recompute", lambda *arguments: None)
    drawn = [look(hands, registry, 2, seed=seed).drawn for seed in (5, 5, 6, 7, 8)]
    assert drawn[0] == drawn[1] and len({tuple(one) for one in drawn}) > 1


def test_a_plugin_that_is_not_here_leaves_cells_unchecked(hands: Hands, registry: Registry) -> None:
    for seed in (0, 1):
        hands.edit(lambda cell: cell["metric"].update(name="confidence_of_mine"), seed=seed)
    found = look(hands, registry)
    assert found.verdicts[hands.key("confidence", 0)] == "unchecked"
    assert (
        f"cells/{hands.key('confidence', 0)}.json",
        "its key and its examples cannot be checked here: metric 'confidence_of_mine' is not loaded here, so whether it has "
        "changed cannot be told",
    ) in [(one.path, one.what) for one in found.ledger.remarks]


def test_a_model_that_is_not_here_is_said(hands: Hands, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillneurons.verify.EMBEDDED", ("pocket",))
    found = look(hands, registry, ALL)
    assert found.accepted and set(found.verdicts.values()) == {"consistent"} and found.drawn == []
    what = "it cannot be recomputed: its model 'pocket-small' is not embedded; where you trust it, give -m pocket-small"
    assert {one.what for one in found.ledger.remarks} == {what}


def test_the_command_tells_and_returns_one(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    column(top10_r=0.9)(hands)
    assert main(["verify", str(hands.root), "--sample", "0", "--seed", "0"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{hands.root}: 1 thing found"
    assert printed[1] == "4 cells: 1 with findings, 3 consistent, not recomputed; sample 0, seed 0"
    assert printed[3] == "level 3, consistency (1)"
    assert printed[4].startswith(
        f"  cells/{hands.key('confidence', 0)}.json: columns.{P}.top10_r is 0.9, the scores give "
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "verify needs the results folder: skillneurons verify DIR"),
        (["nowhere"], "cannot verify nowhere: no such folder; give a results folder"),
        ([".", "--sample", "some"], "--sample some: it must be a number of cells, 0 for none, or all"),
        (["."], "cannot verify .: it has no cells; give a folder that `skillneurons run` wrote"),
    ],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *arguments]) == 2
    assert capsys.readouterr().err == f"skillneurons: error: {message}\n"


def test_a_finding_that_names_no_cell_concerns_all() -> None:
    from skillneurons.finding import Ledger

    ledger = Ledger([Finding(1, "x", "y", "z")])
    assert ledger.verdict("any", False) == "found"
