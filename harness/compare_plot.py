"""The differences of two models as one figure for a paper: ``skillneurons compare DIR A B --plot FILE``.

A row for every task of accuracy and for every column of held-out r: A - B with its 95 % interval, coloured where it is
beyond noise. What has no difference, or is the same for both by what it describes, has no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skillneurons.atomic import write_atomic
from skillneurons.comparison import Comparison, Pair
from skillneurons.density import COLOURS
from skillneurons.errors import UserError
from skillneurons.figures import FORMATS, GREY, WIDTH, CannotDrawError, figure_bytes, number, paper, plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN = {"accuracy": "accuracy", "heldout_top10_r": "held-out r"}
MOST = 400  # rows: more make a page that no paper has room for


@dataclass(frozen=True)
class DifferenceRow:
    """One difference A - B with its interval, which may be missing, and whether it is beyond noise."""

    name: str
    difference: float
    low: float | None
    high: float | None
    beyond: bool


def checked_plot(file: str, models: Sequence[str]) -> Path:
    """Return where to draw two models; raise UserError for another number of them and for a file of another kind."""
    path = Path(file)
    if path.suffix[1:] not in FORMATS:
        raise UserError(f"--plot {file}: a figure is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; end its name so")
    if len(models) != 2:
        raise UserError(f"--plot draws two models, not {len(models)} ({', '.join(models)}); name two")
    return path


def plot_comparison(found: Comparison, path: Path) -> None:
    """Draw the differences of two models into a file; raise UserError where there is nothing to draw or to write."""
    checked_plot(str(path), found.models)
    write_atomic(path, figure_bytes(comparison_figure(found), path.suffix[1:]))


def comparison_figure(found: Comparison) -> Figure:
    """Return the figure of the first pair; raise CannotDrawError where it has no rows, or too many."""
    pair = found.pairs[0]
    panels = [(label, rows) for figure, label in DRAWN.items() if (rows := _rows(pair, figure))]
    n = sum(len(rows) for _, rows in panels)
    if not n:
        raise CannotDrawError(f"{pair.a} and {pair.b} have no difference of accuracy or held-out r to draw")
    if n > MOST:
        raise CannotDrawError(f"{n} rows are more than the {MOST} that can be drawn; choose some with -t and -M")
    return differences(panels, pair.a, pair.b)


def _rows(pair: Pair, figure: str) -> list[DifferenceRow]:
    rows = []
    for row in pair.of(figure):
        one = row.difference
        if one.difference is not None and not one.same:
            name = " ".join(part for part in (row.task, row.column, row.setting and f"({row.setting})") if part)
            rows.append(DifferenceRow(name, one.difference, one.low, one.high, one.beyond_noise))
    return rows


def differences(panels: Sequence[tuple[str, Sequence[DifferenceRow]]], a: str, b: str) -> Figure:
    """Draw what A has more than B, a panel (quantity, rows) above the other, a row for each difference."""
    sizes = [len(rows) for _, rows in panels]
    with paper(2 * WIDTH, 0.6 + 0.55 * len(panels) + 0.15 * sum(sizes)) as figure:
        drawn = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[size + 1 for size in sizes])[:, 0]
        for axes, (quantity, rows) in zip(drawn, panels, strict=True):
            _difference_panel(axes, rows, a, b)
            axes.set(xlabel=plain(f"{quantity}: {a} - {b}"), ylim=(len(rows) - 0.4, -0.6))
            axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
        handles: dict[str, Artist] = {}
        for axes in drawn:
            handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        shown = [label for label in _kinds(a, b) if label in handles]
        figure.legend([handles[label] for label in shown], shown, loc="outside upper center", ncols=2, fontsize=7)
        return figure


def _kinds(a: str, b: str) -> dict[str, tuple[str, str]]:
    """Return the colours, of line and dot, of each kind of row."""
    return {
        plain(f"{a} higher"): (COLOURS[0], COLOURS[0]),
        plain(f"{b} higher"): (COLOURS[1], COLOURS[1]),
        "within noise": (GREY, GREY),
        "no interval": (GREY, "white"),
    }


def _kind(row: DifferenceRow) -> int:
    if row.low is None or row.high is None:
        return 3
    return 2 if not row.beyond else int(row.difference < 0)


def _difference_panel(axes: Axes, rows: Sequence[DifferenceRow], a: str, b: str) -> None:
    """Draw the rows of one quantity, those of one kind in one colour."""
    axes.axvline(0, color="black", linewidth=0.5)
    for kind, (label, (colour, fill)) in enumerate(_kinds(a, b).items()):
        places = [i for i, row in enumerate(rows) if _kind(row) == kind]
        if places:
            r = [rows[i].difference for i in places]
            below = [max(rows[i].difference - number(rows[i].low), 0.0) for i in places]
            above = [max(number(rows[i].high) - rows[i].difference, 0.0) for i in places]
            axes.errorbar(r, places, xerr=None if kind == 3 else [below, above], fmt="o", color=colour,
                          markerfacecolor=fill, markersize=3, elinewidth=1, label=label)  # fmt: skip
