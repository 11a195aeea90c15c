"""How large a model is, told from its ``config.json`` alone: parameters, keys and values, multiplications per token.

    per layer   q, k, v, o: d (h s) + 2 d (g s) + (h s) d      h heads and g key-value heads of size s
                feed-forward: 3 d d_ff where gated (gate, up, down), else 2 d d_ff; times the experts, with a router d x experts
                biases and two norms, as the family has them
    outside     embedding V d, the output projection V d again where it is not tied, positions where they are learned, a norm

Keys and values of a token take 2 (layers) g s numbers. A token costs 2 floating-point operations per parameter that it
meets, of a mixture of experts those of the chosen ones. Biases and norms are those of the common families; one that is not
known is counted like Llama, which is off by well under 1 %.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillneurons.errors import ModelError

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.5}
UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "codegen", "mpt", "starcoder2")
LEARNED_POSITIONS = ("gpt2", "gpt_neo", "opt")
TIED = (*LEARNED_POSITIONS, "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "cohere", "cohere2")  # where not said
QKV_BIAS = ("qwen2", "qwen2_moe")
ALL_BIAS = ("gpt2", "gpt_neox", "opt", "bloom", "phi")
_NAMES = {
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "n_heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class ModelShape:
    """The sizes that cost time and memory; ``d_ff`` counts the neurons of a layer, of all its experts in a mixture.

    ``d_ff_run`` are those that a token meets, ``window`` is how many positions the layers keep (None: all).
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    d_ff: int
    d_ff_run: int
    vocabulary: int
    gated: bool
    tied: bool
    small: int  # biases, norms, learned positions, routers: parameters of no account for time
    context_length: int
    window: int | None = None
    n_experts: int = 0

    def splits_over(self, n: int) -> bool:
        """Return whether so many devices can share every layer evenly (tensor parallel)."""
        return self.n_heads % n == 0 and self.n_kv_heads % n == 0 and (n == 1 or not self.n_experts)

    @property
    def n_neurons(self) -> int:
        return self.n_layers * self.d_ff

    @property
    def layer_weights(self) -> int:
        """The weights of one layer's products."""
        return self._attention + self._matrices * self.d_model * self.d_ff

    @property
    def layer_weights_run(self) -> int:
        """Those that a token meets."""
        return self._attention + self._matrices * self.d_model * self.d_ff_run

    @property
    def _attention(self) -> int:
        return 2 * self.d_model * self.head_size * (self.n_heads + self.n_kv_heads)

    @property
    def _matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.d_model

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        return self.n_layers * self.layer_weights + self.embedding * (1 if self.tied else 2) + self.small

    def kv_bytes(self, dtype: str) -> int:
        """Return the bytes of one token's keys and values."""
        return int(2 * self.n_layers * self.n_kv_heads * self.head_size * BYTES[dtype])

    def weight_bytes(self, dtype: str, quantization: str | None = None) -> int:
        """Return the bytes of the weights; quantised are the layers' products alone."""
        products = self.n_layers * self.layer_weights
        rest = self.parameters - products
        return int(products * BYTES[quantization or dtype] + rest * BYTES[dtype])


def read_shape(folder: Path, name: str) -> ModelShape:
    """Return the shape of the model whose ``config.json`` lies in a folder; raise ModelError where it does not say it."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: its config.json cannot be read ({error}); save the model again") from error
    if not isinstance(config, Mapping):
        raise ModelError(f"model {name!r}: its config.json holds no mapping; save the model again")
    return shape_of(config, name)


def shape_of(config: Mapping[str, Any], name: str) -> ModelShape:
    """Return the shape that a configuration says; raise ModelError for the first size that is missing."""
    config = config.get("text_config") or config
    if not isinstance(config, Mapping):
        raise ModelError(f"model {name!r}: text_config of its config.json must be a mapping, got {config!r}")
    found = {size: _first(config, names, name) for size, names in _NAMES.items()}
    d, layers, heads = found["d_model"], found["n_layers"], found["n_heads"]
    family = str(config.get("model_type", ""))

    def size(*names: str) -> int | None:
        return next((found for one in names if (found := _size(config, one, name)) is not None), None)

    groups = 1 if config.get("multi_query") else size("num_key_value_heads", "num_kv_heads") or heads
    head_size = size("head_dim") or d // heads
    dense = size("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner") or 4 * d
    experts = size("num_experts", "num_local_experts") or 0
    one = size("moe_intermediate_size") or dense
    shared = (size("shared_expert_intermediate_size") or 0) if experts else 0
    d_ff = experts * one + shared if experts else dense
    run = (size("num_experts_per_tok") or 2) * one + shared if experts else dense
    gated = family not in UNGATED
    context = size("max_position_embeddings", "n_positions") or 1 << 30
    small = d + layers * 2 * d + layers * experts * d + (layers * d if shared else 0)
    if family in QKV_BIAS:
        small += layers * head_size * (heads + 2 * groups)
    if family in ALL_BIAS:
        small += layers * (head_size * (heads + 2 * groups) + 2 * d + d_ff + 2 * d) + d
    if family in LEARNED_POSITIONS:
        small += context * d
    window = size("sliding_window") if config.get("use_sliding_window", True) else None
    return ModelShape(
        **found,
        n_kv_heads=groups,
        head_size=head_size,
        d_ff=d_ff,
        d_ff_run=run,
        gated=gated,
        tied=bool(config.get("tie_word_embeddings", family in TIED)),
        small=small,
        context_length=context,
        window=window,
        n_experts=experts,
    )


def _first(config: Mapping[str, Any], names: tuple[str, ...], model: str) -> int:
    for name in names:
        value = _size(config, name, model)
        if value is not None:
            return value
    raise ModelError(f"model {model!r}: its config.json says no {names[0]}, so its size is not known")


def _size(config: Mapping[str, Any], name: str, model: str) -> int | None:
    """Return a size that a configuration says, None where it says none (nothing, null, 0)."""
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | None) or (value or 0) < 0:
        raise ModelError(f"model {model!r}: {name} of its config.json must be a whole number, got {value!r}")
    return value or None
