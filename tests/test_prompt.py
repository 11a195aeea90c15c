from __future__ import annotations

import json
from pathlib import Path

import pytest
import skillneurons as sn
import torch
from skillneurons.prompt import initial_prompt


def test_sampled_rows_are_rows_of_the_vocabulary(tiny: sn.LanguageModel) -> None:
    table = tiny.model.get_input_embeddings().weight
    prompt = initial_prompt(tiny, 6, seed=0)
    assert prompt.embeddings.shape == (6, tiny.d_model)
    assert all((table == row).all(dim=1).any() for row in prompt.embeddings)
    assert not torch.equal(prompt.embeddings, initial_prompt(tiny, 6, seed=1).embeddings)


def test_text_is_repeated_to_length(qwen: sn.LanguageModel) -> None:
    prompt = initial_prompt(qwen, 5, init="TEXT", text="12")
    ids = qwen.encode_answer("12")
    assert torch.equal(prompt.embeddings, qwen.embed(torch.tensor([*ids, *ids, ids[0]])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_virtual_tokens": 0}, "prompt.num_virtual_tokens must be at least 1, got 0"),
        ({"num_virtual_tokens": 2, "init": "TEXT"}, "prompt.prompt_tuning_init is TEXT, which needs"),
        ({"num_virtual_tokens": 2, "init": "NOISE"}, "'NOISE' must be one of SAMPLE_VOCAB, TEXT, RANDOM"),
    ],
)
def test_bad_settings_are_refused(qwen: sn.LanguageModel, settings: dict, message: str) -> None:
    with pytest.raises(sn.UserError, match=message):
        initial_prompt(qwen, **settings)


def test_saved_and_read_again(tiny: sn.LanguageModel, tmp_path: Path) -> None:
    prompt = initial_prompt(tiny, 4, init="RANDOM", seed=9)
    prompt.save_pretrained(tmp_path, tiny)
    again = sn.SoftPrompt.from_pretrained(tmp_path)
    assert torch.equal(again.embeddings, prompt.embeddings) and again.placement == "append"
    assert json.loads((tmp_path / "placement.json").read_text())["placement"] == "append"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # peft on new transformers
def test_peft_loads_the_same_virtual_tokens(tiny: sn.LanguageModel, tmp_path: Path) -> None:
    """PEFT prepends: its logits must equal ours with the same prompt placed in front."""
    peft = pytest.importorskip("peft")
    prompt = initial_prompt(tiny, 4, init="RANDOM", seed=9)
    prompt.save_pretrained(tmp_path, tiny)
    loaded = peft.PeftModel.from_pretrained(tiny.model, tmp_path)
    try:
        assert torch.equal(loaded.get_prompt(1)[0].detach(), prompt.embeddings)
        ids = torch.tensor([[3, 4, 5]])
        with torch.no_grad():
            theirs = loaded(input_ids=ids).logits[0, -1]
            ours = tiny.model(inputs_embeds=torch.cat([prompt.embeddings[None], tiny.embed(ids)], dim=1)).logits[0, -1]
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    finally:
        tiny.model.requires_grad_(False)


def test_a_damaged_prompt_names_its_folder_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(sn.ResultsError, match="not a readable prompt .*; delete the folder and run again"):
        sn.SoftPrompt.from_pretrained(tmp_path)
