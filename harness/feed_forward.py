"""Where the feed-forward neurons of a model are, found by structure.

Each block has one linear map into ``d_model`` outside the attention: the feed-forward output projection, whose input of width
``d_ff`` is the activation of the block's neurons. A mixture of experts keeps one such map per expert, stacked in one tensor;
its neurons are those of every expert, one expert after the other, and of a shared expert last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import ModelError

ATTENTION = re.compile(r"attn|attention|mixer\.(q|k|v|o)_", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class FeedForward:
    """One layer's neurons: the input of ``projection``, and those of ``experts`` where the layer is a mixture.

    ``module`` is the whole feed-forward layer where it is a module of its own (in OPT it is not).
    """

    projection: torch.nn.Module | None  # the shared expert's in a mixture; None where there is no shared one
    module: torch.nn.Module | None
    experts: torch.nn.Module | None = None

    @property
    def n_experts(self) -> int:
        return 0 if self.experts is None else int(self.experts.down_proj.shape[0])  # type: ignore[index]

    @property
    def expert_width(self) -> int:
        return 0 if self.experts is None else int(self.experts.down_proj.shape[2])  # type: ignore[index]

    @property
    def d_ff(self) -> int:
        """The number of neurons of the layer."""
        shared = 0 if self.projection is None else widths(self.projection)[0]
        return self.n_experts * self.expert_width + shared


def widths(module: Any) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear map, quantised or not; transformers' Conv1D keeps its weight transposed."""
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    return int(module.weight.shape[0]), int(module.weight.shape[1])


def find_feed_forward(model: Any, name: str, ffn: str | None = None) -> tuple[FeedForward, ...]:
    """Return the feed-forward layer of every block, found by structure or by the projection's path ``ffn`` in a block."""
    d_model = int(model.get_input_embeddings().weight.shape[1])
    layers = [
        _of_block(block, index, f"model {name!r} ({type(model).__name__})", d_model, ffn)
        for index, block in enumerate(blocks_of(model, name))
    ]
    if len({layer.d_ff for layer in layers}) != 1:
        told = ", ".join(str(layer.d_ff) for layer in layers)
        raise ModelError(
            f"model {name!r}: its blocks differ in the number of feed-forward neurons ({told}), which is not supported"
        )
    hooked = [id(layer.experts or layer.projection) for layer in layers]
    if len(set(hooked)) != len(hooked):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}): its blocks share one feed-forward projection (tied weights), so the "
            "neurons of different layers cannot be told apart; such a model is not supported"
        )
    return tuple(layers)


def blocks_of(model: Any, name: str) -> torch.nn.ModuleList:
    """Return the list of the model's decoder blocks."""
    config = model.config.get_text_config()
    depth = int(getattr(config, "num_hidden_layers", 0) or 0)
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    if not depth or not stacks:
        raise ModelError(
            f"model {name!r} ({type(model).__name__}): found no list of {depth} decoder blocks, so it has no feed-forward "
            "layers that can be read"
        )
    return stacks[0]


def _is_linear(module: torch.nn.Module) -> bool:
    """Tell a linear map: torch's, transformers' Conv1D, or a quantised one (which says its widths alike)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D) or (hasattr(module, "in_features") and hasattr(module, "out_features"))


def _of_block(block: torch.nn.Module, index: int, told: str, d_model: int, ffn: str | None) -> FeedForward:
    linear = {path: m for path, m in block.named_modules() if _is_linear(m) and not ATTENTION.search(path)}
    mixtures = {path: m for path, m in block.named_modules() if _is_mixture(m, d_model)}
    if ffn is not None:
        if ffn not in linear:
            raise ModelError(
                f"{told}: block {index} has no linear module {ffn!r} (model.ffn); it has: {', '.join(linear)}"
            )
        return FeedForward(linear[ffn], _module_of(block, ffn))
    outputs = [path for path, module in linear.items() if widths(module)[1] == d_model]
    if len(mixtures) == 1:
        ((path, experts),) = mixtures.items()
        module = _module_of(block, path)
        shared = [one for one in outputs if module is not None and linear[one] in set(module.modules())]
        if module is not None and len(shared) == len(outputs) <= 1:
            return FeedForward(linear[shared[0]] if shared else None, module, experts)
    elif len(outputs) == 1:
        return FeedForward(linear[outputs[0]], _module_of(block, outputs[0]))
    listed = ", ".join(outputs) or "none"
    raise ModelError(
        f"{told}: block {index} has {len(outputs)} candidates for the feed-forward output projection ({listed})"
        f"{_about_experts(block)}; name it with --set model.ffn=PATH; linear modules: {', '.join(linear) or 'none'}"
    )


def _module_of(block: torch.nn.Module, path: str) -> torch.nn.Module | None:
    """Return the feed-forward layer around a projection: the block's own child on its path, or None."""
    first, _, rest = path.partition(".")
    return block.get_submodule(first) if rest else None


def _is_mixture(module: torch.nn.Module, d_model: int) -> bool:
    """Tell stacked experts: gate and up in one tensor (E, 2 I, d_model), down in another (E, d_model, I), no bias."""
    up, down = (getattr(module, name, None) for name in ("gate_up_proj", "down_proj"))
    if not isinstance(up, torch.nn.Parameter) or not isinstance(down, torch.nn.Parameter) or up.dim() != 3:
        return False
    experts, both, width = up.shape
    plain = not any("bias" in name for name, _ in module.named_parameters())
    return (
        plain and width == d_model and tuple(down.shape) == (experts, d_model, both // 2) and hasattr(module, "act_fn")
    )


def _about_experts(block: torch.nn.Module) -> str:
    lists = [path for path, m in block.named_modules() if path.rpartition(".")[2] == "experts"]
    if not lists:
        return ""
    return f"; its experts ({', '.join(lists)}) are not of the stacked form of Qwen2-MoE in transformers 5, the only one known"


def output_projections(layers: Sequence[FeedForward], what: str, name: str) -> tuple[torch.nn.Module, ...]:
    """Return every layer's output projection; raise ModelError for a mixture of experts, which has no single one."""
    found = [layer.projection for layer in layers if layer.experts is None and layer.projection is not None]
    if len(found) != len(layers):
        raise ModelError(f"model {name!r} is a mixture of experts: {what} is there for plain feed-forward layers only")
    return tuple(found)
