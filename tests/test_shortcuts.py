"""The shortcut report on neurons whose truth is known, and its figures against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skillneurons.shortcuts import shortcut_report, verdict_of


def data(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Half right; of the wrong ones a third has the last digit right, as the verification task gives them."""
    rng = np.random.default_rng(seed)
    wanted = np.repeat([1.0, 0.0], n // 2)
    rival = np.where(wanted == 1, 1.0, (np.arange(n) % 3 == 0).astype(float))
    order = rng.permutation(n)
    return wanted[order], rival[order], [f"g{i // 2}" for i in range(n)]


def report(a: np.ndarray, wanted: np.ndarray, rival: np.ndarray, groups: list[str], **changes: Any) -> dict[str, Any]:
    options = {"n_permutations": 99, "n_resamples": 300, "seed": 0, **changes}
    return shortcut_report(a, wanted, rival, groups, **options)


def test_verdicts_on_known_neurons() -> None:
    wanted, rival, groups = data()
    noise = np.random.default_rng(1).normal(size=(400, 4))
    a = 0.7 * noise
    a[:, 0] += 2 * rival  # reads the last digit alone
    a[:, 1] -= 2 * wanted  # knows the right number (and is low for it)
    a[:, 2] += wanted + 0.6 * rival  # both
    found = report(a, wanted, rival, groups)
    assert [row["verdict"] for row in found["neurons"]] == ["shortcut", "wanted", "undecided", "undecided"]
    assert found["verdicts"] == {"shortcut": 1, "wanted": 1, "undecided": 2} and found["reason"] == ""
    assert found["n_deciding"] == int(((rival == 1) & (wanted == 0)).sum())


def test_figures_are_numpys() -> None:
    wanted, rival, groups = data()
    a = np.random.default_rng(2).normal(size=(400, 1)) + rival[:, None] + 50
    row = report(a, wanted, rival, groups)["neurons"][0]
    x = a[:, 0]
    assert row["r_wanted"] == pytest.approx(np.corrcoef(x, wanted)[0, 1])
    assert row["r_rival"] == pytest.approx(np.corrcoef(x, rival)[0, 1])
    assert row["difference"] == pytest.approx(abs(row["r_rival"]) - abs(row["r_wanted"]))
    deciding, neither, both = (x[(rival == r) & (wanted == w)].mean() for r, w in ((1, 0), (0, 0), (1, 1)))
    assert row["level"] == pytest.approx((deciding - neither) / (both - neither))
    left = [y - np.polyval(np.polyfit(wanted, y, 1), wanted) for y in (x, rival)]
    assert row["partial_r"] == pytest.approx(np.corrcoef(*left)[0, 1])
    assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_p_is_small_for_a_rival_and_uniform_without_one() -> None:
    wanted, rival, groups = data()
    a = wanted[:, None] + np.random.default_rng(3).normal(size=(400, 60))
    found = report(np.concatenate([a, a[:, :1] + rival[:, None]], axis=1), wanted, rival, groups)["neurons"]
    assert found[-1]["p_partial"] == pytest.approx(0.01)
    small = sum(row["p_partial"] <= 0.05 for row in found[:-1])
    assert small <= 9  # of 60 neurons that hold nothing beyond the wanted; 3 are expected


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "shortcut"),
        ({"difference_low": -0.01}, "undecided"),
        ({"p_partial": 0.06}, "undecided"),
        ({"level_low": 0.4}, "undecided"),
        ({"level_low": np.nan}, "undecided"),
        ({"difference_low": -0.3, "difference_high": -0.1, "level_low": 0.1, "level_high": 0.4}, "wanted"),
        ({"difference_low": -0.3, "difference_high": -0.1, "level_low": 0.1, "level_high": 0.6}, "undecided"),
    ],
)
def test_a_verdict_only_where_the_interval_allows_one(changes: dict[str, float], verdict: str) -> None:
    row = {"difference_low": 0.1, "difference_high": 0.3, "p_partial": 0.01, "level_low": 0.6, "level_high": 0.9}
    assert verdict_of({**row, **changes}) == verdict


def test_what_cannot_be_decided_says_why() -> None:
    wanted, rival, groups = data()
    a = np.zeros((400, 1))
    assert report(a, wanted, wanted, groups)["reason"] == (
        "0 held-out examples of 0 groups where the rival holds and the wanted does not: at least 10 of 5 groups are needed"
    )
    assert report(a, wanted, rival * 2, groups)["reason"] == "the explanations are not of 0 and 1"
    assert report(a, wanted, rival, groups, n_resamples=0)["reason"].startswith("needs at least 19 permutations")
    assert report(a, wanted, rival, groups, n_permutations=18)["reason"] == (
        "needs at least 19 permutations and some bootstrap resamples (attribution.permutations, attribution.bootstrap), "
        "got 18 and 300"
    )
    two = [f"g{i % 2}" for i in range(400)]
    assert "of 2 groups where the rival holds" in report(a, wanted, rival, two)["reason"]


def test_a_neuron_that_is_constant_or_the_wanted_itself_has_no_partial_r() -> None:
    wanted, rival, groups = data()
    a = np.stack([np.full(400, 0.1), 3 * wanted + 7], axis=1)
    for row in report(a, wanted, rival, groups)["neurons"]:
        assert np.isnan(row["partial_r"]) and np.isnan(row["p_partial"]) and row["verdict"] != "shortcut"


def test_rows_without_either_column_are_left_out() -> None:
    wanted, rival, groups = data()
    a = np.random.default_rng(2).normal(size=(400, 1)) + rival[:, None]
    holes = wanted.copy()
    holes[::9] = np.nan
    used = ~np.isnan(holes)
    row = report(a, holes, rival, groups)["neurons"][0]
    assert row["r_rival"] == pytest.approx(np.corrcoef(a[used, 0], rival[used])[0, 1])
