"""A neuron card as an object: text in a terminal, a card with its densities in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from skillneurons.density import Density, density_svg
from skillneurons.errors import UserError
from skillneurons.neuron_card import card_lines, column_density, neuron_name, parse_neuron
from skillneurons.results import open_folder
from skillneurons.show import column_named, find_cell


@dataclass(frozen=True)
class NeuronCard:
    """All that is known of one ``neuron`` of the cell ``key``: ``lines`` of text, a density by column where it was kept."""

    key: str
    neuron: str
    lines: tuple[str, ...]
    densities: tuple[tuple[str, Density], ...]

    def __repr__(self) -> str:
        return "\n".join((self.key, *self.lines))

    def _repr_html_(self) -> str:
        pictures = "".join(density_svg(density, f"{self.neuron} by {column}") for column, density in self.densities)
        text = escape("\n".join(self.lines[1:]))
        return (
            f'<div class="skillneurons"><strong>{escape(self.neuron)}</strong> of {escape(self.key)}'
            f'<pre style="white-space:pre-wrap">{text}</pre>{pictures}</div>'
        )


def neuron_card(folder: str | Path, key: str, neuron: str | None = None, column: str | None = None) -> NeuronCard:
    """Return the card of a neuron (``L03.N0127``; None: the column's strongest) on one column of a cell or on all."""
    results = open_folder(folder)
    result = find_cell(results, key)
    names = list(result.columns) if column is None else [column_named(result, column)]
    if neuron is None:
        top = [row for name in names for row in (result.columns[name].get("top") or [])[:1]]
        if not top:
            raise UserError(
                f"{', '.join(names) or 'nothing'} of {result.key} has no neurons; choose another column or cell"
            )
        neuron = neuron_name(top[0]["layer"], top[0]["neuron"])
    lines = card_lines(results, result, neuron, names)
    layer, index = parse_neuron(neuron)
    found = [(name, column_density(results, result, name, layer, index)) for name in names]
    return NeuronCard(result.key, neuron, tuple(lines), tuple((name, one) for name, one in found if one is not None))
