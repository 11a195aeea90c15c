"""A model in which one known neuron decides the answer, and a twin with the same activation that feeds nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import build_model

CAUSE, CORRELATE = (2, 7), (2, 23)


def save_planted(folder: Path, architecture: str, tokenizer: Any) -> Path:
    """Save a tiny model whose last layer's neuron 7 writes 'yes' against 'no', and whose neuron 23 is its silent twin."""
    model = build_model(architecture, len(tokenizer))
    head = model.get_output_embeddings().weight.detach()
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("yes", "no"))
    direction = head[yes[0]] - head[no[0]]
    direction = 40 * direction / direction.norm()
    n, twin = CAUSE[1], CORRELATE[1]
    with torch.no_grad():
        if architecture == "gpt2":
            block = model.transformer.h[CAUSE[0]].mlp
            block.c_fc.weight[:, twin] = block.c_fc.weight[:, n]
            block.c_fc.bias[twin] = block.c_fc.bias[n]
            block.c_proj.weight[n] = direction
            block.c_proj.weight[twin] = 0
        else:
            block = model.model.layers[CAUSE[0]].mlp
            for part in (block.gate_proj, block.up_proj):
                part.weight[twin] = part.weight[n]
            block.down_proj.weight[:, n] = direction
            block.down_proj.weight[:, twin] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
