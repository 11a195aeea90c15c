"""Models beside each other from their cells: differences, corrections, ranges of ranks, and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from model_pairs import cell, column, save
from scipy import stats
from skillneurons.leaderboard.board import build_board, render
from skillneurons.leaderboard.differences import Difference, heldout_differences, holm
from skillneurons.leaderboard.models import identity, model_labels
from skillneurons.leaderboard.ranks import Place, Standings, joined, ranked, standings_bytes
from skillneurons.results import Result

A, B, C = (identity(cell(name)) for name in "abc")
RNG = np.random.default_rng(0)
DRAWS = RNG.normal(0.0, 0.01, 1000)


def model(name: str, value: float, *, draws: np.ndarray = DRAWS, seed: int = 0) -> Result:
    return cell(name, seed=seed, columns={"sure": column(value, value + draws)})


def difference(a: Sequence[Result], b: Sequence[Result]) -> Difference:
    cells = {A: {one.seed: one for one in a}, B: {one.seed: one for one in b}}
    return heldout_differences(cells, "sure", [(A, B)])[0]


def standings(cells: Sequence[Result]) -> Standings:
    """Return the standings as the board has them: task and metric by themselves, then joined."""
    labels = model_labels(cells)
    skills: dict[tuple[str, str], list[Result]] = {}
    for one in cells:
        skills.setdefault((one.task["name"], one.metric["name"]), []).append(one)
    return joined(tuple(labels.values()), [standings_bytes(part, labels) for _, part in sorted(skills.items())])


def places(found: Standings) -> list[tuple[str, float | None, str]]:
    (one,) = found.standings
    return [(place.model, place.value and round(place.value, 6), place.ranks) for place in one.places]


def test_the_difference_is_paired_resample_by_resample() -> None:
    own = RNG.normal(0.02, 0.01, 1000)
    found = difference([model("a", 0.6)], [cell("b", columns={"sure": column(0.58, 0.6 + DRAWS - own)})])
    assert found.difference == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(own, [0.025, 0.975])), abs=2e-4)
    assert found.p == found.p_counted == pytest.approx(2 * (1 + (own <= 0).sum()) / 1001, abs=0.003)
    assert (found.n, found.seeds, found.reason, found.p_holm) == (20, (0,), "", None)


def test_seeds_are_averaged_over_those_that_both_have() -> None:
    ours = [model("a", 0.6), model("a", 0.5, draws=-DRAWS, seed=1), model("a", 0.9, seed=2)]
    theirs = [model("b", 0.3), model("b", 0.4, seed=1)]
    found = difference(ours, theirs)
    expected = ((0.6 + DRAWS + 0.5 - DRAWS) - (0.3 + DRAWS + 0.4 + DRAWS)) / 2
    assert (found.seeds, found.a, found.b) == ((0, 1), pytest.approx(0.55), pytest.approx(0.35))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])), abs=2e-4)


def p_of(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Return (counted, p) of two models whose resamples differ by these whole multiples of 1e-4."""
    ours = [0.5 + 1e-4 * d for d in differences]
    found = difference(
        [cell("a", columns={"sure": column(0.5, ours)})],
        [cell("b", columns={"sure": column(0.5, [0.5] * len(differences))})],
    )
    return found.p_counted, found.p


def test_p_by_hand() -> None:
    assert p_of([-1, 1, 2, 3, 4]) == (2 * 2 / 6, 2 * 2 / 6)
    assert p_of([0] * 5) == (1.0, 1.0)
    assert p_of([2] * 5) == (2 / 6, 2 / 6)  # no spread, no tail
    counted, p = p_of([9, 10, 11, 10, 10])
    assert counted == 2 / 6 and p == pytest.approx(2 * stats.norm.sf(10 / math.sqrt(0.5)))


def test_holm_by_hand_and_in_any_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (model("b", 0.5, seed=3), "no prompt seed in common: 0 and 3; run both with the same --seed"),
        (cell("b", columns={"sure": column(0.5)}), "no resamples were stored: attribution.bootstrap was 0"),
        (
            cell("b", columns={"sure": column(0.5, interval_reason="4 groups on heldout")}),
            "4 groups on heldout",
        ),
        (
            cell("b", columns={"sure": column(0.5, DRAWS, resampled_groups="h")}),
            "the models were scored on different groups, so they share no resamples",
        ),
        (
            cell("b", columns={"sure": column(0.5, DRAWS, resampled_groups=None)}),
            "a cell does not say which groups its resamples were drawn from; run it again into another folder",
        ),
        (
            cell("b", columns={"sure": column(0.5, DRAWS[:9])}),
            "the cells store different numbers of resamples: one of them was changed by hand",
        ),
        (
            cell("b", columns={"sure": {**column(0.5, DRAWS), "resamples": "1 2 three"}}),
            "the stored resamples are not whole numbers: a cell was changed by hand",
        ),
        (
            cell("b", columns={"sure": column(0.5, [math.nan] * 100 + [0.5] * 900)}),
            "undefined on more than 5 % of the resamples: too few groups have the value",
        ),
        (
            cell("b", columns={"sure": column(None, status="degenerate", reason="constant on discovery")}),
            "B: constant on discovery",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(theirs: Result, reason: str) -> None:
    found = difference([model("a", 0.6)], [theirs])
    assert (found.reason, found.p, found.verdict) == (reason, None, "not compared")


def test_what_is_within_noise_and_what_is_beyond() -> None:
    own = RNG.normal(0.0, 0.01, 1000)
    cells = [model("a", 0.6), model("b", 0.5), cell("c", columns={"sure": column(0.501, 0.5 + own)})]
    (one,) = standings(cells).standings
    assert [(place.model, place.ranks, place.ties) for place in one.places] == [
        ("a", "1", ()),
        ("c", "2-3", ("b",)),
        ("b", "2-3", ("c",)),
    ]


def test_ties_need_not_be_transitive() -> None:
    sure = {"low": 0.1, "high": 0.2, "p": 0.01, "p_holm": 0.02}
    noise = {"low": -0.1, "high": 0.2, "p": 0.5, "p_holm": 1.0}
    compared = {(A, B): Difference(0.05, **noise), (A, C): Difference(0.1, **sure), (B, C): Difference(0.05, **noise)}
    places = ranked({A: 0.6, B: 0.55, C: 0.5}, compared, {A: "a", B: "b", C: "c"})
    assert [(one.model, one.ranks, one.ties) for one in places] == [
        ("a", "1-2", ("b",)),
        ("b", "1-3", ("a", "c")),
        ("c", "2-3", ("b",)),
    ]


def test_resamples_of_unknown_groups_are_not_paired_on_both_sides_either() -> None:
    one, other = (cell(name, columns={"sure": column(0.5, DRAWS, resampled_groups=None)}) for name in "ab")
    found = difference([one], [other])
    assert (found.p, found.verdict) == (None, "not compared") and found.reason.startswith("a cell does not say which")


def test_values_and_ranks_are_of_the_seeds_that_all_models_have() -> None:
    found = standings([model("a", 0.5), model("a", 0.9, seed=1), model("b", 0.6)])
    assert places(found) == [("b", 0.6, "1"), ("a", 0.5, "2")]  # the mean over both seeds of a is 0.7
    assert found.left_out == ("sums sure: seed 1 of a left out: not every model has it",)
    assert found.refused == ()


def test_a_seed_without_an_r_is_left_out_for_every_model() -> None:
    none = cell("b", seed=1, columns={"sure": column(None, status="degenerate", reason="constant on discovery")})
    found = standings([model("a", 0.5), model("a", 0.9, seed=1), model("b", 0.6), none])
    assert places(found) == [("b", 0.6, "1"), ("a", 0.5, "2")]
    assert found.left_out == ("sums sure: seed 1 of a left out: not every model has it",)


def test_without_a_common_seed_there_are_values_and_no_ranks(tmp_path: Path) -> None:
    cells = [model("a", 0.5), model("a", 0.9, seed=1), model("b", 0.6), model("c", 0.4, seed=1)]
    found = standings(cells)
    assert places(found) == [("a", 0.7, ""), ("b", 0.6, ""), ("c", 0.4, "")]
    assert {place.reason for place in found.standings[0].places} == {"no prompt seed that every model has"}
    assert found.refused == ("sums sure: no prompt seed in common: a 0, 1; b 0; c 1; run them with the same --seed",)
    page = render(build_board([save(tmp_path, cells)]), "md").decode()
    assert "| sums | sure | 0.700 | 0.600 | 0.400 | not compared |" in page
    assert f"Not set beside each other:\n\n- {found.refused[0]}\n" in page


def test_the_page_says_which_seeds_are_left_out(tmp_path: Path) -> None:
    folder = save(tmp_path, [model("a", 0.5), model("a", 0.9, seed=1), model("b", 0.6)])
    page = render(build_board([folder]), "md").decode()
    assert "| sums | sure | 0.500 (2) | 0.600 (1) | 1 of 1 |" in page
    told = "Left out, so that the models of a row have the same prompt seeds:"
    assert f"{told}\n\n- sums sure: seed 1 of a left out: not every model has it\n" in page


def test_one_column_of_several_is_named_where_seeds_are_left_out_of_it() -> None:
    def both(name: str, seed: int, r: float | None) -> Result:
        return cell(name, seed=seed, columns={"sure": column(0.5, 0.5 + DRAWS), "odd": column(r, 0.4 + DRAWS)})

    found = standings([both("a", 0, 0.4), both("a", 1, 0.4), both("b", 0, 0.4), both("b", 1, None)])
    assert found.left_out == ("sums odd: seed 1 of a left out: not every model has it",)


def test_places_without_a_value_come_last_with_their_own_reason() -> None:
    why = {C: "passes/ are not here"}
    found = ranked({A: -7.0, B: -3.0, C: None}, {(A, B): Difference()}, {A: "a", B: "b", C: "c"}, why)
    assert [one.model for one in found] == ["b", "a", "c"]  # log-probabilities lie below -1
    assert found[2] == Place("c", None, reason="passes/ are not here")


def test_one_reason_for_several_models_is_said_once() -> None:
    compared = {pair: Difference(0.1, reason="no resamples") for pair in ((A, B), (A, C), (B, C))}
    found = ranked({A: 0.5, B: 0.4, C: 0.3}, compared, {A: "a", B: "b", C: "c"})
    assert [one.reason for one in found] == [
        "not compared with b, c: no resamples",
        "not compared with a, c: no resamples",
        "not compared with a, b: no resamples",
    ]


def test_an_interval_or_a_p_alone_is_not_enough() -> None:
    assert not Difference(0.1, low=0.05, high=0.2, p=0.04, p_holm=0.08).beyond_noise
    assert not Difference(0.1, low=-0.01, high=0.2, p=0.01, p_holm=0.02).beyond_noise
    assert Difference(-0.1, low=-0.2, high=-0.01, p=0.01, p_holm=0.05).verdict == "B higher"


def test_the_board_says_once_what_one_model_alone_has() -> None:
    others = [cell("a", key=name, task={**cell().task, "name": name}) for name in ("hans", "skillmix")]
    found = standings([model("a", 0.6), model("b", 0.5), *others])
    assert found.refused == ("hans sure, skillmix sure: finished by a alone",)


def test_the_page_has_the_section_only_for_several_models(tmp_path: Path) -> None:
    alone = save(tmp_path / "alone", [model("a", 0.6)])
    assert b"beside each other" not in render(build_board([alone]), "md")
    both = save(
        tmp_path / "both", [model("a", 0.6), model("b", 0.5), cell("<b>", key="x", columns={"sure": column(None)})]
    )
    page = render(build_board([both]), "md").decode()
    start = page.index("## Models beside each other")
    lines = page[start : page.index("## &lt;b> (r1)")].splitlines()
    assert lines[9:] == [
        "| task | column | &lt;b> | a | b | pairs beyond noise |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        "| sums | sure |  | 0.600 (1) | 0.500 (2) | 1 of 1 |",
        "",
        "Not ranked:",
        "",
        "- &lt;b>: no held-out r; the table of the model says why (sums sure)",
        "",
    ]


def test_the_order_of_cells_does_not_show() -> None:
    cells = [model(name, value, seed=seed) for name, value in (("a", 0.6), ("b", 0.5), ("c", 0.4)) for seed in (0, 1)]
    assert standings(cells) == standings(cells[::-1])


def test_models_without_a_difference_are_told_apart_in_five_of_a_hundred() -> None:
    rng = np.random.default_rng(5)
    higher = 0
    for _ in range(300):  # 60 groups; a figure of each model per group; r's resamples are means over drawn groups
        figures = rng.normal(0.5, 0.1, (2, 60))
        drawn = rng.integers(0, 60, (400, 60))
        ours, theirs = (row[drawn].mean(axis=1) for row in figures)
        cells = {A: {0: cell("a", columns={"sure": column(figures[0].mean(), ours)})}}
        cells[B] = {0: cell("b", columns={"sure": column(figures[1].mean(), theirs)})}
        (found,) = heldout_differences(cells, "sure", [(A, B)])
        higher += found.p is not None and found.p <= 0.05
    assert stats.binomtest(higher, 300, 0.05).pvalue > 0.01, higher
