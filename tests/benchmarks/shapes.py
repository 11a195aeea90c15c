"""The model that benchmarks share: Qwen2 with random weights, built where it runs, and examples of random tokens."""

from __future__ import annotations

import random
from typing import Any

import skillneurons as sn
import torch
from skillneurons.feed_forward import find_feed_forward
from skillneurons.inputs import EncodedExample

SHAPES: dict[str, dict[str, int]] = {
    "small": {"hidden": 256, "layers": 8, "d_ff": 1408},
    "1.8b": {"hidden": 2048, "layers": 24, "d_ff": 5504},  # Qwen1.5-1.8B
}


def qwen2(
    vocabulary: int,
    *,
    hidden: int = 256,
    layers: int = 8,
    d_ff: int = 1408,
    device: str = "cpu",
    dtype: str = "float32",
) -> sn.LanguageModel:
    """Return a frozen random Qwen2; its tokenizer is only there for its end of text."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    heads = hidden // 64 if hidden % 64 == 0 else 4
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=d_ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    with torch.device(device):
        model: Any = Qwen2ForCausalLM(config)
    model.to(getattr(torch, dtype)).requires_grad_(False).eval()
    return sn.LanguageModel(
        name="random Qwen2",
        revision="seed 0",
        model=model,
        tokenizer=None,
        layers=find_feed_forward(model, "random Qwen2"),
        uses_chat_template=False,
    )


def rows(n: int, vocabulary: int, shortest: int, longest: int, answer: int, seed: int = 0) -> list[EncodedExample]:
    """Return examples of random tokens: inputs of ``shortest`` to ``longest``, answers of ``answer`` tokens."""
    rng = random.Random(f"benchmark/{seed}")
    found = []
    for i in range(n):
        ids = tuple(rng.randrange(vocabulary) for _ in range(rng.randint(shortest, longest)))
        target = tuple(rng.randrange(vocabulary) for _ in range(answer))
        found.append(EncodedExample(i, sn.Example(str(i), "", "x"), "", ids, target, None))
    return found
