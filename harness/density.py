"""How a neuron's activation is distributed for each value of a metric (Gaussian kernel density).

A column of at most five values gives a curve for each; any other is cut at its terciles. All curves share a grid from
the smallest to the largest activation, widened by a tenth on both sides. The bandwidth is Scott's, or one step of
the grid where that is more, so that no narrow class falls between two points. A class of fewer than five examples, or
whose activations do not vary, has no curve but a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

FEWEST = 5
BLOCKS = " ▁▂▃▄▅▆▇█"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito: told apart by the colour-blind

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The density of one class over the grid, or the reason why it has none."""

    label: str
    n: int
    density: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Density:
    """A grid of activations and the curves over it."""

    grid: tuple[float, ...]
    curves: tuple[Curve, ...]


def density_by_value(activations: npt.NDArray[np.floating], values: Doubles, *, points: int = 64) -> Density:
    """Return the densities of ``activations`` (rows,) by ``values`` (rows,).

    Rows that are not scored are left out, and those without an activation (NaN: an expert that no token reached).
    """
    a, v = np.asarray(activations, dtype=np.float64), np.asarray(values, dtype=np.float64)
    whole = ~(np.isnan(a) | np.isnan(v))
    a, v = a[whole], v[whole]
    if not len(a):
        return Density((), ())
    margin = 0.1 * float(np.ptp(a)) or 1.0
    grid = np.linspace(a.min() - margin, a.max() + margin, points)
    curves = []
    for label, mine in _classes(v):
        part = a[mine]
        if len(part) < FEWEST:
            curves.append(Curve(label, len(part), reason=f"{len(part)} examples, a curve needs {FEWEST}"))
        elif np.ptp(part) <= 1e-9 * max(abs(float(part.mean())), 1e-30):
            curves.append(Curve(label, len(part), reason="the activation is the same for all"))
        else:
            step = (grid[1] - grid[0]) / float(part.std(ddof=1))  # in units of the sd, as a bandwidth factor is
            factor = max(len(part) ** -0.2, step)
            curves.append(Curve(label, len(part), tuple(_gaussian(part, grid, factor).tolist())))
    return Density(tuple(grid.tolist()), tuple(curves))


def _gaussian(part: Doubles, grid: Doubles, factor: float) -> Doubles:
    """Return the Gaussian kernel density over the grid; the bandwidth is ``factor`` times the sd (n - 1)."""
    width = factor * float(part.std(ddof=1))
    kernels = np.exp(-0.5 * ((grid[:, None] - part) / width) ** 2)  # (points, rows)
    density: Doubles = kernels.mean(axis=1) / (width * math.sqrt(2 * math.pi))
    return density


def _classes(v: Doubles) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    different = np.unique(v)
    if len(different) <= 5:
        return [(f"{one:g}", v == one) for one in different]
    low, high = np.quantile(v, [1 / 3, 2 / 3])
    parts = [(f"low (<= {low:.3g})", v <= low), ("middle", (v > low) & (v <= high)), (f"high (> {high:.3g})", v > high)]
    return [(label, mine) for label, mine in parts if mine.any()]


def density_lines(density: Density, width: int = 60) -> list[str]:
    """Return the curves as text, one line each, as high as its own peak, and the ends of the grid."""
    name = max((len(curve.label) for curve in density.curves), default=0)
    lines = []
    for curve in density.curves:
        if not curve.density:
            lines.append(f"{curve.label:>{name}}  {curve.reason}")
            continue
        at = np.linspace(0, len(curve.density) - 1, width)
        heights = np.interp(at, np.arange(len(curve.density)), curve.density) / max(curve.density)
        drawn = "".join(BLOCKS[math.ceil(float(h) * (len(BLOCKS) - 1) - 0.02)] for h in heights)
        lines.append(f"{curve.label:>{name}}  {drawn}  n {curve.n}")
    if density.grid:
        ends = f"{density.grid[0]:.3g}", f"{density.grid[-1]:.3g}"
        lines.append(f"{'':>{name}}  {ends[0]}{' ' * max(1, width - len(ends[0]) - len(ends[1]))}{ends[1]}")
    return lines


def density_svg(density: Density, title: str, width: int = 600, height: int = 260) -> str:
    """Return the curves, each as high as its own peak, as a standalone SVG with axis and legend; all text is escaped."""
    left, right, top, bottom = 24, 170, 34, 42
    first, last = (density.grid[0], density.grid[-1]) if density.grid else (0.0, 1.0)

    def x(value: float) -> float:
        return left + (value - first) / (last - first) * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - value * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18" font-size="13" fill="#222">{escape(title)}</text>',
    ]
    for value in _ticks(first, last):
        parts.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{height - bottom}" stroke="#eee"/>')
        parts.append(_label(x(value), height - bottom + 14, f"{value:g}", "middle"))
    parts.append(
        f'<path d="M{left} {top}V{height - bottom}H{width - right}" fill="none" stroke="#555" stroke-width="1"/>'
    )
    for i, curve in enumerate(density.curves):
        colour = COLOURS[i % len(COLOURS)]
        if curve.density:
            line = " ".join(f"{x(g):.1f},{y(d):.1f}" for g, d in zip(density.grid, _to_peak(curve), strict=True))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        text = f"{curve.label} (n {curve.n})" + (f": {curve.reason}" if curve.reason else "")
        parts.append(f'<rect x="{width - 160}" y="{top + 16 * i}" width="10" height="10" fill="{colour}"/>')
        parts.append(_label(width - 146, top + 9 + 16 * i, text, "start"))
    parts.append(_label((left + width - right) / 2, height - 8, "activation (each curve to its own peak)", "middle"))
    return "\n".join([*parts, "</svg>\n"])


def _to_peak(curve: Curve) -> list[float]:
    return [value / max(curve.density) for value in curve.density]


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'


def _ticks(low: float, high: float, n: int = 5) -> Sequence[float]:
    """Return round numbers between two ends."""
    if not high > low:
        return [low]
    raw = (high - low) / n
    step = 10 ** math.floor(math.log10(raw))
    step *= next((factor for factor in (1, 2, 5) if step * factor >= raw), 10)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
