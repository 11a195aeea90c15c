"""Devices, dtypes and quantised weights: what is asked for is what is loaded, and what cannot be is refused by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
import torch
from skillneurons import loading
from skillneurons.errors import UserError
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


def parts_of(place: int | str, offloaded: int | str) -> dict[str, int | str]:
    outside = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), place)
    return {**outside, "model.layers.0": place, "model.layers.1": offloaded, "model.layers.2": place}


@pytest.mark.filterwarnings("default")  # accelerate's own, about weights that stay elsewhere
@pytest.mark.parametrize("device_map", [parts_of("cpu", "disk"), parts_of("disk", "cpu"), {"": "cpu"}])
def test_a_mapping_from_modules_to_devices(
    device_map: dict[str, int | str], model_folder: Callable[[str], Path]
) -> None:
    place = str(model_folder("llama"))
    spread, whole = sn.load_model(place, device_map=device_map), sn.load_model(place, device="cpu")
    assert spread.device == torch.device("cpu") and set(spread.devices) == set(map(str, device_map.values()))
    ids = torch.tensor([whole.encode("What is 3 and 4?")])
    with torch.no_grad():
        torch.testing.assert_close(spread.model(input_ids=ids).logits, whole.model(input_ids=ids).logits)
    for lm in (whole, spread):
        lm.model.set_attn_implementation("eager")
    mine, theirs = (sn.correlate(lm, [f"What is {i}?" for i in range(12)], list(range(12))) for lm in (spread, whole))
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs))


def test_a_device_that_is_not_there_is_named_by_its_module(model_folder: Callable[[str], Path]) -> None:
    n = torch.cuda.device_count()
    for place in (n, "cuda:99", "gpu"):
        with pytest.raises(sn.UserError) as caught:
            sn.load_model(str(model_folder("llama")), device_map={"model": "cpu", "lm_head": place})
        shown = 99 if place == "cuda:99" else place
        assert str(caught.value) == (
            f"model.device_map: 'lm_head' is to lie on {shown!r}, and torch sees {n} GPUs here, numbered from 0; write the number of a "
            "GPU, cpu or disk"
        )
    with pytest.raises(sn.UserError) as caught:
        sn.load_model(str(model_folder("llama")), max_memory={"0": "1GiB"})
    assert str(caught.value) == (
        "model.max_memory bounds what model.device_map may place where; write model.device_map: auto beside it"
    )


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees fewer than two GPUs here")
@pytest.mark.parametrize("device_map", ["balanced", {**parts_of(0, 1), "lm_head": 1}])
def test_two_gpus_give_what_one_device_gives(
    device_map: str | dict[str, int | str], model_folder: Callable[[str], Path]
) -> None:
    place = str(model_folder("llama"))
    spread, whole = sn.load_model(place, device_map=device_map), sn.load_model(place, device="cpu")
    assert spread.parity is not None and spread.parity.activations < 1e-4
    mine, theirs = (sn.correlate(lm, [f"What is {i}?" for i in range(12)], list(range(12))) for lm in (spread, whole))
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), atol=1e-4, rtol=1e-4)


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


def test_a_transformers_that_cannot_split_a_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.distributed

    def older(**options: Any) -> None:
        raise TypeError("unexpected keyword argument 'tp_plan'")

    monkeypatch.setattr(transformers.distributed, "DistributedConfig", older)
    with pytest.raises(UserError) as caught:
        loading._distributed("auto", 2)
    assert str(caught.value) == (
        "model.tp_plan 'auto' needs a newer transformers than the one that is installed: pip install -U transformers"
    )
