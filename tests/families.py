"""A tiny random model of every family that is supported, as ``from_pretrained`` would load it."""

from __future__ import annotations

from typing import Any

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
WITHOUT_GROUPS = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
EXPERTS = SIZES | {"moe_intermediate_size": 24, "num_experts_per_tok": 2, "num_experts": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen1.5, qwen2, qwen2.5": ("Qwen2", SIZES),
    "qwen3": ("Qwen3", SIZES | {"head_dim": 16}),
    "llama": ("Llama", SIZES),
    "mistral": ("Mistral", SIZES | {"sliding_window": None}),
    "mistral with a window": ("Mistral", SIZES | {"sliding_window": 64}),
    "gemma": ("Gemma", SIZES | {"head_dim": 8}),
    "gemma 2": ("Gemma2", SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64}),
    "gemma 3": ("Gemma3Text", SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64}),
    "phi": ("Phi", WITHOUT_GROUPS),
    "phi 3": ("Phi3", SIZES),
    "olmo": ("Olmo", SIZES),
    "olmo 2": ("Olmo2", SIZES),
    "gpt-2": (
        "GPT2",
        {
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 256,
            "initializer_range": 0.3,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
    ),
    "gpt-neox, pythia": ("GPTNeoX", WITHOUT_GROUPS),
    "opt": (
        "OPT",
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "init_std": 0.3,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "bloom": (
        "Bloom",
        {
            "hidden_size": 32,
            "n_layer": 3,
            "n_head": 4,
            "initializer_range": 0.3,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "falcon": ("Falcon", WITHOUT_GROUPS),
    "gpt-j": (
        "GPTJ",
        {
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 256,
            "rotary_dim": 8,
            "initializer_range": 0.3,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "stablelm": ("StableLm", SIZES),
    "cohere": ("Cohere", SIZES),
    "qwen1.5 moe, qwen2 moe": ("Qwen2Moe", EXPERTS | {"shared_expert_intermediate_size": 40, "decoder_sparse_step": 1}),
    "qwen3 moe": ("Qwen3Moe", EXPERTS | {"head_dim": 16, "decoder_sparse_step": 1}),
    "mixtral": ("Mixtral", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("Olmoe", EXPERTS),
}


def family_model(family: str, vocab_size: int) -> Any:
    """Return a tiny random model of a family."""
    import torch
    import transformers

    kind, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=vocab_size, **settings)
    return transformers.AutoModelForCausalLM.from_config(config)
