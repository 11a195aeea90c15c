"""What a neuron card needs of the model: driving examples, tokens, attention, vocabulary. Kept as ``cards/<key>.json``.

For each of a column's strongest neurons: the held-out examples that drive it highest and lowest at the read position (all
prompt tokens for the mean over them, the one chosen on discovery for the max), each with the neuron's activation over its
tokens and the attention of the read position in its layer; and what its output vector promotes and suppresses. The rest of a card (r, interval, density, ablation, steering, verdict) is in the cell
and its pass; ``show --neuron`` puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from skillneurons.attribution import Attribution
from skillneurons.errors import ModelError
from skillneurons.model import LanguageModel
from skillneurons.output_vocabulary import output_vocabulary
from skillneurons.prompt import SoftPrompt
from skillneurons.statistics import ranking
from skillneurons.token_activations import token_view

SCHEMA_VERSION = 1
EXAMPLES = 3  # at each end
DECIMALS = 4
QUANTITIES = {False: "activation", True: "activation x gradient"}


def make_cards(
    lm: LanguageModel,
    prompt: SoftPrompt | None,
    attribution: Attribution,
    columns: Sequence[str],
    n: int,
    *,
    site: str = "product",
    position: str = "last",
    gradient: bool = False,
) -> dict[str, Any]:
    """Return the cards' data of the ``n`` strongest neurons of each column, by column and neuron name.

    ``gradient``: the rows kept are activations times gradients, by which examples are then ordered.
    """
    m = prompt.num_virtual_tokens if prompt is not None else 0
    cards: dict[str, Any] = {}
    for column in columns:
        flat = ranking(attribution.scores[column], n)
        at = attribution.positions[column].ravel()[flat] if column in attribution.positions else None
        held = attribution.splits["heldout"]
        if held.rows is None:
            continue
        activations = held.rows.of(flat, at)
        cards[column] = {}
        for i, neuron in enumerate(flat):
            layer, index = int(neuron // lm.d_ff), int(neuron % lm.d_ff)
            order = np.argsort(-activations[:, i], kind="stable")
            read = [-1]
            if m and position != "last":
                read = list(range(-m, 0)) if at is None else [int(at[i]) - m]
            ends = {"highest": order[:EXAMPLES], "lowest": order[::-1][:EXAMPLES]}
            examples = {
                name: [
                    _example(lm, prompt, held, int(row), (layer, index), site, read, float(activations[row, i]))
                    for row in rows
                ]
                for name, rows in ends.items()
            }
            cards[column][f"L{layer:02d}.N{index:04d}"] = {**examples, "vocabulary": _vocabulary(lm, layer, index)}
    return {"schema_version": SCHEMA_VERSION, "quantity": QUANTITIES[gradient], "columns": cards}


def _example(
    lm: LanguageModel,
    prompt: SoftPrompt | None,
    held: Any,
    row: int,
    neuron: tuple[int, int],
    site: str,
    read: Sequence[int],
    activation: float,
) -> Mapping[str, Any]:
    encoded, output = held.encoded[row], held.outputs[row]
    view = token_view(lm, encoded, prompt, [neuron], site=site, read=[read])
    attention = view.attention[0]
    return {
        "id": encoded.example.id,
        "activation": round(activation, DECIMALS),
        "target": encoded.example.target,
        "text": output.text,
        "correct": output.correct,
        "tokens": list(view.tokens),
        "activations": [round(value, DECIMALS) for value in view.activations[0]],
        "attention": None if attention is None else [round(value, DECIMALS) for value in attention],
        "attention_reason": view.attention_reason,
    }


def _vocabulary(lm: LanguageModel, layer: int, neuron: int) -> Mapping[str, Any]:
    try:
        found = output_vocabulary(lm, layer, neuron)
    except ModelError as error:
        return {"reason": str(error)}
    return {
        "promoted": [[token, round(value, DECIMALS)] for token, value in found.promoted],
        "suppressed": [[token, round(value, DECIMALS)] for token, value in found.suppressed],
    }
