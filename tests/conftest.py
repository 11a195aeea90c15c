"""Tiny models and tasks: random weights, three architectures, saved and loaded as a hub model is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import skillneurons as sn
from parity_task import parity_examples
from skillneurons.model_source import pocket_folder

ARCHITECTURES = ("qwen2", "llama", "gpt2")


def pytest_configure() -> None:
    """Leave out the settings that the environment of whoever runs the tests gives."""
    for name in [name for name in os.environ if name.startswith("SKILLNEURONS_") and name != "SKILLNEURONS_BROWSER"]:
        del os.environ[name]


def build_model(architecture: str, vocab_size: int, max_position_embeddings: int = 256) -> Any:
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    torch.manual_seed(0)
    wide = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_position_embeddings,
        "initializer_range": 0.3,
    }
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**wide, tie_word_embeddings=True))
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**wide, bos_token_id=0, eos_token_id=0))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=max_position_embeddings,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function giving a folder with a tiny random model of an architecture and a tokenizer."""
    from transformers import AutoTokenizer

    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            place = tmp_path_factory.mktemp(architecture)
            tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
            build_model(architecture, len(tokenizer)).save_pretrained(place)
            tokenizer.save_pretrained(place)
            made[architecture] = place
        return made[architecture]

    return folder


@pytest.fixture(scope="session", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> sn.LanguageModel:
    """Return a tiny random model of each architecture in turn."""
    return sn.load_model(str(model_folder(request.param)), device="cpu")


@pytest.fixture(scope="session")
def qwen(model_folder: Callable[[str], Path]) -> sn.LanguageModel:
    """Return the tiny random Qwen2 model."""
    return sn.load_model(str(model_folder("qwen2")), device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep float results the same from machine to machine: one torch thread."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    yield


@pytest.fixture
def parity() -> sn.Task:
    """Return a small choice task of one's own, as a stranger would write it."""

    def load(split: str, *, limit: int | None = None, seed: int = 0) -> list[sn.Example]:
        return parity_examples(split, limit or 40)

    return sn.Task("parity", "1", load, kind="choice", chance=0.5, label_columns=("even",))
