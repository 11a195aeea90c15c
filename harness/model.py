"""A frozen causal language model and where its feed-forward neurons are.

Any architecture that ``AutoModelForCausalLM`` loads is welcome if each block has one feed-forward
output projection that can be told by structure: the one linear map into ``d_model`` outside the
attention. Its input, of width ``d_ff``, is the activation of the block's neurons.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from skillneurons.errors import ModelError, UserError
from skillneurons.model_source import resolve_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
INSTRUCTED = re.compile(r"chat|instruct|(^|[-_])it($|[-_])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen model with its tokenizer. ``projections[l]`` is layer l's feed-forward output projection."""

    name: str
    revision: str
    model: Any
    tokenizer: Any
    projections: tuple[torch.nn.Module, ...]
    d_ff: int
    uses_chat_template: bool

    @property
    def n_layers(self) -> int:
        return len(self.projections)

    @property
    def n_neurons(self) -> int:
        return self.n_layers * self.d_ff

    @property
    def d_model(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def architecture(self) -> str:
        return type(self.model).__name__

    @property
    def context_length(self) -> int:
        config = self.model.config
        length: Any = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 1 << 30)
        return int(length)

    def text(self, prompt: str) -> str:
        """Return the exact text that is tokenised for a prompt (chat template included)."""
        return self.dialogue((prompt,))

    def dialogue(self, turns: Sequence[str]) -> str:
        """Return the exact text of a dialogue that the user begins and ends; without a template, a line per turn."""
        if not self.uses_chat_template:
            return "\n".join(turns)
        messages = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of an input text; a template brings its own special tokens."""
        return list(self.tokenizer(text, add_special_tokens=not self.uses_chat_template)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """Return the token ids of an answer as it stands, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the input embeddings of token ids, shape (*ids.shape, d_model)."""
        embeddings: torch.Tensor = self.model.get_input_embeddings()(ids)
        return embeddings


def pick_device(device: str) -> torch.device:
    """Return the device of a setting: ``auto`` takes a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: torch sees no GPU here; use --device cpu or auto")
    return torch.device(device)


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    chat_template: str = "auto",
    trust_remote_code: bool = False,
    ffn: str | None = None,
) -> LanguageModel:
    """Load ``pocket``, a hub id, or a folder saved by ``save_pretrained``; the weights are frozen.

    ``ffn`` names the output projection inside a block (``mlp.down_proj``) where structure does not
    tell. ``chat_template``: ``auto`` applies it where the tokenizer has one and the model's name says
    that it was tuned on instructions. Raise ModelError for anything missing or not understood.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # quiet in a pipe
    if dtype not in DTYPES:
        raise UserError(f"model.dtype {dtype!r}: must be one of {', '.join(DTYPES)}")
    source, resolved = resolve_model(name, revision)
    options = {"trust_remote_code": trust_remote_code}
    if source == name and not Path(source).is_dir():
        options["revision"] = resolved  # type: ignore[assignment]
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=DTYPES[dtype], use_safetensors=True, **options)
    except Exception as error:  # a damaged file surfaces as almost any type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"model {name!r} cannot be loaded: {reason}") from error
    model.requires_grad_(False).eval().to(pick_device(device))
    projections = find_projections(model, name, ffn)
    return LanguageModel(
        name=name,
        revision=resolved,
        model=model,
        tokenizer=tokenizer,
        projections=projections,
        d_ff=_widths(projections[0])[0],
        uses_chat_template=_wants_template(chat_template, tokenizer, name),
    )


def _wants_template(setting: str, tokenizer: Any, name: str) -> bool:
    has = getattr(tokenizer, "chat_template", None) is not None
    if setting == "on" and not has:
        raise ModelError(f"model {name!r}: model.chat_template is 'on', but its tokenizer has no chat template")
    return setting == "on" or (setting == "auto" and has and bool(INSTRUCTED.search(Path(name).name)))


def _widths(module: torch.nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear map; transformers' Conv1D keeps its weight transposed."""
    weight: Any = module.weight
    if isinstance(module, torch.nn.Linear):
        return int(weight.shape[1]), int(weight.shape[0])
    return int(weight.shape[0]), int(weight.shape[1])


def find_projections(model: Any, name: str, ffn: str | None = None) -> tuple[torch.nn.Module, ...]:
    """Return the feed-forward output projection of every block, found by structure or by ``ffn``."""
    from transformers.pytorch_utils import Conv1D

    depth = int(model.config.get_text_config().num_hidden_layers)
    d_model = int(model.get_input_embeddings().weight.shape[1])
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    if not stacks:
        raise ModelError(f"model {name!r} ({type(model).__name__}): found no list of {depth} blocks")
    found = []
    for index, block in enumerate(stacks[0]):
        linear = {
            path: module
            for path, module in block.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D) and not ATTENTION.search(path)
        }
        if ffn is not None:
            if ffn not in linear:
                raise ModelError(
                    f"model {name!r}: block {index} has no linear module {ffn!r} (model.ffn); it has: {', '.join(linear)}"
                )
            found.append(linear[ffn])
            continue
        outputs = [path for path, module in linear.items() if _widths(module)[1] == d_model]
        if len(outputs) != 1:
            raise ModelError(
                f"model {name!r} ({type(model).__name__}): block {index} has {len(outputs)} candidates for the "
                f"feed-forward output projection ({', '.join(outputs) or 'none'}); name it with --set model.ffn=PATH; "
                f"linear modules: {', '.join(linear)}"
            )
        found.append(linear[outputs[0]])
    if len({_widths(projection)[0] for projection in found}) != 1:
        raise ModelError(
            f"model {name!r}: its blocks differ in the number of feed-forward neurons, which is not supported"
        )
    return tuple(found)
