"""A frozen causal language model and its tokenizer.

Any architecture that ``AutoModelForCausalLM`` loads is welcome if its feed-forward neurons can be told by structure
(``feed_forward``). Weights lie on one device, or spread over several by accelerate, or split over several processes (``neuron_split``);
they may be quantised by bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from skillneurons.feed_forward import FeedForward, output_projections
from skillneurons.neuron_split import NeuronSplit


@dataclass(frozen=True)
class Parity:
    """How far the cached path is from the plain forward pass on a few probes, and recorded neurons from what they put out.

    ``distribution`` is the largest total variation distance of next-token distributions (0 to 1), ``activations`` and
    ``feed_forward`` are largest differences as a share of the largest number.
    """

    distribution: float
    activations: float
    feed_forward: float


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen model with its tokenizer; ``layers[l]`` is layer l's feed-forward layer."""

    name: str
    revision: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    layers: tuple[FeedForward, ...] = field(repr=False)
    uses_chat_template: bool
    quantization: str | None = None
    parity: Parity | None = None
    split: NeuronSplit | None = None  # where ranks hold a part of every layer each

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def d_ff(self) -> int:
        """The number of feed-forward neurons of a layer: in a mixture, those of all experts."""
        return self.layers[0].d_ff

    @property
    def has_experts(self) -> bool:
        """Whether the layers are mixtures of experts, so that a neuron may have no activation."""
        return any(layer.experts is not None for layer in self.layers)

    @property
    def projections(self) -> tuple[torch.nn.Module, ...]:
        """The output projection of every layer; raises for a mixture of experts."""
        return output_projections(self.layers, "a change of neurons", self.name)

    @property
    def last_ffn(self) -> torch.nn.Module | None:
        """The last feed-forward layer, where it is a module of its own."""
        return self.layers[-1].module

    @property
    def n_neurons(self) -> int:
        return self.n_layers * self.d_ff

    @property
    def d_model(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def device(self) -> torch.device:
        """Where token ids, embeddings and logits are: the device of the first layer."""
        embeddings = self.model.get_input_embeddings()
        device: torch.device = embeddings.weight.device
        if embeddings.weight.is_meta:  # kept elsewhere until it is used: accelerate's hook knows where that is
            device = _device_of(embeddings._hf_hook.execution_device)
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def devices(self) -> list[str]:
        """The devices that the weights lie on, ``disk`` among them where some wait there until they are used."""
        spread = getattr(self.model, "hf_device_map", None) or {"": self.device}
        return sorted({"disk" if place == "disk" else str(_device_of(place)) for place in spread.values()})

    @property
    def tokens_at_once(self) -> int | None:
        """How many tokens of input a batch of a pass has at most: a CPU gains nothing by more, and memory stays flat."""
        return 512 if self.device.type == "cpu" else None

    def last_logits(self, n: int) -> Any:
        """Return ``logits_to_keep`` of the last ``n`` positions.

        Indices make the model gather those rows before the vocabulary projection; a plain number makes it slice them, and a
        product with a strided slice is done row by row, each reading the whole vocabulary matrix again. A model on
        several devices is given the number (at least 1), because nobody outside knows where its last layer stands.
        """
        return torch.arange(-n, 0, device=self.device) if len(self.devices) == 1 else max(n, 1)

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


def _device_of(place: Any) -> torch.device:
    """Return a device that accelerate gives as a number, a name or a device."""
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
