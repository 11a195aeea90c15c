"""Every figure of one finished cell as files for a paper: ``skillneurons plot DIR KEY``.

A figure that cannot be drawn has its reason: asked for by name that is an error, else it is said and the others are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.atomic import make_folder, write_atomic
from skillneurons.errors import UserError, unknown_name
from skillneurons.figures import CannotDrawError
from skillneurons.leaderboard.settings import settings_key
from skillneurons.neuron_card import cards_of, column_density, neuron_name, parse_neuron, quantity_of
from skillneurons.results import Result, ResultsFolder, open_folder
from skillneurons.show import column_named, find_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("histogram", "map", "doses", "steering", "seeds", "density")


@dataclass(frozen=True)
class Plotted:
    """The files that were written, what could not be drawn (figure: reason), and how the files are called."""

    paths: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Cell:
    folder: ResultsFolder
    result: Result
    column: str
    neuron: str | None

    @property
    def figures(self) -> Mapping[str, Any]:
        return self.result.columns[self.column]

    @property
    def tested(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = ((self.result.causal or {}).get("columns") or {}).get(self.column) or {}
        return found

    def untested(self) -> str:
        causal = self.result.causal or {}
        return str(self.tested.get("reason") or causal.get("error") or "causes were not tested")


def plot_cell(
    folder: str | Path | ResultsFolder,
    key: str,
    *,
    column: str | None = None,
    neuron: str | None = None,
    figures: Sequence[str] = (),
    formats: Sequence[str] = ("pdf",),
    out: str | Path | None = None,
) -> Plotted:
    """Write the figures of the cell whose key is, or begins with, ``key``; return what was written and what was not.

    ``column`` (with or without the metric's name) is the one that causes were tested on, or the first, where None is given;
    ``neuron`` (``L03.N0127``) is whose density is drawn, the strongest of the column where None. Raise UserError for a
    figure asked for by name that cannot be drawn, and where none can.
    """
    from skillneurons import figures as drawing

    for name in figures:
        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES)
    for form in formats:
        if form not in drawing.FORMATS:
            raise unknown_name("format", form, drawing.FORMATS)
    results = open_folder(folder)
    result = find_cell(results, key)
    cell = _Cell(results, result, _column(result, column), neuron)
    drawn: dict[str, Figure] = {}
    missing = []
    for name in figures or FIGURES:
        try:
            drawn[name] = _DRAW[name](cell)
        except CannotDrawError as error:
            if name in figures:
                raise UserError(f"no {name} of {cell.column} of {result.key}: {error}") from error
            missing.append(f"no {name}: {error}")
    if not drawn:
        raise UserError(f"nothing of {cell.column} of {result.key} can be drawn: {'; '.join(missing)}")
    target = open_folder(out) if out is not None else results
    place = target.root if out is not None else target.root / "plots"
    make_folder(place)
    paths = []
    for name, figure in drawn.items():
        for form in dict.fromkeys(formats):
            path = place / f"{result.key}.{_safe(cell.column)}.{name}.{form}"
            write_atomic(path, drawing.figure_bytes(figure, form))
            target.publish(path)
            paths.append(path)
    return Plotted(paths, [results.told(line) for line in missing], [target.told(str(path)) for path in paths])


def _column(result: Result, column: str | None) -> str:
    if result.status == "failed":
        message = (result.error or {}).get("message", "no reason was saved")
        raise UserError(f"{result.key} failed, so there is nothing to draw: {message}")
    if column is not None:
        name = column_named(result, column)
        if result.columns[name]["status"] != "ok":
            raise UserError(
                f"{name} of {result.key} is {result.columns[name]['status']}: {result.columns[name]['reason']}"
            )
        return name
    known = [name for name, one in result.columns.items() if one["status"] == "ok"]
    tested = (result.causal or {}).get("columns") or {}
    for name in known:
        if (tested.get(name) or {}).get("doses"):
            return name
    if not known:
        told = "; ".join(f"{name} is {one['status']}" for name, one in result.columns.items())
        raise UserError(f"no column of {result.key} has neurons: {told}")
    return known[0]


def _scores(cell: _Cell) -> Any:
    from skillneurons.pass_scores import discovery_scores

    if not cell.result.pass_ or not cell.folder.fetched(cell.folder.passes / cell.result.pass_).is_dir():
        raise CannotDrawError(
            f"the scores of every neuron are not kept (no {cell.folder.passes / str(cell.result.pass_)})"
        )
    return discovery_scores(cell.folder, cell.result.pass_)[cell.column]


def _histogram(cell: _Cell) -> Figure:
    from skillneurons import figures

    return figures.histogram(_scores(cell), cell.figures.get("null95_r"))


def _map(cell: _Cell) -> Figure:
    from skillneurons import figures
    from skillneurons.leaderboard.site.figures import layer_map

    binned = layer_map(_scores(cell))
    return figures.layer_map(binned["r"], binned["width"], binned["d_ff"])


def _doses(cell: _Cell) -> Figure:
    from skillneurons import figures

    listed = [dose for dose in cell.tested.get("doses") or [] if dose["outcomes"]]
    if not listed:
        reasons = [dose["reason"] for dose in cell.tested.get("doses") or []]
        raise CannotDrawError("; ".join(reasons) or cell.untested())
    return figures.doses(listed)


def _steering(cell: _Cell) -> Figure:
    from skillneurons import figures

    curve = cell.tested.get("steering") or {}
    if not curve.get("alphas"):
        raise CannotDrawError(str(curve.get("reason") or cell.untested()))
    return figures.steering(curve, cell.column)


def _seeds(cell: _Cell) -> Figure:
    from skillneurons import figures

    same = settings_key(cell.result)
    cells = [one for _, one in cell.folder.iter_cells() if isinstance(one, Result) and one.status == "ok"]
    alike = sorted((one for one in cells if settings_key(one) == same), key=lambda one: (one.seed, one.key))
    listed = [(one.seed, one.columns[cell.column]) for one in alike if cell.column in one.columns]
    listed = [(seed, one) for seed, one in listed if one.get("heldout_top10_r") is not None]
    if not listed:
        raise CannotDrawError("no seed has a held-out r")
    return figures.seeds(listed)


def _density(cell: _Cell) -> Figure:
    from skillneurons import figures

    top = cell.figures.get("top") or []
    if cell.neuron is None and not top:
        raise CannotDrawError("the column has no neurons")
    layer, index = parse_neuron(cell.neuron) if cell.neuron else (top[0]["layer"], top[0]["neuron"])
    if not cell.result.pass_ or not cell.folder.fetched(cell.folder.passes / cell.result.pass_).is_dir():
        raise CannotDrawError(f"activations are not kept (no {cell.folder.passes / str(cell.result.pass_)})")
    found = column_density(cell.folder, cell.result, cell.column, layer, index)
    if found is None:
        raise CannotDrawError(f"the activations of {neuron_name(layer, index)} were not kept")
    if not any(curve.density for curve in found.curves):
        raise CannotDrawError(
            "; ".join(f"{curve.label}: {curve.reason}" for curve in found.curves) or "nothing is scored"
        )
    quantity = quantity_of(cell.result, cards_of(cell.folder, cell.result))
    return figures.density(found, f"{quantity} of {neuron_name(layer, index)}")


def _safe(column: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", column)[:80].strip(".") or "column"


_DRAW: Mapping[str, Callable[[_Cell], Any]] = {
    "histogram": _histogram,
    "map": _map,
    "doses": _doses,
    "steering": _steering,
    "seeds": _seeds,
    "density": _density,
}
