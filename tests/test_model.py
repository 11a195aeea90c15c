from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.model_source import resolve_model

WIDTHS = {"Qwen2ForCausalLM": 48, "LlamaForCausalLM": 48, "GPT2LMHeadModel": 128}


def test_the_output_projection_is_found_by_structure(tiny: sn.LanguageModel) -> None:
    assert (tiny.n_layers, tiny.d_ff, tiny.d_model) == (3, WIDTHS[tiny.architecture], 32)
    names = [name for name, module in tiny.model.named_modules() if module in tiny.projections]
    assert [name.split(".")[-1] for name in names] == ["c_proj" if tiny.architecture[0] == "G" else "down_proj"] * 3
    assert all("attn" not in name for name in names)


def test_weights_are_frozen_and_in_evaluation(tiny: sn.LanguageModel) -> None:
    assert not any(p.requires_grad for p in tiny.model.parameters()) and not tiny.model.training


def test_a_revision_is_the_content(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    source = model_folder("qwen2")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    assert resolve_model(str(copy))[1] == resolve_model(str(source))[1]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert resolve_model(str(copy))[1] != resolve_model(str(source))[1]


def copied(model_folder: Callable[[str], Path], place: Path, without: str) -> str:
    shutil.copytree(model_folder("qwen2"), place)
    for path in place.glob(without):
        path.unlink()
    return str(place)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("config.json", "the folder has no config.json; save the model there with save_pretrained"),
        ("*.safetensors", r"the folder has no \*.safetensors weights; save_pretrained writes them"),
        ("tokenizer*", "the folder has no tokenizer; save it there with tokenizer.save_pretrained"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(
    model_folder: Callable[[str], Path], tmp_path: Path, without: str, message: str
) -> None:
    name = copied(model_folder, tmp_path / "m", without)
    with pytest.raises(sn.ModelError, match=message):
        sn.load_model(name)


def test_pickled_weights_are_never_loaded(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    name = copied(model_folder, tmp_path / "m", "*.safetensors")
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(sn.ModelError, match=r"found pytorch_model.bin, but pickled weights are never loaded"):
        sn.load_model(name)


def test_damaged_weights_are_a_model_error(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    name = copied(model_folder, tmp_path / "m", "nothing")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(sn.ModelError, match="cannot be loaded: "):
        sn.load_model(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all"])
def test_a_missing_folder(name: str) -> None:
    with pytest.raises(sn.ModelError) as error:
        sn.load_model(name)
    assert str(error.value) == (
        f"model {name!r}: no such folder; give a folder saved by save_pretrained, a hub id, 'pocket' or 'pocket-small'"
    )


def test_a_hub_id_that_cannot_be_reached() -> None:
    with pytest.raises(sn.ModelError, match="model 'nobody/nothing': no such folder, and the hub gives no model"):
        sn.load_model("nobody/nothing")


def test_an_ffn_path_that_does_not_exist_lists_what_does(model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(sn.ModelError, match=r"no linear module 'mlp.out' \(model.ffn\); it has: mlp.gate_proj"):
        sn.load_model(str(model_folder("qwen2")), ffn="mlp.out")


def test_a_chat_template_is_applied_where_the_name_says_instruct(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    place = tmp_path / "tiny-instruct"
    shutil.copytree(model_folder("qwen2"), place)
    config = json.loads((place / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}"
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    assert sn.load_model(str(place)).text("hello") == "<u>hello</u>"
    assert sn.load_model(str(place), chat_template="off").text("hello") == "hello"
    with pytest.raises(sn.ModelError, match="its tokenizer has no chat template"):
        sn.load_model(str(model_folder("qwen2")), chat_template="on")
