"""A neuron card as text: everything that is known about one neuron of a finished cell.

What every neuron has: r on discovery and on heldout, column by column. What the strongest have besides: interval and
p-value, the density of the activation by metric value, the examples that drive it, what its output vector promotes,
what its ablation and steering do, and the verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skillneurons.errors import ResultsError, UnknownNameError, UserError
from skillneurons.results import Result, ResultsFolder

MOST = 4  # tokens named of an example


def neuron_name(layer: int, neuron: int) -> str:
    """Return a neuron's printed name: ``L03.N0127``."""
    return f"L{layer:02d}.N{neuron:04d}"


def parse_neuron(name: str) -> tuple[int, int]:
    """Return (layer, neuron) of a name such as ``L03.N0127``."""
    import re

    match = re.fullmatch(r"L(\d+)\.N(\d+)", name)
    if not match:
        raise UserError(f"{name!r} is no neuron; write layer and neuron as in L03.N0127")
    return int(match[1]), int(match[2])


def card_lines(folder: ResultsFolder, result: Result, neuron: str, names: Sequence[str]) -> list[str]:
    """Return the card of a neuron on the named columns of a cell; raise UserError for a neuron that does not exist."""
    from skillneurons.pass_scores import discovery_scores, heldout_scores

    layer, index = parse_neuron(neuron)
    scores, heldout = discovery_scores(folder, str(result.pass_)), heldout_scores(folder, str(result.pass_))
    kept = cards_of(folder, result)
    cards, quantity = kept["columns"], quantity_of(result, kept)
    lines = [f"{neuron_name(layer, index)}:"]
    for name in names:
        n_layers, d_ff = scores[name].shape
        if layer >= n_layers or index >= d_ff:
            raise UnknownNameError(
                f"no neuron {neuron!r}: the model has layers L00 to L{n_layers - 1:02d} of neurons N0000 to N{d_ff - 1:04d}"
            )
        known = _row(result.columns[name], layer, index)
        held = known.get("r_heldout") if heldout is None else float(heldout[name][layer, index])
        told = "not kept" if held is None else f"{held:+.3f}"
        lines.append(f"  {name}: r {float(scores[name][layer, index]):+.3f}, heldout {told}{_sure(known)}")
        lines += [f"    {line}" for line in _more(folder, result, name, layer, index, cards.get(name, {}), quantity)]
    return lines


def _row(figures: Mapping[str, Any], layer: int, index: int) -> Mapping[str, Any]:
    """Return what the cell says of the neuron, nothing where it is none of the strongest."""
    rows = figures.get("top") or []
    return next((row for row in rows if (row["layer"], row["neuron"]) == (layer, index)), {})


def _sure(row: Mapping[str, Any]) -> str:
    low, high, p = (row.get(name) for name in ("ci_low", "ci_high", "p_adjusted"))
    interval = "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
    return interval + ("" if p is None else f", p {p:.3f} (max-T)")


def _more(
    folder: ResultsFolder,
    result: Result,
    column: str,
    layer: int,
    index: int,
    cards: Mapping[str, Any],
    quantity: str,
) -> list[str]:
    """Return what only the strongest neurons of a column have."""
    from skillneurons.density import density_lines

    lines: list[str] = []
    density = column_density(folder, result, column, layer, index)
    if density is not None:
        lines += [f"{quantity} by value of the column (held out):", *(f"  {line}" for line in density_lines(density))]
    tested = ((result.causal or {}).get("columns") or {}).get(column) or {}
    for one in tested.get("neurons") or []:
        if (one["layer"], one["neuron"]) == (layer, index):
            lines += _causal_lines(one)
    card = cards.get(neuron_name(layer, index))
    if card:
        lines += _vocabulary_lines(card["vocabulary"])
        for end in ("highest", "lowest"):
            lines.append(f"held-out examples that drive it {end} (by {quantity}):")
            for example in card[end]:
                lines += [f"  {line}" for line in _example_lines(example)]
    return lines


def column_density(folder: ResultsFolder, result: Result, column: str, layer: int, index: int) -> Any:
    """Return the density of a neuron's held-out activation by the column's value; None where it was not kept."""
    import numpy as np
    import pandas as pd
    from safetensors.numpy import load_file
    from skillneurons.density import density_by_value

    place = folder.fetched(folder.passes / str(result.pass_))
    if not (place / "neurons.safetensors").exists():
        return None
    try:
        kept = load_file(place / "neurons.safetensors")
        table = pd.read_parquet(place / "examples.parquet", columns=["split", column])
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{place}: cannot read this pass ({error}); delete the folder and its cells and run again"
        ) from error
    neurons = kept.get(f"{column}/neurons")
    if neurons is None:
        return None
    found = np.flatnonzero((neurons == (layer, index)).all(axis=1))
    if not len(found):
        return None
    values = table.loc[table["split"] == "heldout", column].to_numpy(dtype=np.float64)
    return density_by_value(kept[f"{column}/heldout"][:, found[0]], values)


def cards_of(folder: ResultsFolder, result: Result) -> Mapping[str, Any]:
    """Return what the cards folder keeps of a cell; without a file, no columns."""
    path = folder.fetched(folder.cards / f"{result.key}.json")
    if not path.exists():
        return {"columns": {}}
    try:
        kept: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(kept["columns"], dict):
            raise ValueError("its columns are no mapping")
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(
            f"{path}: not a readable card ({error}); delete the file and its cell and run again"
        ) from error
    return kept


def quantity_of(result: Result, kept: Mapping[str, Any]) -> str:
    """Return what the rows kept of a cell hold: activations, or their products with the gradient."""
    gradient = result.config["attribution"]["statistic"] == "grad_x_activation"
    return str(kept.get("quantity") or ("activation x gradient" if gradient else "activation"))


def _causal_lines(one: Mapping[str, Any]) -> list[str]:
    """Return a neuron's verdict with the outcome that it rests on, and its steering."""
    outcome = one["outcomes"][one["outcome"]]
    what = {"moved": "the column moves by", "log_prob": "the target loses", "accuracy": "accuracy falls by"}
    unit = {"moved": " sd", "log_prob": " nats"}.get(one["outcome"], "")
    interval = "" if one["low"] is None else f" ({one['low']:.4f} to {one['high']:.4f})"
    lines = [
        f"verdict: {one['verdict']}: ablated alone, {what.get(one['outcome'], one['outcome'])} {_number(outcome['effect'])}"
        f"{unit}{interval}; single neurons like it {_number(outcome['random'])} (sd {_number(outcome['random_sd'])}), "
        f"p {_number(outcome['p'], '.3f')}"
    ]
    if one.get("steered"):
        told = "; ".join(
            f"{s['alpha']:+g} sd: column {_number(s['metric'])}, log p {_number(s['log_prob'])}" for s in one["steered"]
        )
        lines.append(f"steered alone: {told}")
    return lines


def _vocabulary_lines(vocabulary: Mapping[str, Any]) -> list[str]:
    if "reason" in vocabulary:
        return [f"vocabulary: {vocabulary['reason']}"]
    return [
        f"{name}: " + ", ".join(f"{token!r} {value:+.1f}" for token, value in vocabulary[name])
        for name in ("promoted", "suppressed")
    ]


def _example_lines(example: Mapping[str, Any]) -> list[str]:
    """Return an example's activation, its text, where the neuron is strongest and what the read position attends to."""
    right = {1.0: "right", 0.0: "wrong"}.get(example["correct"], "")
    head = (
        f"{example['activation']:+.3f}  target {example['target']!r}, answer {example['text']!r}"
        + (f" ({right})" if right else "")
        + f"  [{example['id']}]"
    )
    tokens = example["tokens"]
    order = sorted(range(len(tokens)), key=lambda i: -abs(example["activations"][i]))[:MOST]
    fires = ", ".join(f"{tokens[i]!r} {example['activations'][i]:+.2f}" for i in order)
    lines = [head, f"  {''.join(tokens)!r}", f"  strongest at {fires}"]
    if example["attention"] is None:
        return [*lines, f"  attention: {example['attention_reason']}"]
    most = sorted(range(len(tokens)), key=lambda i: -example["attention"][i])[:MOST]
    return [*lines, "  attends to " + ", ".join(f"{tokens[i]!r} {example['attention'][i]:.2f}" for i in most)]


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)
