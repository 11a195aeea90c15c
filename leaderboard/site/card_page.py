"""The page of one neuron of a cell: r by column, densities, driving examples, vocabulary, what its ablation did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape
from skillneurons.density import density_by_value
from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.figures import rounded
from skillneurons.leaderboard.site.kept import Kept
from skillneurons.leaderboard.site.kept_activations import Activations
from skillneurons.leaderboard.site.page import render_page
from skillneurons.results import Result

_RIGHT = {1.0: "right", 0.0: "wrong"}
_UNITS = {
    "moved": "the column moves by {} sd",
    "log_prob": "the answer loses {} nats",
    "accuracy": "accuracy falls by {}",
}


def carded(kept: Kept) -> dict[str, list[str]]:
    """Return the columns that have a card of each neuron, by its name."""
    found: dict[str, list[str]] = {}
    for column, cards in kept.cards.items():
        for neuron in cards:
            found.setdefault(neuron, []).append(column)
    return dict(sorted(found.items()))


def card_page(cell: Result, neuron: str, columns: Sequence[str], kept: Kept, activations: Activations | None) -> bytes:
    """Return the page of a neuron (``L03.N0127``); ``columns`` are those that it has a card on."""
    layer, index = (int(part[1:]) for part in neuron.split("."))
    measured = [name for name, one in cell.columns.items() if one.get("status") == "ok"]
    densities = [_density(name, layer, index, kept, activations) for name in columns]
    return render_page(
        "card.html.j2",
        places.card_place(cell.key, neuron),
        f"{neuron}: {cell.metric['name']} on {cell.task['name']}, {cell.model['name']}",
        cell=cell,
        cell_page=places.cell_place(cell.key),
        task_page=places.task_place(cell.task["name"]),
        neuron=neuron,
        layer=layer,
        index=index,
        quantity=kept.quantity,
        columns=[_line(cell, name, layer, index, kept) for name in measured],
        cards=[_card(name, kept.cards[name][neuron]) for name in columns],
        data={"densities": [one for one in densities if one]},
    )


def _line(cell: Result, name: str, layer: int, index: int, kept: Kept) -> dict[str, str]:
    """Return what one column says of the neuron."""
    top = {(row["layer"], row["neuron"]): row for row in cell.columns[name].get("top") or []}.get((layer, index), {})
    scores = kept.scores.get(name)
    r = top.get("r") if scores is None else rounded(scores[layer, index])
    low, high = top.get("ci_low"), top.get("ci_high")
    tested = ((cell.causal or {}).get("columns") or {}).get(name) or {}
    alone = {(one["layer"], one["neuron"]): one for one in tested.get("neurons") or []}.get((layer, index))
    return {
        "name": name,
        "r": "" if r is None else f"{r:+.3f}",
        "heldout": "" if top.get("r_heldout") is None else f"{top['r_heldout']:+.3f}",
        "interval": "" if low is None or high is None else f"{low:.3f} to {high:.3f}",
        "p": printed("", top.get("p_adjusted")),
        "verdict": alone["verdict"] if alone else "",
        "ablated": _ablated(alone) if alone else "",
    }


def _ablated(one: Mapping[str, Any]) -> str:
    outcome = one["outcomes"][one["outcome"]]
    told = _UNITS.get(one["outcome"], f"{one['outcome']} {{}}").format(_printed(outcome["effect"], 4))
    if one.get("low") is not None and one.get("high") is not None:
        told += f" ({one['low']:.4f} to {one['high']:.4f})"
    if outcome.get("random") is not None:
        told += (
            f"; single neurons like it {outcome['random']:.4f} "
            f"(sd {_printed(outcome['random_sd'], 4)}), p {_printed(outcome['p'], 3)}"
        )
    return told


def _printed(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _card(column: str, card: Mapping[str, Any]) -> dict[str, Any]:
    ends = [(end, [_example(one) for one in card[end]]) for end in ("highest", "lowest")]
    return {"column": column, "vocabulary": card["vocabulary"], "ends": ends}


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    tokens, attention = example["tokens"], example["attention"]
    return {
        **example,
        "right": _RIGHT.get(example["correct"], ""),
        "shaded": _shaded(tokens, example["activations"], "activation"),
        "attended": None if attention is None else _shaded(tokens, attention, "attention"),
    }


def _shaded(tokens: Sequence[str], values: Sequence[float], what: str) -> Markup:
    """Return the tokens as HTML, each escaped, shaded by its value (``--w`` in percent of the strongest), with the value as tooltip."""
    most = max((abs(value) for value in values), default=0.0) or 1.0
    return Markup("").join(
        Markup(  # noqa: S704 - the token is escaped, the rest are numbers
            f'<span class="{"up" if value >= 0 else "down"}" style="--w:{round(100 * abs(value) / most)}" '
            f'title="{what} {value:+.3f}">{escape(token)}</span>'
        )
        for token, value in zip(tokens, values, strict=True)
    )


def _density(column: str, layer: int, index: int, kept: Kept, activations: Activations | None) -> dict[str, Any] | None:
    rows = activations.heldout(column, layer, index) if activations is not None else None
    if rows is None:
        return None
    density = density_by_value(*rows)
    curves = []
    for curve in density.curves:
        most = max(curve.density, default=0.0) or 1.0
        curves.append({"label": curve.label, "n": curve.n, "y": [round(value / most, 4) for value in curve.density]})
    without = "; ".join(f"{curve.label}: {curve.reason}" for curve in density.curves if curve.reason)
    grid = [float(f"{value:.5g}") for value in density.grid]
    return {"column": column, "quantity": kept.quantity, "grid": grid, "curves": curves, "without": without}
