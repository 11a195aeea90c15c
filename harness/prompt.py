"""The soft prompt: ``num_virtual_tokens`` trainable embeddings placed after the input.

Under a causal mask a prompt placed before the input never sees it, so its activations are the same
for every example; appended it sees the whole input and the answer follows it. Saved in PEFT's
prompt-tuning form; PEFT prepends on load, so the placement is kept in ``placement.json`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from skillneurons.atomic import make_folder, write_together
from skillneurons.errors import ResultsError, UserError
from skillneurons.model import LanguageModel
from skillneurons.neuron_split import whole_weight

INITS = ("SAMPLE_VOCAB", "TEXT", "RANDOM")
PLACEMENTS = ("append", "prepend")


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """Embeddings of shape (num_virtual_tokens, d_model), float32, and how they were trained."""

    embeddings: torch.Tensor
    placement: str = "append"
    base_model: str = ""
    init: str = "SAMPLE_VOCAB"
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)

    @property
    def num_virtual_tokens(self) -> int:
        return int(self.embeddings.shape[0])

    def save_pretrained(self, path: str | Path, lm: LanguageModel) -> None:
        """Write ``adapter_config.json``, ``adapter_model.safetensors``, ``placement.json``, ``history.json``."""
        folder = Path(path)
        config = lm.model.config.get_text_config()
        adapter = {
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model,
            "inference_mode": True,
            "num_virtual_tokens": self.num_virtual_tokens,
            "token_dim": int(self.embeddings.shape[1]),
            "num_transformer_submodules": 1,
            "num_attention_heads": int(config.num_attention_heads),
            "num_layers": int(config.num_hidden_layers),
            "prompt_tuning_init": "RANDOM" if self.init == "TEXT" else self.init,
            "revision": None,
        }
        make_folder(folder)
        write_together(
            {
                folder / "adapter_model.safetensors": save({"prompt_embeddings": self.embeddings.contiguous()}),
                folder / "adapter_config.json": _json(adapter),
                folder / "history.json": _json(list(self.history)),
                folder / "placement.json": _json({"placement": self.placement, "init": self.init}),
            }
        )

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SoftPrompt:
        """Read a prompt written by ``save_pretrained`` or by PEFT (which has no placement: prepend)."""
        folder = Path(path)
        try:
            tensors = load_file(folder / "adapter_model.safetensors")
            adapter = json.loads((folder / "adapter_config.json").read_text("utf-8"))
            placed = folder / "placement.json"
            placement = json.loads(placed.read_text("utf-8")) if placed.exists() else {"placement": "prepend"}
            kept = folder / "history.json"
            history = json.loads(kept.read_text("utf-8")) if kept.exists() else []
            embeddings, where = tensors["prompt_embeddings"].float(), placement["placement"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ResultsError(f"{folder}: not a readable prompt ({error}); delete the folder and run again") from error
        return cls(
            embeddings=embeddings,
            placement=where,
            base_model=str(adapter.get("base_model_name_or_path", "")),
            init=placement.get("init", adapter.get("prompt_tuning_init", "SAMPLE_VOCAB")),
            history=tuple(history),
        )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def initial_prompt(
    lm: LanguageModel,
    num_virtual_tokens: int,
    *,
    init: str = "SAMPLE_VOCAB",
    text: str | None = None,
    seed: int = 0,
    placement: str = "append",
) -> SoftPrompt:
    """Return an untrained prompt: sampled vocabulary rows, the tokens of a text, or random numbers.

    SAMPLE_VOCAB draws rows of the input embeddings; TEXT repeats or cuts the text's tokens to
    length; RANDOM draws from a normal of the embeddings' own standard deviation.
    """
    if num_virtual_tokens < 1:
        raise UserError(f"prompt.num_virtual_tokens must be at least 1, got {num_virtual_tokens}")
    if init not in INITS or placement not in PLACEMENTS:
        raise UserError(
            f"prompt.prompt_tuning_init {init!r} must be one of {', '.join(INITS)}; "
            f"prompt.placement {placement!r} one of {', '.join(PLACEMENTS)}"
        )
    generator = torch.Generator().manual_seed(seed)
    if init == "RANDOM":
        spread = whole_weight(lm.model.get_input_embeddings().weight.detach()).float().std().cpu()
        embeddings = torch.randn(num_virtual_tokens, lm.d_model, generator=generator) * spread
    else:
        if init == "TEXT":
            ids = lm.encode_answer(text or "")
            if not ids:
                raise UserError("prompt.prompt_tuning_init is TEXT, which needs prompt.prompt_tuning_init_text")
            rows = torch.tensor([ids[i % len(ids)] for i in range(num_virtual_tokens)])
        else:
            rows = torch.randint(0, len(lm.tokenizer), (num_virtual_tokens,), generator=generator)
        embeddings = lm.embed(rows.to(lm.device)).float().cpu()
    return SoftPrompt(embeddings.clone(), placement=placement, base_model=lm.name, init=init)
