"""One example as a neuron sees it: its activation at every token, and the attention that the read position pays.

Positions are those of [input][prompt]. Attention is that of the neuron's own layer, mean over heads (and over the read
positions where there are several); it sums to 1. Only the eager implementation of attention gives it: the model is switched to it and
back, and left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.output_vocabulary import token_text
from skillneurons.prompt import SoftPrompt
from skillneurons.ranks import mean_over_ranks


@dataclass(frozen=True)
class TokenView:
    """``tokens`` as text (virtual ones ``[P1]`` ...), ``activations`` and ``attention`` by neuron, each one per token.

    ``attention`` is None where the model gives none; ``attention_reason`` then says why.
    """

    tokens: Sequence[str]
    activations: Sequence[Sequence[float]]
    attention: Sequence[Sequence[float] | None]
    attention_reason: str = ""


@torch.inference_mode()
def token_view(
    lm: LanguageModel,
    row: EncodedExample,
    prompt: SoftPrompt | None,
    neurons: Sequence[tuple[int, int]],
    *,
    site: str = "product",
    read: Sequence[Sequence[int]] = (),
) -> TokenView:
    """Run one example and return what each neuron (layer, neuron) does at its tokens, in one pass.

    ``read`` are each neuron's read positions, counted from the end (-1: the last one, as without ``read``).
    """
    embedded = lm.embed(torch.tensor([row.ids], device=lm.device))
    tokens = [token_text(lm, token) for token in row.ids]
    if prompt is not None:
        virtual = prompt.embeddings.to(embedded.device, embedded.dtype)[None]
        names = [f"[P{i + 1}]" for i in range(prompt.num_virtual_tokens)]
        appended = prompt.placement == "append"
        embedded = torch.cat((embedded, virtual) if appended else (virtual, embedded), dim=1)
        tokens = tokens + names if appended else names + tokens
    with ActivationRecorder(lm, len(tokens), site=site, reduce="each") as recorder, eager_attention(lm):
        out = lm.model(
            inputs_embeds=embedded, output_attentions=True, use_cache=False, logits_to_keep=lm.last_logits(0)
        )
        whole = recorder.take().reshape(len(tokens), lm.n_layers, lm.d_ff)
    seen = out.attentions or ()
    usable = len(seen) == lm.n_layers and all(one is not None for one in seen)
    places = [list(one) for one in read] or [[-1]] * len(neurons)
    attention = [
        mean_over_ranks(seen[layer][0, :, at].float().mean(dim=(0, 1))).tolist() if usable else None
        for (layer, _), at in zip(neurons, places, strict=True)
    ]
    return TokenView(
        tokens,
        [whole[:, layer, neuron].tolist() for layer, neuron in neurons],
        attention,
        "" if usable else f"{lm.architecture} gives no attention weights of its layers",
    )


@contextmanager
def eager_attention(lm: LanguageModel) -> Iterator[None]:
    """Compute attention plainly, so that its weights can be read; the former implementation comes back."""
    former = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(former)
