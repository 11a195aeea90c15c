"""What a notebook sees: one tidy table of results, and objects that show themselves, escaped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skillneurons as sn
from model_pairs import cell, column, save
from skillneurons.attribution import Attribution
from skillneurons.density import density_by_value
from skillneurons.errors import ResultsError, UserError
from skillneurons.html_table import table_html
from skillneurons.neuron_view import NeuronCard
from skillneurons.results_frame import DTYPES

SCRIPT = "<script>alert(1)</script>"


def test_one_row_per_cell_and_column(tmp_path: Path) -> None:
    causal = {"columns": {"sure": {"ablation_drop": 0.25, "verdict": "cause"}}}
    save(
        tmp_path,
        [
            cell(
                "b", columns={"sure": column(0.5, n_fwer=3), "flat": column(None, status="degenerate", reason="flat")}
            ),
            cell("a", seed=1, causal=causal),
            cell("a", key="bad", status="failed", error={"message": "out of memory"}, columns={}),
        ],
    )
    found = sn.load_results(tmp_path)
    assert list(found["key"]) == ["bad", "sums-sure-s0-b", "sums-sure-s0-b", "sums-sure-s1-a"]
    assert list(found.columns) == list(DTYPES) and len(found) == 4
    assert {name: str(kind) for name, kind in found.dtypes.items()} == dict(DTYPES)
    failed, sure, flat, last = (row for _, row in found.iterrows())
    assert (failed["status"], failed["reason"]) == ("failed", "out of memory") and pd.isna(failed["column"])
    assert (sure["heldout_top10_r"], sure["n_fwer"], sure["accuracy_tuned"]) == (0.5, 3, 0.75)
    assert flat["status"] == "degenerate" and np.isnan(flat["heldout_top10_r"]) and pd.isna(flat["n_fwer"])
    assert (last["seed"], last["ablation_drop"], last["causal_verdict"]) == (1, 0.25, "cause")
    assert found.groupby(["model", "column"])["heldout_top10_r"].mean()["a", "sure"] == 0.5


def test_no_cells_give_an_empty_table_with_all_columns(tmp_path: Path) -> None:
    found = sn.load_results(save(tmp_path, []))
    assert found.empty and {name: str(kind) for name, kind in found.dtypes.items()} == dict(DTYPES)


def test_several_folders_are_one_table(tmp_path: Path) -> None:
    one, two = save(tmp_path / "1", [cell("a")]), save(tmp_path / "2", [cell("a"), cell("b")])
    assert list(sn.load_results(one, two)["model"]) == ["a", "b"]
    save(tmp_path / "2", [cell("a", n_neurons=1)])
    with pytest.raises(ResultsError) as error:
        sn.load_results(one, two)
    path = two / "cells" / "sums-sure-s0-a.json"
    assert str(error.value) == f"{path}: another folder holds this key with different content; keep one of them"


def test_damaged_cells_warn_or_raise(tmp_path: Path) -> None:
    save(tmp_path, [cell("a")])
    path = tmp_path / "cells" / "half.json"
    path.write_text(json.dumps({"schema_version": 9}))
    reason = "schema_version 9 is not 1: it was written by another version of skillneurons"
    with pytest.warns(UserWarning) as told:
        assert len(sn.load_results(tmp_path)) == 1
    assert str(told[0].message) == f"1 damaged cell left out: {path}: {reason}" and told[0].filename == __file__
    with pytest.raises(ResultsError) as error:
        sn.load_results(tmp_path, damaged="raise")
    assert str(error.value) == f"1 damaged cell: {path}: {reason}; delete the file and run again"
    with pytest.raises(UserError, match="^damaged='no': use 'warn' or 'raise'$"):
        sn.load_results(tmp_path, damaged="no")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as error:
        sn.load_results(tmp_path / "no")
    place = tmp_path / "no"
    assert str(error.value) == (
        f"cannot read results from {place}: no such folder; run `skillneurons run -o {place}` first"
    )
    with pytest.raises(UserError, match=r"^load_results needs a runs folder, as in load_results\('runs'\)$"):
        sn.load_results()


def test_a_result_shows_itself() -> None:
    one = cell("a", columns={SCRIPT: column(0.5, [0.1] * 5, n_fwer=7)})
    assert repr(one) == "<Result sums-sure-s0-a: ok, a, sums v1, sure, seed 0; 1 columns>"
    shown = one._repr_html_()
    assert SCRIPT not in shown and "&lt;script&gt;" in shown
    assert '<td style="text-align:right">0.500</td>' in shown and '<td style="text-align:right">7</td>' in shown
    failed = cell("a", status="failed", error={"message": SCRIPT}, columns={})
    assert "<p>failed: &lt;script&gt;alert(1)&lt;/script&gt;</p>" in failed._repr_html_()


def test_an_attribution_shows_its_strongest_neurons() -> None:
    scores = {"sure": np.array([[0.1, -0.6], [0.2, np.nan]], np.float32), SCRIPT: np.full((2, 2), np.nan, np.float32)}
    one = Attribution(scores=scores, heldout={"sure": scores["sure"] / 2, SCRIPT: scores[SCRIPT]}, splits={})
    assert repr(one) == f"<Attribution of 2 x 2 neurons: sure, {SCRIPT}>"
    shown = one._repr_html_()
    assert "L00.N0001" in shown and "-0.600" in shown and "-0.300" in shown and "none: nothing varies" in shown
    assert SCRIPT not in shown
    assert "no columns" in repr(Attribution({}, {}, {})) and "<table>" in Attribution({}, {}, {})._repr_html_()


def test_a_card_shows_text_and_densities() -> None:
    density = density_by_value(np.arange(20.0), np.repeat([0.0, 1.0], 10))
    one = NeuronCard("key", "L00.N0001", ("L00.N0001:", f"  sure: r +0.500 {SCRIPT}"), ((SCRIPT, density),))
    assert repr(one) == f"key\nL00.N0001:\n  sure: r +0.500 {SCRIPT}"
    shown = one._repr_html_()
    assert SCRIPT not in shown and shown.count("<svg") == 1 and "sure: r +0.500 &lt;script&gt;" in shown


def test_a_table_is_escaped_and_rounded() -> None:
    assert table_html("<a>", ["&"], [[1], [0.12345], [None], [float("nan")], ["<b>"]], ["<c>"]) == (
        '<div class="skillneurons"><table><caption style="text-align:left">&lt;a&gt;</caption><thead><tr><th>&amp;</th></tr>'
        '</thead><tbody><tr><td style="text-align:right">1</td></tr><tr><td style="text-align:right">0.123</td></tr>'
        '<tr><td style="text-align:right"></td></tr><tr><td style="text-align:right"></td></tr>'
        '<tr><td style="text-align:left">&lt;b&gt;</td></tr></tbody></table><p>&lt;c&gt;</p></div>'
    )
