"""``skillneurons compare``: two models and more, on examples they share, from files written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from model_pairs import DRAWS, GROUPS, RIGHT, SURE, N, cell, column, figure, folder, save, save_pass
from skillneurons.cli import main
from skillneurons.compare import compare
from skillneurons.compare_text import comparison_json, comparison_text
from skillneurons.comparison import Comparison, count
from skillneurons.errors import UnknownNameError, UserError
from skillneurons.paired import paired_means

RNG = np.random.default_rng(0)


def test_accuracy_and_means_are_paired_by_example_and_averaged_over_seeds(tmp_path: Path) -> None:
    found = compare(folder(tmp_path), ["a", "b"], n_resamples=500, seed=4)
    apart = np.mean([np.subtract(RIGHT["a", seed], RIGHT["b", seed]) for seed in (0, 1)], axis=0)
    (expected,) = paired_means(apart[:, None], GROUPS, n_resamples=500, seed=4)
    accuracy = figure(found, "accuracy")
    assert (accuracy.a, accuracy.b, accuracy.seeds) == (pytest.approx(0.8), pytest.approx(0.45), (0, 1))
    assert (accuracy.difference, accuracy.low, accuracy.high, accuracy.p) == (
        expected.difference,
        expected.low,
        expected.high,
        expected.p,
    )
    assert (accuracy.n, accuracy.groups) == (20, 10)
    sure = figure(found, "mean", "sure")
    assert sure.difference == pytest.approx(
        np.mean([SURE["a", 0], SURE["a", 1]]) - np.mean([SURE["b", 0], SURE["b", 1]])
    )
    assert figure(found, "mean", "length").same and figure(found, "mean", "length").verdict == "the same"
    r = figure(found, "heldout_top10_r", "sure")
    assert (r.difference, r.verdict) == (pytest.approx(0.1), "A higher")
    assert figure(found, "heldout_top10_r", "length").verdict == "within noise"
    of = count(found.pairs[0].of("mean"))
    assert (of.compared, of.same, of.expected) == (1, 1, pytest.approx(0.05))
    assert found.notes == found.problems == ()


def test_the_order_of_examples_on_disk_does_not_matter(tmp_path: Path) -> None:
    before = compare(folder(tmp_path), ["a", "b"], n_resamples=200)
    order = RNG.permutation(N)
    one = cell("b", seed=1)
    values = {"sure": SURE["b", 1][order], "length": np.arange(N)[order]}
    groups, ids = [GROUPS[i] for i in order], [f"e{i}" for i in order]
    save_pass(tmp_path, one, np.array(RIGHT["b", 1])[order], values, groups, ids)
    assert compare(tmp_path, ["a", "b"], n_resamples=200) == before
    assert compare(tmp_path, ["b", "a"], n_resamples=200).pairs[0].of("accuracy")[0].difference.p == (
        before.pairs[0].of("accuracy")[0].difference.p
    )


def test_the_order_of_both_models_examples_does_not_matter(tmp_path: Path) -> None:
    before = compare(folder(tmp_path), ["a", "b"], n_resamples=200)
    for place, right in RIGHT.items():
        order = RNG.permutation(N)
        values = {"sure": SURE[place][order], "length": np.arange(N)[order]}
        groups, ids = [GROUPS[i] for i in order], [f"e{i}" for i in order]
        save_pass(tmp_path, cell(place[0], seed=place[1]), np.array(right)[order], values, groups, ids)
    assert compare(tmp_path, ["a", "b"], n_resamples=200) == before


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    folder(tmp_path)
    one, again, other = (comparison_json(compare(tmp_path, ["a", "b"], n_resamples=200, seed=s)) for s in (0, 0, 1))
    assert one == again != other


def test_a_missing_pass_is_named_with_its_remedy(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "passes" / "sums-sure-s1-b" / "examples.parquet").unlink()
    found = compare(tmp_path, ["a", "b"], n_resamples=200)
    reason = "passes/sums-sure-s1-b/examples.parquet is missing; delete cells/sums-sure-s1-b.json and run again into this folder"
    assert figure(found, "accuracy").reason == figure(found, "mean", "sure").reason == reason
    assert figure(found, "heldout_top10_r", "sure").verdict == "A higher"  # r needs no pass
    assert f"no p for sums: {reason}" in comparison_text(found)
    assert found.problems == ()


def test_accuracies_of_cells_show_where_passes_are_missing_and_the_reason_stands_once(tmp_path: Path) -> None:
    for (name, seed), accuracy in {("a", 0): 0.9, ("a", 1): 0.8, ("b", 0): 0.5, ("b", 1): 0.7}.items():
        for task in ("hans", "sums"):
            kept = {"untuned": 0.5, "tuned": accuracy, "stderr": 0.03}
            named = {**cell().task, "name": task}
            one = cell(
                name, seed=seed, key=f"{task}-s{seed}-{name}", task=named, accuracy=kept, pass_=f"{task}{seed}{name}"
            )
            save(tmp_path, [one])
    found = compare(tmp_path, ["a", "b"], n_resamples=200)
    for row in found.pairs[0].of("accuracy"):
        one = row.difference
        assert (one.a, one.b, one.difference) == pytest.approx((0.85, 0.6, 0.25))
        assert (one.p, one.low, one.verdict, one.seeds) == (None, None, "not compared", (0, 1))
        assert one.reason == (
            f"passes/{row.task}0a/examples.parquet is missing; delete cells/{row.task}-s0-a.json and run again into this folder"
        )
    assert count(found.pairs[0].of("accuracy")).compared == 0
    text = comparison_text(found)
    assert "| hans   | 0.850 | 0.600 |  +0.250 |" in text
    assert "no p for hans, sums: passes/ are not here\n" in text
    assert "no p for hans sure, sums sure: passes/ are not here\n" in text
    assert found.notes == (
        "passes/ of 8 cells are not here: hans-s0-a, hans-s0-b, hans-s1-a and 5 more; bring the folder passes/ here, or "
        "delete the files of these cells from cells/ and run again into this folder",
    )
    assert text.count("is missing") == 0


def test_accuracy_is_of_whichever_metric_has_its_pass_on_disk(tmp_path: Path) -> None:
    folder(tmp_path)
    whole = compare(tmp_path, ["a", "b"], n_resamples=200)
    metric = {**cell().metric, "name": "also"}  # its passes are nowhere, and it comes first
    save(tmp_path, [cell(name, seed=seed, key=f"also-{name}{seed}", metric=metric) for name, seed in RIGHT])
    assert compare(tmp_path, ["a", "b"], n_resamples=200).pairs[0].of("accuracy") == whole.pairs[0].of("accuracy")


def test_a_damaged_pass_and_a_damaged_cell_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    broken = tmp_path / "passes" / "sums-sure-s0-a" / "examples.parquet"
    broken.write_bytes(b"no parquet")
    (tmp_path / "cells" / "half.json").write_text("{")
    assert main(["compare", str(tmp_path), "a", "b", "--resamples", "200"]) == 1
    said = capsys.readouterr()
    assert f"{tmp_path / 'cells' / 'half.json'} is left out: it is not valid JSON" in said.err
    assert f"{broken}: cannot read these examples (" in said.err
    assert "delete its folder and its cell, and run again into this folder" in said.err
    assert "A higher" in said.out


@pytest.mark.parametrize(
    ("ids", "groups", "reason"),
    [
        (
            [f"e{i}" for i in range(1, N + 1)],
            GROUPS,
            "passes/sums-sure-s0-a and passes/sums-sure-s0-b hold different held-out examples (2 are in one alone, as 'e0'), "
            "although their data hashes agree; run both again",
        ),
        (
            None,
            GROUPS[::-1],
            "passes/sums-sure-s0-a and passes/sums-sure-s0-b put the same examples into different groups; run both again",
        ),
    ],
)
def test_examples_that_differ_are_not_paired(
    ids: list[str] | None, groups: list[str], reason: str, tmp_path: Path
) -> None:
    folder(tmp_path)
    values = {"sure": SURE["b", 0], "length": np.arange(N)}
    save_pass(tmp_path, cell("b"), RIGHT["b", 0], values, groups, ids)
    assert figure(compare(tmp_path, ["a", "b"], n_resamples=200), "accuracy").reason == reason


def test_an_example_that_is_there_twice_is_a_damaged_pass(tmp_path: Path) -> None:
    folder(tmp_path)
    path = save_pass(tmp_path, cell("b"), [1, 1], {"sure": [0, 1], "length": [0, 1]}, ids=["e0", "e0"])
    (problem,) = compare(tmp_path, ["a", "b"], n_resamples=200).problems
    assert problem == (
        f"{path}: the example 'e0' is there twice, so examples cannot be paired; delete its folder and its cell, and run "
        "again into this folder"
    )


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["a", "c"], {}, "no model named 'c'; known: a, b"),
        (["a", "bb"], {}, "no model named 'bb'; did you mean 'b'? known: a, b"),
        (["a", "a@r1"], {}, "'a@r1' is the same model as 'a'; name different models"),
        (["a"], {}, "one model (a) cannot be compared; name at least two"),
        (
            ["a", "b"],
            {"tasks": ["sum"]},
            "no task named 'sum'; did you mean 'sums'? known: sums; these have finished cells of the models",
        ),
        (
            ["a", "b"],
            {"metrics": ["length"]},
            "no metric named 'length'; known: sure; these have finished cells of the models",
        ),
        (["a", "b"], {"n_resamples": 99}, "--resamples 99: at least 100 are needed for a p of 0.05 to mean something"),
    ],
)
def test_what_a_person_has_to_mend(models: list[str], options: dict, message: str, tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(UserError) as error:
        compare(tmp_path, models, **options)
    assert str(error.value) == message


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        compare(tmp_path / "no", ["a", "b"])
    place = tmp_path / "no"
    assert str(error.value) == (
        f"cannot read results from {place}: no such folder; run `skillneurons run -o {place}` first"
    )
    save(tmp_path, [])
    with pytest.raises(UserError) as error:
        compare(tmp_path, ["a", "b"])
    assert str(error.value) == f"{tmp_path} holds no cells; run `skillneurons run -o {tmp_path}` first"


def test_cells_under_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, [cell("a"), cell("b", config={**cell().config, "prompt": {"steps": 9}})])
    with pytest.raises(UserError) as error:
        compare(tmp_path, ["a", "b"])
    assert str(error.value) == (
        "a, b share no cells: sums sure: run under different settings: a with prompt.steps=3; b with prompt.steps=9"
    )
    save(tmp_path, [cell("b", key="other", task={**cell().task, "name": "hans"})])
    with pytest.raises(UnknownNameError):
        compare(tmp_path, ["a", "c"])


def test_models_that_did_other_tasks_share_nothing(tmp_path: Path) -> None:
    save(tmp_path, [cell("a"), cell("b", task={**cell().task, "name": "hans"})])
    with pytest.raises(UserError) as error:
        compare(tmp_path, ["a", "b"])
    assert str(error.value) == (
        "a, b share no cells: they ran no task and metric in common; run them into this folder with one config"
    )


@pytest.mark.parametrize("names", [["a", "b", "c"], ["b", "c"]])
def test_models_without_a_common_seed_are_refused_with_the_seeds_of_each(names: list[str], tmp_path: Path) -> None:
    seeds = {"a": (0, 1), "b": (0,), "c": (1,)}
    save(tmp_path, [cell(name, seed=seed) for name in "abc" for seed in seeds[name]])
    with pytest.raises(UserError) as error:
        compare(tmp_path, names)
    told = "; ".join(f"{name} {', '.join(map(str, seeds[name]))}" for name in names)
    fewer = "; name two of them that share seeds: a and b, a and c" if len(names) > 2 else ""
    assert str(error.value) == (
        f"{', '.join(names)} share no cells: sums sure: no prompt seed in common: {told}; "
        f"run them with the same --seed{fewer}"
    )


def test_what_reaches_one_model_alone_is_told(tmp_path: Path) -> None:
    folder(tmp_path)
    save(tmp_path, [cell("a", key=name, task={**cell().task, "name": name}) for name in ("hans", "skillmix")])
    both = {"sure": column(), "length": column()}
    save(tmp_path, [cell("b", key="nine", config={**cell().config, "prompt": {"steps": 9}}, columns=both)])
    assert compare(tmp_path, ["a", "b"], n_resamples=200).notes == (
        "hans sure, skillmix sure: finished by a alone",
        "sums sure: finished by b alone with prompt.steps=9",
    )


def test_seeds_that_one_model_lacks_and_failed_cells_are_told(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "cells" / "sums-sure-s1-b.json").unlink()
    save(tmp_path, [cell("b", seed=2, status="failed", error={"message": "out of memory"}, columns={})])
    found = compare(tmp_path, ["a", "b"], n_resamples=200)
    assert figure(found, "accuracy").seeds == (0,)
    assert found.notes == (
        "sums-sure-s2-b failed and is left out",
        "sums sure: seed 1 of a left out: not every model has it",
    )


def test_more_than_two_models_are_ranked(tmp_path: Path) -> None:
    folder(tmp_path)
    for seed in (0, 1):
        columns = {"sure": column(0.599, 0.599 + RNG.normal(0, 0.02, 200)), "length": column(0.3, 0.3 + DRAWS)}
        third = cell("c", seed=seed, columns=columns)
        save(tmp_path, [third])
        save_pass(tmp_path, third, RIGHT["a", seed], {"sure": SURE["a", seed], "length": np.arange(N)}, GROUPS)
    found = compare(tmp_path, ["a", "b", "c"], n_resamples=500)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    by = {(one.figure, one.column): [(p.model, p.ranks) for p in one.places] for one in found.rankings}
    assert by["heldout_top10_r", "sure"] == [("a", "1-2"), ("c", "1-2"), ("b", "3")]
    assert by["heldout_top10_r", "length"] == [("a", "1-3"), ("b", "1-3"), ("c", "1-3")]
    assert ("mean", "length") not in by  # the same for every model
    assert by["accuracy", ""] == [("a", "1-3"), ("c", "1-3"), ("b", "1-3")]
    text = comparison_text(found)
    assert "a and c" in text and "within noise of" in text


def third(root: Path, sure: np.ndarray) -> Comparison:
    """Return the comparison with a third model, whose values of ``sure`` are these on both seeds."""
    folder(root)
    for seed in (0, 1):
        one = cell(
            "c", seed=seed, columns={"sure": column(None, reason="constant on discovery"), "length": column(0.3)}
        )
        save(root, [one])
        save_pass(root, one, RIGHT["a", seed], {"sure": sure, "length": np.arange(N)}, GROUPS)
    return compare(root, ["a", "b", "c"], n_resamples=200)


def test_rankings_are_over_the_examples_that_every_model_is_scored_on(tmp_path: Path) -> None:
    sure = np.where(np.arange(N) < 4, np.nan, 0.5)
    found = third(tmp_path, sure)
    (means,) = [one for one in found.rankings if one.figure == "mean"]
    values = {place.model: place.value for place in means.places}
    expected = {name: np.mean([SURE[name, 0][4:], SURE[name, 1][4:]]) for name in "ab"}
    assert values == pytest.approx({**expected, "c": 0.5})
    for pair in found.pairs:
        (one,) = [row.difference for row in pair.of("mean") if row.column == "sure"]
        assert one.n == 16 and (one.a, one.b) == pytest.approx((values[pair.a], values[pair.b]))
    assert found.notes == ("sums sure: examples left out that are not scored for every model: 4",)


def test_a_model_without_a_value_has_its_own_reason_in_every_ranking(tmp_path: Path) -> None:
    found = third(tmp_path, np.full(N, np.nan))
    last = {(one.figure, one.column): one.places[-1] for one in found.rankings}
    assert (last["mean", "sure"].model, last["mean", "sure"].reason) == ("c", "no example is scored")
    r = last["heldout_top10_r", "sure"]
    assert (r.model, r.value, r.reason) == ("c", None, "constant on discovery")
    (tmp_path / "passes" / "sums-sure-s1-c" / "examples.parquet").unlink()
    reasons = {
        one.figure: place.reason
        for one in compare(tmp_path, ["a", "b", "c"], n_resamples=200).rankings
        for place in one.places
        if place.model == "c" and one.column in ("", "sure")
    }
    missing = "passes/sums-sure-s1-c/examples.parquet is missing; delete cells/sums-sure-s1-c.json and run again into this folder"
    assert reasons == {"accuracy": missing, "mean": missing, "heldout_top10_r": "constant on discovery"}


def test_the_command_prints_tables_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    assert main(["compare", str(tmp_path), "a", "b", "--resamples", "200", "-t", "sums", "-M", "sure"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A = a\nB = b\n\naccuracy, held out: paired by example;")
    assert (
        "heldout_top10_r: 2 compared; 1 with p <= 0.05 before correction, where 0.1 would be by chance if nothing differed; "
        "1 beyond noise\n"
    ) in text
    assert main(["compare", str(tmp_path), "a", "b", "--resamples", "200", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["pairs"][0]["counts"]["heldout_top10_r"]["beyond_noise"] == 1
    (row,) = [one for one in content["pairs"][0]["rows"] if one["figure"] == "accuracy"]
    assert row["beyond_noise"] == (row["p_holm"] <= 0.05 and row["low"] > 0) and row["verdict"] in (
        "A higher",
        "within noise",
    )
    assert main(["compare", str(tmp_path), "a", "x"]) == 2
    assert capsys.readouterr().err == "skillneurons: error: no model named 'x'; known: a, b\n"
