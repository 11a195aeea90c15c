"""The selftest command at a smaller size: it finds what was planted, and it can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skillneurons as sn
from skillneurons.cli import main
from skillneurons.planting import plant_strengths
from skillneurons.registry import load_registry
from skillneurons.selftest import Calibration, calibrate, recover, report


@pytest.mark.parametrize("model", ["pocket", "random Llama", "random GPT-2"])
def test_planted_neurons_are_recovered(model: str) -> None:
    found = recover(model, sn.load_registry(), n=300, permutations=99)
    assert found.ok and len(found.sure) >= 12 and found.false_positives <= 1
    assert all(one.p_adjusted == 0.01 for one in found.sure)
    assert sum(one.low <= one.planted <= one.high for one in found.sure) >= len(found.sure) - 3


def test_recovery_fails_where_a_neuron_is_missed() -> None:
    found = recover("random Llama", sn.load_registry(), n=150, permutations=19)
    assert found.ok
    strongest = found.sure[0]
    rest = tuple(one for one in found.neurons if one is not strongest)
    for spoilt in (replace(strongest, rank=400), replace(strongest, found=-strongest.found)):
        assert not replace(found, neurons=(spoilt, *rest)).ok
    off = replace(strongest, found=strongest.found - 2e-4 * (1 if strongest.found > 0 else -1))
    assert not replace(found, neurons=(off, *rest)).ok


def test_calibration_holds_and_the_wrong_null_does_not() -> None:
    rows, grouped, both, wrong = calibrate(sn.load_registry(), runs=60, n=300, permutations=99)
    assert rows.ok and grouped.ok and both.ok and rows.runs == 60
    assert wrong.rate > 0.5 and not wrong.must_hold
    text = report([], [rows, wrong])
    assert (
        text.startswith("ok: labels of single examples, rows permuted: ")
        and "\nfor comparison: labels shared by" in text
    )


@pytest.mark.parametrize("permutations", [0, 18])
def test_too_few_permutations_are_refused_before_anything_runs(permutations: int) -> None:
    with pytest.raises(sn.UserError, match=f"at least 19 permutations, got {permutations}"):
        recover("pocket", load_registry(), permutations=permutations)


def test_more_planted_neurons_than_a_layer_has_are_spread_or_refused() -> None:
    plant = plant_strengths(3, 8, [0.5, 0.7, 0.9], seed=0)
    assert len(set(plant.neurons)) == 6
    with pytest.raises(sn.UserError, match="18 neurons cannot be planted into 2 layers of 8"):
        plant_strengths(2, 8, np.linspace(0.1, 0.9, 9).tolist())


def test_a_wrong_rate_is_called_failed() -> None:
    calibration = Calibration("labels", 200, 30, 0.10, 0.21, 10 / 201)
    assert not calibration.ok
    assert report([], [calibration]) == (
        "FAILED: labels: 30 of 200 runs pass the threshold, 15.0 % (10.0 to 21.0 %), 5.0 % is right"
    )


def test_the_command_prints_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "-m", "random GPT-2", "-n", "200", "--permutations", "19", "--runs", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("random GPT-2: 200 examples, 768 neurons, 18 planted; chance reaches |r| = ")
    assert "\nok: " in out and "false positives: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "20"], "selftest needs at least 100 examples to tell planted neurons from chance, got 20"),
        (["-m", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", *arguments]) == 2
    assert message in capsys.readouterr().err
