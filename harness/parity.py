"""Is what we run what the model computes? Our way (inputs once, then the prompt on their keys and values, padded, the last
feed-forward layer on the read position alone) against the plain forward pass over whole sequences, on probes of random tokens.

And are the recorded neurons those of the feed-forward layer? A recorded row times the output projection must be what the layer
puts out. Total variation of two distributions: half the sum of |p - q|.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.errors import ModelError
from skillneurons.expert_activations import experts_output
from skillneurons.feed_forward import FeedForward
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel, Parity
from skillneurons.neuron_split import whole_weight
from skillneurons.prefix import places_after, run_prompt
from skillneurons.prompt import SoftPrompt
from skillneurons.types import Example

LENGTHS = (9, 5, 9)
PROMPT, ANSWER = 3, 2
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
QUANTIZED = 2e-1  # int8 products depend on which rows run together


@torch.no_grad()
def checked_parity(lm: LanguageModel) -> Parity:
    """Return the differences; raise ModelError where one is above the tolerance of the model's dtype."""
    rows, prompt = _probes(lm)
    plain = [_plain(lm, row, prompt) for row in rows]
    ours = [*_cached(lm, rows, prompt), *_cached(lm, rows[:1], prompt)]
    apart, activations = 0.0, 0.0
    for (p, a), (q, b) in zip([*plain, plain[0]], ours, strict=True):
        apart = max(apart, float((p - q).abs().sum(-1).max()) / 2)
        activations = max(activations, _difference(b, a))
    found = Parity(_rounded(apart), _rounded(activations), _rounded(_feed_forward(lm, rows[0])))
    limit = QUANTIZED if lm.quantization is not None else TOLERANCE.get(lm.dtype, TOLERANCE[torch.bfloat16])
    told = f"model {lm.name!r} ({lm.architecture}, {lm.dtype})"
    if not found.feed_forward <= limit:
        raise ModelError(
            f"{told}: a recorded row times the output projection differs from what the feed-forward layer puts out by "
            f"{found.feed_forward:.1e} (at most {limit:.0e}); name the right projection with --set model.ffn=PATH"
        )
    if not (found.distribution <= limit and found.activations <= limit):
        raise ModelError(
            f"{told}: running the prompt on kept keys and values differs from the plain forward pass (total variation "
            f"{found.distribution:.1e}, activations {found.activations:.1e}; at most {limit:.0e}), so no figure would hold; "
            "this architecture is not supported"
        )
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.1e}")


def _probes(lm: LanguageModel) -> tuple[list[EncodedExample], SoftPrompt]:
    """Return inputs of several lengths with an answer each, and a prompt, all of random tokens."""
    drawn = random.Random("parity")
    table = lm.model.get_input_embeddings().weight
    room = lm.context_length - PROMPT - ANSWER
    if room < 2:
        raise ModelError(f"model {lm.name!r}: its context of {lm.context_length} tokens has no room for a prompt")
    rows = []
    for i, length in enumerate(LENGTHS):
        ids = tuple(drawn.randrange(table.shape[0]) for _ in range(min(length, room)))
        target = tuple(drawn.randrange(table.shape[0]) for _ in range(ANSWER))
        rows.append(EncodedExample(i, Example(str(i), "", "x"), "", ids, target, None))
    virtual = lm.embed(torch.tensor([drawn.randrange(table.shape[0]) for _ in range(PROMPT)], device=lm.device))
    return rows, SoftPrompt(virtual.float().cpu())


def _embedded(lm: LanguageModel, row: EncodedExample, prompt: SoftPrompt) -> torch.Tensor:
    ids, target = (torch.tensor([part], device=lm.device) for part in (row.ids, row.target[:-1]))
    virtual = prompt.embeddings.to(lm.device, lm.dtype)[None]
    return torch.cat((lm.embed(ids), virtual, lm.embed(target)), dim=1)


def _plain(lm: LanguageModel, row: EncodedExample, prompt: SoftPrompt) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (distributions of the answer's tokens, activations at the last prompt token) of one whole forward pass."""
    with ActivationRecorder(lm, ANSWER, reduce="each") as recorder:
        out = lm.model(inputs_embeds=_embedded(lm, row, prompt), use_cache=False)
        seen = recorder.take().reshape(ANSWER, lm.n_neurons)
    return out.logits[0, -ANSWER:].float().softmax(-1).cpu(), seen[0].cpu()


def _cached(
    lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the same of several rows by our way."""
    inputs = InputCache(lm, room=PROMPT + ANSWER).fill(rows)
    with ActivationRecorder(lm) as recorder:
        prefix = run_prompt(lm, inputs.start(rows), prompt, read=1)
        seen = recorder.take()
    first = prefix.log_probs.exp()[:, None]
    answer = torch.tensor([row.target[:-1] for row in rows], device=lm.device)
    places = places_after(prefix, ANSWER - 1)
    out = lm.model(input_ids=answer, past_key_values=prefix.cache, use_cache=True, **places)
    both = torch.cat((first, out.logits.float().softmax(-1)), dim=1)
    return list(zip(both.cpu(), seen.cpu(), strict=True))


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest |difference| over the largest |expected|; NaN must stand at the same places."""
    if not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    scale = float(expected.nan_to_num().abs().max()) or 1.0
    return float((found - expected).nan_to_num().abs().max()) / scale


def _feed_forward(lm: LanguageModel, row: EncodedExample) -> float:
    """Return how far each layer's output at the last token is from recorded row times output projection."""
    seen: dict[int, dict[str, Any]] = {i: {} for i in range(lm.n_layers)}
    handles = [handle for i, layer in enumerate(lm.layers) for handle in _watched(layer, seen[i])]
    try:
        with ActivationRecorder(lm) as recorder:
            lm.model(input_ids=torch.tensor([row.ids], device=lm.device), use_cache=False)
            recorded = recorder.take().reshape(lm.n_layers, lm.d_ff)
    finally:
        for handle in handles:
            handle.remove()
    return max(_layer_difference(lm, layer, recorded[i], seen[i]) for i, layer in enumerate(lm.layers))


def _watched(layer: FeedForward, seen: dict[str, Any]) -> list[Any]:
    """Return hooks that keep what a layer is given and puts out."""

    def whole(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        seen["given"] = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
        seen["out"] = (out[0] if isinstance(out, tuple) else out).clone()  # some blocks add to it in place

    def experts(_module: Any, args: tuple[Any, ...], out: torch.Tensor) -> None:
        seen["chosen"], seen["weights"], seen["out"] = args[1][-1:], args[2][-1:], out.clone()

    if layer.experts is not None:
        return [layer.experts.register_forward_hook(experts)]
    module: Any = layer.module or layer.projection
    return [module.register_forward_hook(whole, with_kwargs=True)]


def _layer_difference(lm: LanguageModel, layer: FeedForward, recorded: torch.Tensor, seen: dict[str, Any]) -> float:
    put_out = seen["out"].reshape(-1, seen["out"].shape[-1])[-1].float()
    if layer.experts is not None:
        by_expert = recorded[: layer.n_experts * layer.expert_width].nan_to_num()[None].to(lm.dtype)
        expected = experts_output(layer.experts, by_expert, seen["chosen"], seen["weights"])[0].float()
        return _difference(expected, put_out)
    projection: Any = layer.projection
    weight = whole_weight(projection.weight)
    row = recorded.to(put_out.device, lm.dtype)
    if lm.quantization is not None or weight.is_meta:  # packed, or kept elsewhere until it is used
        expected = projection(row[None])[0].float()
    else:
        linear = isinstance(projection, torch.nn.Linear)  # transformers' Conv1D keeps its weight transposed
        expected = (weight @ row if linear else row @ weight).float()
        if projection.bias is not None:
            expected = expected + whole_weight(projection.bias).float()
    if expected.shape != put_out.shape:
        return float("inf")
    given = [one.to(put_out.device) for one in seen["given"] if one.shape == seen["out"].shape]
    residuals = [one.reshape(-1, one.shape[-1])[-1].float() for one in given]
    ways = [expected, *(expected + one for one in residuals)]  # some layers (BLOOM) add the residual themselves
    return min(_difference(way, put_out) for way in ways)
