"""Activation times the gradient of the target's log-probability, at the read position.

    x[n] = a[n] * d log p(target | input, prompt) / d a[n]       (nats; log p summed over the target's tokens)

is the first-order estimate of what the log-probability would lose were the neuron's activation zero there
(attribution patching with a zero baseline); of position ``mean`` it is the mean over prompt tokens. One forward and one backward pass over input, prompt and target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt


def activation_times_gradient(
    lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt | None, recorder: ActivationRecorder
) -> torch.Tensor:
    """Return (batch, n_positions * n_layers * d_ff) for rows whose inputs have one length (float32).

    ``recorder`` is active and says which positions are read; targets of different length are padded on the right,
    where a causal model does not look.
    """
    longest = max(len(row.target) for row in rows)
    ids = torch.tensor([list(row.ids) for row in rows], device=lm.device)
    targets = torch.tensor([[*row.target, *[0] * (longest - len(row.target))] for row in rows], device=lm.device)
    real = torch.arange(longest, device=lm.device)[None] < torch.tensor(
        [[len(r.target)] for r in rows], device=lm.device
    )
    parts = [lm.embed(ids)]
    if prompt is not None:
        parts.append(prompt.embeddings.to(lm.device, lm.dtype).expand(len(rows), -1, -1))
        if prompt.placement == "prepend":
            parts.reverse()
    end = sum(part.shape[1] for part in parts)  # the read positions are the last ones before it
    embedded = torch.cat([*parts, lm.embed(targets[:, :-1])], dim=1).detach().requires_grad_(True)
    recorder.graph = True
    try:
        with torch.enable_grad():
            out = lm.model(inputs_embeds=embedded, use_cache=False, logits_to_keep=lm.last_logits(longest))
            log_probs = out.logits.float().log_softmax(-1).gather(2, targets[..., None])[..., 0]  # (B, longest)
            seen = recorder.take_graph()
            gradients = torch.autograd.grad((log_probs * real).sum(), seen)
    finally:
        recorder.graph = False
    read = slice(end - recorder.last_positions, end)
    products = []
    for a, g in zip(seen, gradients, strict=True):  # some layers run all tokens as one row
        by_row = (part.detach().reshape(len(rows), -1, part.shape[-1])[:, read] for part in (a, g))
        products.append(torch.mul(*by_row).float())
    if recorder.reduce == "mean":
        products = [product.mean(dim=1, keepdim=True) for product in products]
    rows_of_all = recorder.together(products)
    return rows_of_all if isinstance(rows_of_all, torch.Tensor) else rows_of_all.cpu()
