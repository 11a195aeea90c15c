"""Where in a feed-forward block an activation is taken: the modules to hook, and what is made of what they see.

- ``product`` (default): the input of the output projection: ``act(gate(x)) * up(x)`` in a gated block, ``act(fc(x))``
  in a plain one. It is what multiplies the neuron's output vector.
- ``gate``: ``act(gate(x))`` alone, the closest to the definition of 2022. Only a gated block has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import ModelError, UserError
from skillneurons.feed_forward import FeedForward
from skillneurons.model import LanguageModel

SITES = ("product", "gate")


@dataclass(frozen=True, eq=False)
class Site:
    """One layer's place: the input of ``module`` (``before``), or its output."""

    module: torch.nn.Module
    before: bool


@dataclass(frozen=True, eq=False)
class ExpertSite:
    """A mixture of experts: ``module`` is the whole layer, ``experts`` its stacked experts, ``shared`` one that always runs."""

    module: torch.nn.Module
    experts: torch.nn.Module
    shared: torch.nn.Module | None


def sites_of(lm: LanguageModel, site: str) -> list[Site | ExpertSite]:
    """Return the place of every layer; raise where the model's blocks have no such site."""
    if site not in SITES:
        raise UserError(f"attribution.site {site!r}: must be one of {', '.join(SITES)}")
    if site == "product":
        return [_product(layer) for layer in lm.layers]
    gates = [_gate(lm, layer, projection) for layer, projection in enumerate(lm.projections)]
    if len({id(gate.module) for gate in gates}) != len(gates):
        raise ModelError(
            f"model {lm.name!r}: its layers share one activation function, so attribution.site 'gate' cannot tell them apart"
        )
    return list(gates)


def _product(layer: FeedForward) -> Site | ExpertSite:
    if layer.experts is not None and layer.module is not None:
        return ExpertSite(layer.module, layer.experts, layer.projection)
    if layer.projection is None:
        raise ModelError("a feed-forward layer has neither an output projection nor experts")
    return Site(layer.projection, True)


def _gate(lm: LanguageModel, layer: int, projection: torch.nn.Module) -> Site:
    block = _parent(lm.model, projection)
    gates = [m for name, m in block.named_children() if "gate" in name.lower() and isinstance(m, torch.nn.Linear)]
    acts = [m for name, m in block.named_children() if "act" in name.lower() and m is not projection]
    if len(gates) != 1 or len(acts) != 1 or gates[0].out_features != lm.d_ff:
        names = ", ".join(name for name, _ in block.named_children())
        raise ModelError(
            f"model {lm.name!r} ({lm.architecture}): the feed-forward block of layer {layer} has no gate of its own "
            f"(it has: {names}), so attribution.site 'gate' does not exist there; use product"
        )
    return Site(acts[0], False)


def _parent(model: Any, child: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if any(inner is child for inner in module.children()):
            found: torch.nn.Module = module
            return found
    raise ModelError("the output projection is no part of the model")
