"""Figures for a paper, drawn by matplotlib from plain data: one column wide, type that can be edited, no window.

Every function returns a ``matplotlib.figure.Figure``; nothing here reads or writes a file but ``figure_bytes``, whose
bytes depend on the figure alone (no date, no random id). Colours are Okabe and Ito's.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skillneurons.density import COLOURS, Density
from skillneurons.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")
WIDTH, HEIGHT = 3.4, 2.3  # inches: one column of a paper
GREY = "#777777"
OUTCOMES = {"moved": "column moved (sd)", "log_prob": "log p lost (nats)", "accuracy": "accuracy lost"}
_STYLE = {
    **{"font.size": 8, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.linewidth": 0.6, "lines.linewidth": 1.3, "lines.markersize": 4, "legend.frameon": False},
    **{
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "skillneurons",
        "figure.constrained_layout.use": True,
    },
}
_METADATA: Mapping[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": "skillneurons", "Producer": None},
    "svg": {"Date": None, "Creator": "skillneurons"},
    "png": {"Software": None},
}


class CannotDrawError(UserError):
    """A figure has no data; the message says why."""


@contextmanager
def paper(width: float = WIDTH, height: float = HEIGHT) -> Iterator[Figure]:
    """Give a figure in the style of all; matplotlib's own settings stay as they were."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def figure_bytes(figure: Figure, form: str) -> bytes:
    """Return a figure as ``pdf``, ``png`` (300 dots per inch) or ``svg``; the same figure gives the same bytes."""
    import matplotlib as mpl

    sink = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(sink, format=form, dpi=300, metadata=_METADATA[form])
    return sink.getvalue()


def histogram(scores: npt.NDArray[np.floating], null95: float | None) -> Figure:
    """Draw the r of all neurons (n_layers, d_ff) on discovery, and what the strongest reaches by chance."""
    import numpy as np

    known = scores[~np.isnan(scores)]
    end = max(float(np.abs(known).max()) if known.size else 0.0, null95 or 0.0, 0.05) * 1.04
    with paper() as figure:
        axes = figure.subplots()
        axes.hist(known, bins=64, range=(-end, end), color=COLOURS[0], log=True)
        if null95 is not None:
            for side in (-null95, null95):
                axes.axvline(side, color=COLOURS[1], linestyle="--", linewidth=1)
            axes.annotate(
                f"chance {null95:.3f}",
                (null95, 0.97),
                (3, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=COLOURS[1],
                va="top",
                fontsize=7,
            )
        axes.set(xlabel="r on discovery", ylabel="neurons", xlim=(-end, end))
        return figure


def layer_map(strongest: Sequence[Sequence[float | None]], width: int, d_ff: int) -> Figure:
    """Draw the strongest r of each bin of ``width`` neighbouring neurons, layer by layer."""
    import numpy as np

    values = np.array([[np.nan if r is None else r for r in row] for row in strongest], dtype=np.float64)
    end = max(float(np.nanmax(np.abs(values))) if not np.isnan(values).all() else 0.0, 0.01)
    n_layers = len(values)
    with paper(2 * WIDTH, min(1.1 + 0.12 * n_layers, 5.0)) as figure:
        axes = figure.subplots()
        image = axes.imshow(
            values, aspect="auto", cmap="RdBu", vmin=-end, vmax=end, interpolation="nearest",
            extent=(-0.5, width * values.shape[1] - 0.5, n_layers - 0.5, -0.5),
        )  # fmt: skip
        axes.set(xlabel="neuron", ylabel="layer", xlim=(-0.5, d_ff - 0.5))
        axes.set_yticks(range(0, n_layers, 1 if n_layers <= 12 else 4))
        figure.colorbar(image, ax=axes, label="r", pad=0.01)
        return figure


def doses(listed: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what ablating the K strongest does by each outcome, beside random sets (mean and two sd).

    Raise CannotDrawError where no outcome was measured at every K.
    """
    import numpy as np

    names = [name for name in OUTCOMES if all(name in dose["outcomes"] for dose in listed)]
    if not names:
        each = "; ".join(f"{', '.join(dose['outcomes']) or 'none'} at K = {dose['k']}" for dose in listed)
        raise CannotDrawError(f"no outcome was measured at every K ({each})")
    with paper(WIDTH * 2, HEIGHT) as figure:
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            k = [dose["k"] for dose in listed]
            effect, random, sd = (
                np.array([number(dose["outcomes"][name].get(part)) for dose in listed])
                for part in ("effect", "random", "random_sd")
            )
            axes.fill_between(k, random - 2 * sd, random + 2 * sd, color=GREY, alpha=0.25, linewidth=0)
            axes.plot(k, random, "o--", color=GREY, label="random sets ± 2 sd")
            axes.plot(k, effect, "o-", color=COLOURS[0], label="strongest K")
            axes.axhline(0, color="black", linewidth=0.5)
            axes.set(xlabel="neurons ablated", ylabel=OUTCOMES[name], xticks=k)
        _legend_above(figure, axes)
        return figure


def steering(curve: Mapping[str, Any], column: str) -> Figure:
    """Draw the column and the accuracy by alpha, and below them the loss of neutral text."""
    followed = "metric" if curve["followed"] == "metric" else "log_prob"
    label = column if followed == "metric" else "log p of the right answer"
    with paper(WIDTH, HEIGHT * 1.35) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        above.plot(curve["alphas"], _numbers(curve[followed]), "o-", color=COLOURS[0], label=plain(label))
        if curve.get("accuracy"):
            above.plot(curve["alphas"], _numbers(curve["accuracy"]), "s-", color=COLOURS[2], label="accuracy")
        below.plot(curve["alphas"], _numbers(curve["neutral_loss"]), "o:", color=COLOURS[1])
        below.set(xlabel="alpha (sd)", ylabel="neutral text\n(nats)", xticks=curve["alphas"])
        above.set(ylabel="mean")
        _legend_above(figure, above)
        return figure


def seeds(listed: Sequence[tuple[int, Mapping[str, Any]]]) -> Figure:
    """Draw held-out r of the ten best by prompt seed with its interval, and chance; ``listed`` is (seed, column figures)."""
    with paper() as figure:
        axes = figure.subplots()
        for place, (_, one) in enumerate(listed):
            r, low, high = (number(one.get(f"heldout_top10_r{end}")) for end in ("", "_low", "_high"))
            axes.errorbar(place, r, [[max(r - low, 0)], [max(high - r, 0)]], fmt="o", color=COLOURS[0], capsize=3,
                          label="held out, 95 %" if not place else None)  # fmt: skip
            if one.get("null95_r") is not None:
                axes.plot(
                    [place - 0.2, place + 0.2],
                    [one["null95_r"]] * 2,
                    color=COLOURS[1],
                    label="chance" if not place else None,
                )
        axes.set(ylabel="r of the ten best", xlim=(-0.6, len(listed) - 0.4))
        axes.set_xticks(range(len(listed)), [f"seed {seed}" for seed, _ in listed])
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        _legend_above(figure, axes)
        return figure


def density(found: Density, quantity: str) -> Figure:
    """Draw a neuron's activation by the value of a column, each curve to its own peak."""
    with paper() as figure:
        axes = figure.subplots()
        for i, curve in enumerate(one for one in found.curves if one.density):
            heights = [value / max(curve.density) for value in curve.density]
            axes.plot(found.grid, heights, color=COLOURS[i % len(COLOURS)], label=plain(f"{curve.label} (n {curve.n})"))
            axes.fill_between(found.grid, heights, color=COLOURS[i % len(COLOURS)], alpha=0.1, linewidth=0)
        axes.set(xlabel=quantity, ylabel="density (to its peak)", yticks=[], ylim=(0, None))
        _legend_above(figure, axes)
        return figure


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        room = 13 * figure.get_figwidth()  # letters that stand beside each other
        columns = max(1, min(len(handles), 3, int(room // (max(map(len, labels)) + 5))))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=7)


def number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [number(value) for value in values]


def plain(text: str) -> str:
    """Return text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
