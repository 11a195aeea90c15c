"""What a neuron writes: the tokens that its output vector promotes and suppresses.

    logits = U norm(w),   w the neuron's column of the output projection, norm the model's final norm, U the unembedding

The norm of a lone vector rescales it, so logits compare tokens within a neuron, not neurons with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import ModelError
from skillneurons.interventions import flat_neurons
from skillneurons.model import LanguageModel


@dataclass(frozen=True)
class OutputVocabulary:
    """Tokens (as the tokenizer writes them) with their logits: the largest, and the smallest first."""

    promoted: Sequence[tuple[str, float]]
    suppressed: Sequence[tuple[str, float]]


def output_vector(lm: LanguageModel, layer: int, neuron: int) -> torch.Tensor:
    """Return what the neuron's activation multiplies, shape (d_model,), float32."""
    projection: Any = lm.projections[layer]
    weight: torch.Tensor = projection.weight
    linear = isinstance(projection, torch.nn.Linear)  # transformers' Conv1D keeps its weight transposed
    return (weight[:, neuron] if linear else weight[neuron]).detach().float()


@torch.inference_mode()
def output_vocabulary(lm: LanguageModel, layer: int, neuron: int, k: int = 10) -> OutputVocabulary:
    """Return the ``k`` tokens of largest and of smallest logit; raise ModelError where the final norm cannot be told."""
    flat_neurons(lm, [(layer, neuron)])
    norm = final_norm(lm)
    vector = output_vector(lm, layer, neuron).to(lm.device, lm.dtype)
    logits = lm.model.get_output_embeddings()(norm(vector[None, None]))[0, 0].float()
    logits = logits[: len(lm.tokenizer)]  # rows beyond the tokenizer are padding of the table
    k = min(k, len(logits))
    chosen = [logits.topk(k), logits.topk(k, largest=False)]
    promoted, suppressed = (
        [(token_text(lm, int(i)), float(value)) for i, value in zip(top.indices, top.values, strict=True)]
        for top in chosen
    )
    return OutputVocabulary(promoted, suppressed)


def token_text(lm: LanguageModel, token: int) -> str:
    """Return a token as text, white space kept."""
    return str(lm.tokenizer.decode([token]))


def final_norm(lm: LanguageModel) -> torch.nn.Module:
    """Return the norm that runs last before the unembedding, found by running one token."""
    inside = {
        id(module)
        for stack in lm.model.modules()
        if isinstance(stack, torch.nn.ModuleList)
        for module in stack.modules()
    }
    norms = [
        module
        for module in lm.model.modules()
        if id(module) not in inside and "norm" in type(module).__name__.lower() and hasattr(module, "weight")
    ]
    ran: list[torch.nn.Module] = []
    handles = [norm.register_forward_hook(lambda module, _args, _out: ran.append(module)) for norm in norms]
    try:
        lm.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=lm.device))
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ModelError(
            f"model {lm.name!r} ({lm.architecture}): no norm runs between its blocks and its unembedding, so what a neuron "
            "promotes cannot be told"
        )
    return ran[-1]
