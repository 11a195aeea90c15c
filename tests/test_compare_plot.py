"""The figure of two compared models: what it shows, the same bytes again, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_pairs import cell, column, figure, folder, save
from skillneurons.cli import main
from skillneurons.compare import compare
from skillneurons.compare_plot import comparison_figure
from skillneurons.errors import UserError


def test_the_command_draws_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    command = ["compare", str(tmp_path), "a", "b", "--resamples", "200", "--plot"]
    for form, start in (("pdf", b"%PDF-"), ("png", b"\x89PNG"), ("svg", b"<?xml")):
        place = tmp_path / f"differences.{form}"
        assert main([*command, str(place)]) == 0
        first = place.read_bytes()
        assert first.startswith(start) and len(first) > 2000
        assert f"written: {place}" in capsys.readouterr().err
        assert main([*command, str(place)]) == 0
        assert place.read_bytes() == first
    assert all(
        f">{text}<" in first.decode() for text in ("a higher", "sums sure", "held-out r: a - b", "accuracy: a - b")
    )


def test_the_figure_shows_what_the_comparison_says(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "passes" / "sums-sure-s1-b" / "examples.parquet").unlink()  # so accuracy has no interval
    found = compare(tmp_path, ["a", "b"], n_resamples=200)
    above, below = comparison_figure(found).axes
    assert [text.get_text() for text in above.get_yticklabels()] == ["sums"]
    (point,) = above.containers
    assert point.get_label() == "no interval" and list(point[0].get_xdata()) == [0.0] and not point.has_xerr
    assert [text.get_text() for text in below.get_yticklabels()] == ["sums length", "sums sure"]
    drawn = {one.get_label(): one for one in below.containers}
    assert sorted(drawn) == ["a higher", "within noise"]
    r = figure(found, "heldout_top10_r", "sure")
    assert list(drawn["a higher"][0].get_xdata()) == [r.difference]
    ((ends,),) = [lines.get_segments() for lines in drawn["a higher"][2]]
    assert list(ends[:, 0]) == pytest.approx([r.low, r.high]) and list(ends[:, 1]) == [1, 1]
    assert drawn["a higher"][0].get_color() != drawn["within noise"][0].get_color()


@pytest.mark.parametrize(
    ("models", "file", "message"),
    [
        ("abc", "d.pdf", "--plot draws two models, not 3 (a, b, c); name two"),
        ("ab", "d.jpg", "--plot d.jpg: a figure is pdf, png or svg; end its name so"),
        ("ab", "no/d.pdf", "cannot write no/d.pdf: no such file or directory; give another folder with -o DIR"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    models: str,
    file: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path)
    assert main(["compare", ".", *models, "--resamples", "200", "--plot", file]) == 2
    assert capsys.readouterr().err == f"skillneurons: error: {message}\n"


def test_two_models_without_a_difference_have_no_figure(tmp_path: Path) -> None:
    none = {"sure": column(None, status="degenerate", reason="constant")}
    save(tmp_path, [cell(name, columns=none, accuracy={}) for name in "ab"])
    with pytest.raises(UserError, match="^a and b have no difference of accuracy or held-out r to draw$"):
        comparison_figure(compare(tmp_path, ["a", "b"], n_resamples=200))
