"""Devices, dtypes and quantised weights: what is asked for is what is loaded, and what cannot be is refused by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import skillneurons as sn
import torch
from skillneurons.loading import pick_device
from skillneurons.model_source import pocket_folder

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (.[quant])"
)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "torch sees no GPU here; use --device cpu or auto"),
        ("gpu", "'gpu' is not a device; use auto, cpu, cuda or cuda:N"),
        ("meta", "models run on cpu, cuda, mps or xpu"),
        ("mps", "torch cannot use it here; use --device cpu or auto"),
    ],
)
def test_a_device_that_does_not_exist_is_refused_before_anything_is_loaded(device: str, message: str) -> None:
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is a GPU here")
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is an Apple GPU here")
    with pytest.raises(sn.UserError, match=message):
        sn.load_model("nobody/nothing", device=device)
    assert pick_device("cpu") == torch.device("cpu")


def test_a_gpu_number_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(sn.UserError, match="device 'cuda:2': there are 2 GPUs, cuda:0 on"):
        pick_device("cuda:2")


def test_a_device_map_is_accelerates_and_gives_the_same(model_folder: Callable[[str], Path]) -> None:
    """``sequential`` on a machine without a GPU puts everything on the CPU, through accelerate's loading and hooks."""
    place = str(model_folder("qwen2"))
    spread, whole = sn.load_model(place, device_map="sequential"), sn.load_model(place, device="cpu")
    if torch.cuda.is_available():
        assert spread.model.hf_device_map
    else:
        assert spread.devices == ["cpu"]
    ids = torch.tensor([whole.encode("What is 3 and 4?")])
    with torch.no_grad():
        torch.testing.assert_close(spread.model(input_ids=ids).logits, whole.model(input_ids=ids).logits)
    with pytest.raises(
        sn.UserError, match="model.device_map 'auto' chooses the devices itself; leave --device at auto"
    ):
        sn.load_model(place, device="cpu", device_map="auto")


def test_a_model_over_several_devices_is_given_a_plain_number_of_logits(qwen: sn.LanguageModel) -> None:
    assert torch.equal(qwen.last_logits(2), torch.tensor([-2, -1])) and len(qwen.last_logits(0)) == 0
    qwen.model.hf_device_map = {"model.embed_tokens": 0, "model.layers": 1, "lm_head": "cpu"}
    try:
        assert qwen.devices == ["cpu", "cuda:0", "cuda:1"]
        assert qwen.last_logits(2) == 2 and qwen.last_logits(0) == 1
    finally:
        del qwen.model.hf_device_map


def test_quantised_loading_names_the_package_it_needs(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(model_folder("qwen2"))
    with pytest.raises(sn.UserError, match="model.quantization '2bit': must be one of 8bit, 4bit"):
        sn.load_model(place, quantization="2bit")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(
        sn.UserError, match="model.quantization '4bit' needs the package bitsandbytes, .*pip install bitsandbytes"
    ):
        sn.load_model(place, quantization="4bit")


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantised_weights_are_hooked_and_checked(tmp_path: Path, quantization: str) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    torch.manual_seed(0)
    config = LlamaConfig(  # widths that 4-bit blocks of 64 divide
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lm = sn.load_model(str(tmp_path), device="cpu", quantization=quantization)
    assert "bitsandbytes" in type(lm.projections[0]).__module__ and lm.d_ff == 128
    assert lm.parity is not None and lm.parity.distribution < 0.2
    found = sn.correlate(lm, [f"What is {i}?" for i in range(12)], list(range(12)))
    assert found.shape == (1, 2, 128)
