"""The neurons of a mixture of experts: ``act(gate(x)) * up(x)`` of every expert that a token was sent to, NaN elsewhere.

Stacked experts run as one fused operation that shows its neurons to nobody, so they are computed once more from what the
fused operation was given: at the read positions and for the chosen experts alone, which is a small part of the layer.
"""

from __future__ import annotations

from typing import Any

import torch


def expert_activations(experts: Any, hidden: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return (tokens, n_experts * width), NaN where an expert did not fire.

    ``hidden`` (tokens, d_model) is what the experts were given, ``chosen`` (tokens, k) the experts of each token.
    """
    n_experts, both, _ = experts.gate_up_proj.shape
    found = hidden.new_full((len(hidden), n_experts, both // 2), float("nan"))
    for expert in sorted(set(chosen.flatten().tolist())):
        if expert >= n_experts:  # a token that is sent nowhere
            continue
        rows = (chosen == expert).any(dim=1).nonzero()[:, 0]
        gate, up = torch.nn.functional.linear(hidden[rows], experts.gate_up_proj[expert]).chunk(2, dim=-1)
        found[rows, expert] = experts.act_fn(gate) * up
    return found.flatten(1)


def experts_output(
    experts: Any, activations: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return what the experts put out, (tokens, d_model), computed from recorded activations: each token's weighted sum."""
    n_experts, d_model, width = experts.down_proj.shape
    by_expert = activations.reshape(len(activations), n_experts, width)
    out = activations.new_zeros((len(activations), d_model))
    for k in range(chosen.shape[1]):
        for token, expert in enumerate(chosen[:, k].tolist()):
            if expert < n_experts:
                out[token] += weights[token, k] * (experts.down_proj[expert] @ by_expert[token, expert])
    return out
