"""Figures for a paper: what they show is what the cell says, the same bytes again, and a reason for each that is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save
from skillneurons import UserError, figures
from skillneurons.cli import main
from skillneurons.density import density_by_value
from skillneurons.plot import FIGURES, CannotDrawError, plot_cell
from synthetic_cells import synthetic_cell

COMMITTED = Path(__file__).parent.parent / "leaderboard" / "pocket"
STEERED = {
    **{"alphas": [-4.0, 0.0, 4.0], "metric": [0.2, 0.5, 0.8], "log_prob": [-1.0, -0.5, -0.7], "followed": "metric"},
    **{"accuracy": [0.5, 0.8, 0.6], "neutral_loss": [2.0, 1.0, 2.5], "trend": "rising"},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a run folder of three seeds of one cell with a pass and a steering curve."""
    folder = tmp_path / "runs"
    (folder / "cells").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        cell = synthetic_cell(index)
        (column,) = cell["columns"]
        cell["causal"]["columns"][column]["steering"] = STEERED
        best = cell["columns"][column]["top"][0]
        place = folder / "passes" / cell["pass"]
        place.mkdir(parents=True)
        scores = rng.normal(0, 0.1, (4, 640)).astype(np.float32)
        rows = rng.normal(size=(60, 1)).astype(np.float32)
        kept = {f"{column}/neurons": np.array([[best["layer"], best["neuron"]]]), f"{column}/heldout": rows}
        for name, arrays in (("scores", {column: scores}), ("heldout", {column: scores}), ("neurons", kept)):
            (place / f"{name}.safetensors").write_bytes(save(arrays))
        table = pd.DataFrame({"split": ["discovery"] * 9 + ["heldout"] * 60, column: [0.0, 1.0, 1.0] * 23})
        table.to_parquet(place / "examples.parquet")
        (folder / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))
    return folder


KEY = synthetic_cell(0)["key"]
START = {"pdf": b"%PDF-", "png": b"\x89PNG", "svg": b"<?xml"}


def test_every_figure_in_every_format_and_the_same_bytes_again(runs: Path, tmp_path: Path) -> None:
    done = plot_cell(runs, KEY, formats=["pdf", "png", "svg"])
    assert done.missing == [] and len(done.paths) == 18
    assert {path.name for path in done.paths} == {
        f"{KEY}.metric00.value.{figure}.{form}" for figure in FIGURES for form in figures.FORMATS
    }
    for path in done.paths:
        data = path.read_bytes()
        assert path.parent == runs / "plots" and data.startswith(START[path.suffix[1:]]) and len(data) > 2000
        assert b"/CreationDate" not in data and b"dc:date" not in data
    code = f"from skillneurons.cli import main; main(['plot', {str(runs)!r}, {KEY!r}, '-o', {str(tmp_path / 'b')!r}"
    code += ", '--format', 'pdf', '--format', 'png', '--format', 'svg'])"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for path in done.paths:
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name
    svg = (runs / "plots" / f"{KEY}.metric00.value.histogram.svg").read_text()
    assert "chance 0.150" in svg, "text of an SVG stays text"


def test_figures_show_what_the_cell_says() -> None:
    cell = synthetic_cell(0)
    (column,) = cell["columns"]
    doses = cell["causal"]["columns"][column]["doses"]
    shown = figures.doses(doses).axes
    assert [axes.get_ylabel() for axes in shown] == ["column moved (sd)", "log p lost (nats)", "accuracy lost"]
    for axes in shown:
        random, effect = (line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o")
        assert list(effect.get_xdata()) == [10, 50] and list(effect.get_ydata()) == [0.01, 0.01]
        assert list(random.get_ydata()) == [0.004, 0.004]
        (band,) = axes.collections
        assert band.get_paths()[0].get_extents().y0 == pytest.approx(0.0, abs=1e-12)
        assert band.get_paths()[0].get_extents().y1 == pytest.approx(0.008)
    above, below = figures.steering(STEERED, "x $a_b$").axes
    assert [list(line.get_ydata()) for line in above.get_lines()] == [[0.2, 0.5, 0.8], [0.5, 0.8, 0.6]]
    assert list(below.get_lines()[0].get_ydata()) == [2.0, 1.0, 2.5]
    assert above.get_lines()[0].get_label() == r"x \$a_b\$"
    (axes,) = figures.seeds([(0, cell["columns"][column]), (3, {"heldout_top10_r": 0.5, "null95_r": None})]).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["seed 0", "seed 3"]
    points = [float(one[0].get_ydata()[0]) for one in axes.containers]
    assert points == pytest.approx([cell["columns"][column]["heldout_top10_r"], 0.5])


def test_histogram_map_and_density_count_every_neuron_and_example() -> None:
    scores = np.zeros((2, 50), dtype=np.float32)
    scores[1, 7], scores[0, 0] = -0.6, np.nan
    (axes,) = figures.histogram(scores, 0.3).axes
    assert sum(patch.get_height() for patch in axes.patches) == 99
    assert sorted(float(line.get_xdata()[0]) for line in axes.get_lines()) == [-0.3, 0.3]
    axes, bar = figures.layer_map([[0.1, None], [-0.6, 0.0]], 25, 50).axes
    drawn = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    assert np.array_equal(drawn, [[0.1, np.nan], [-0.6, 0.0]], equal_nan=True)
    assert axes.get_images()[0].get_clim() == (-0.6, 0.6) and bar.get_ylabel() == "r"
    found = density_by_value(np.array([0.0, 1.0, 2.0, 3.0, 4.0] * 2), np.array([0.0] * 5 + [1.0] * 5))
    (axes,) = figures.density(found, "activation").axes
    assert [float(max(line.get_ydata())) for line in axes.get_lines()] == [1.0, 1.0]


def test_committed_cells_draw_what_they_have_and_say_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, runs = tmp_path / "out", tmp_path / "runs"
    shutil.copytree(COMMITTED / "cells", runs / "cells")  # without passes/
    key = min(COMMITTED.glob("cells/arithmetic-confidence-s0-*.json")).stem
    assert main(["plot", str(runs), key, "-o", str(out), "--format", "svg"]) == 0
    place = runs / "passes" / key
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"skillneurons: no histogram: the scores of every neuron are not kept (no {place})",
        f"skillneurons: no map: the scores of every neuron are not kept (no {place})",
        f"skillneurons: no density: activations are not kept (no {place})",
    ]
    assert told.out.splitlines() == [
        str(out / f"{key}.confidence.p_target.{f}.svg") for f in ("doses", "steering", "seeds")
    ]
    assert (out / f"{key}.confidence.p_target.seeds.svg").read_text().count(">seed ") == 3


def test_the_committed_scores_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = min(COMMITTED.glob("cells/arithmetic-confidence-s0-*.json")).stem
    assert main(["plot", str(COMMITTED), key, "-o", str(tmp_path), "--format", "svg"]) == 0
    told = capsys.readouterr()
    assert "no density: the activations of" in told.err and len(told.err.splitlines()) == 1
    assert [path.rsplit(".", 2)[1] for path in told.out.split()] == ["histogram", "map", "doses", "steering", "seeds"]


def test_doses_without_an_outcome_in_common_are_refused() -> None:
    doses = [{"k": 10, "outcomes": {"moved": {}}}, {"k": 50, "outcomes": {"accuracy": {}}}]
    with pytest.raises(CannotDrawError) as caught:
        figures.doses(doses)
    assert str(caught.value) == "no outcome was measured at every K (moved at K = 10; accuracy at K = 50)"


def edit(runs: Path, **changes: Any) -> None:
    path = runs / "cells" / f"{KEY}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_cannot_be_drawn_is_refused_with_its_reason(runs: Path, tmp_path: Path) -> None:
    def refused(**options: Any) -> str:
        with pytest.raises(UserError) as caught:
            plot_cell(runs, KEY, out=tmp_path / "none", **options)
        assert not (tmp_path / "none").exists()
        return str(caught.value)

    assert refused(figures=["histogramm"]) == (
        "no figure named 'histogramm'; did you mean 'histogram'? known: density, doses, histogram, map, seeds, steering"
    )
    assert refused(formats=["jpg"]) == "no format named 'jpg'; did you mean 'png'? known: pdf, png, svg"
    assert refused(column="valu").startswith("no column named 'metric00.valu'; did you mean 'metric00.value'?")
    assert refused(figures=["density"], neuron="L00.N0001") == (
        f"no density of metric00.value of {KEY}: the activations of L00.N0001 were not kept"
    )
    assert refused(neuron="x", figures=["density"]) == "'x' is no neuron; write layer and neuron as in L03.N0127"
    edit(runs, causal={"error": "it broke off", "columns": {}})
    assert refused(figures=["doses"]) == f"no doses of metric00.value of {KEY}: it broke off"
    columns = json.loads((runs / "cells" / f"{KEY}.json").read_text())["columns"]
    columns["metric00.value"] |= {"status": "degenerate", "reason": "constant on discovery"}
    edit(runs, columns=columns)
    assert refused() == f"no column of {KEY} has neurons: metric00.value is degenerate"
    assert refused(column="value") == f"metric00.value of {KEY} is degenerate: constant on discovery"
    edit(runs, status="failed", error={"type": "X", "message": "out of memory"}, columns={})
    assert refused() == f"{KEY} failed, so there is nothing to draw: out of memory"


def test_a_column_name_is_no_path(runs: Path, tmp_path: Path) -> None:
    cell = json.loads((runs / "cells" / f"{KEY}.json").read_text())
    name = "metric00.../../<a> b"
    edit(runs, columns={name: cell["columns"]["metric00.value"]}, causal=None)
    done = plot_cell(runs, KEY, figures=["seeds"], out=tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in done.paths] == [
        f"{KEY}.metric00..._.._a_b.seeds.pdf"
    ]


def test_a_place_that_cannot_be_written_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["plot", str(runs), KEY, "-o", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: cannot write {tmp_path / 'file'}: file exists; give another folder with -o DIR\n"
    )


def test_plotting_needs_no_torch(runs: Path) -> None:
    code = f"import sys\nfrom skillneurons.cli import main\nmain(['plot', {str(runs)!r}, {KEY!r}])\nprint('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
