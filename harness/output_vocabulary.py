"""What a neuron writes: the tokens that its output vector promotes and suppresses.

    logits = U norm(w) - U norm(0)

w is the neuron's column of the output projection (through the block's own norm where one follows it, as in Gemma 2 and OLMo
2), norm the model's final norm, U the unembedding. What norm and U add to any vector (their biases) is taken off. The norm of a lone vector rescales it, so logits compare tokens within a neuron, not neurons with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import ModelError
from skillneurons.interventions import flat_neurons
from skillneurons.model import LanguageModel
from skillneurons.neuron_split import local, whole_weight


@dataclass(frozen=True)
class OutputVocabulary:
    """Tokens (as the tokenizer writes them) with their logits: the largest, and the smallest first."""

    promoted: Sequence[tuple[str, float]]
    suppressed: Sequence[tuple[str, float]]


def output_vector(lm: LanguageModel, layer: int, neuron: int) -> torch.Tensor:
    """Return what the neuron's activation multiplies, shape (d_model,), float32."""
    projection: Any = lm.projections[layer]
    weight: torch.Tensor = projection.weight if lm.split is not None else whole_weight(projection.weight)
    if lm.quantization is not None or weight.is_meta:  # packed, or kept elsewhere until it is used: ask the projection
        unit = torch.zeros((2, lm.d_ff), device=lm.device, dtype=lm.dtype)
        unit[1, neuron] = 1.0
        put_out: torch.Tensor = projection(unit).detach().float()
        return put_out[1] - put_out[0]
    linear = isinstance(projection, torch.nn.Linear)  # transformers' Conv1D keeps its weight transposed
    if lm.split is not None:
        return lm.split.column(local(weight), neuron).float()
    return (weight[:, neuron] if linear else weight[neuron]).detach().float()


@torch.inference_mode()
def output_vocabulary(lm: LanguageModel, layer: int, neuron: int, k: int = 10) -> OutputVocabulary:
    """Return the ``k`` tokens of largest and of smallest logit; raise ModelError where the final norm cannot be told."""
    flat_neurons(lm, [(layer, neuron)])
    inner, norm = norms_after(lm, layer)
    vector = output_vector(lm, layer, neuron).to(lm.device, lm.dtype)[None, None]
    for one in inner:
        vector = one(vector) - one(torch.zeros_like(vector))
    head = lm.model.get_output_embeddings()
    logits = (head(norm(vector)).float() - head(norm(torch.zeros_like(vector))).float())[0, 0]
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


def norms_after(lm: LanguageModel, layer: int) -> tuple[list[torch.nn.Module], torch.nn.Module]:
    """Return the norms that a layer's feed-forward output passes on its way into the residual stream, and the final norm.

    Both are found by running one token. Raise ModelError where no norm runs last before the unembedding.
    """
    stacks = [stack for stack in lm.model.modules() if isinstance(stack, torch.nn.ModuleList)]
    blocks = {id(module) for stack in stacks for module in stack.modules()}
    projection = lm.projections[layer]
    block = next(one for stack in stacks for one in stack if any(inner is projection for inner in one.modules()))
    own = {id(module) for module in block.modules()}
    norms = [m for m in lm.model.modules() if "norm" in type(m).__name__.lower() and hasattr(m, "weight")]
    outside: list[torch.nn.Module] = []
    inside: list[torch.nn.Module] = []
    passed: list[torch.Tensor] = []  # what the feed-forward block put out, and what norms made of it

    def written(_module: torch.nn.Module, _args: Any, out: torch.Tensor) -> None:
        passed.append(out)

    def ran(module: torch.nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> None:
        if id(module) not in blocks:
            outside.append(module)
        elif id(module) in own and any(args[0] is one or args[0].data_ptr() == one.data_ptr() for one in passed):
            inside.append(module)
            passed.append(out)

    handles = [projection.register_forward_hook(written)]
    handles += [norm.register_forward_hook(ran) for norm in norms]
    try:
        lm.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=lm.device))
    finally:
        for handle in handles:
            handle.remove()
    if not outside:
        raise ModelError(
            f"model {lm.name!r} ({lm.architecture}): no norm runs between its blocks and its unembedding, so what a neuron "
            "promotes cannot be told"
        )
    return inside, outside[-1]
