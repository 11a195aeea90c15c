"""Run inputs and the soft prompt once; what follows goes on from their keys and values.

``logits`` False leaves the vocabulary projection out. ``read`` says how many of the last positions anything looks at
afterwards: the last block's feed-forward layer, which nothing else depends on, then runs on those alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from skillneurons.errors import ModelError
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.narrowing import last_positions_only
from skillneurons.prompt import SoftPrompt


@dataclass(slots=True)
class Prefix:
    """Input and prompt after their forward pass: the cache, its mask, and the next token's log-probabilities."""

    cache: Any
    log_probs: torch.Tensor  # (B, vocabulary), nats; (B, 0) where no logits were asked for
    mask: torch.Tensor | None  # (B, T + m), 1 where a real token stands; None: everywhere


def run_prefix(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    *,
    logits: bool = True,
    read: int | None = None,
) -> Prefix:
    """Run inputs and the prompt; the vocabulary projection runs on the last position only."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row.ids)) + list(row.ids) for row in rows], device=lm.device)
    embedded = lm.embed(ids)
    if prompt is not None:
        virtual = prompt.embeddings.to(embedded.device, embedded.dtype).expand(len(rows), -1, -1)
        in_order = (embedded, virtual) if prompt.placement == "append" else (virtual, embedded)
        embedded = torch.cat(in_order, dim=1)
    places: dict[str, torch.Tensor] = {}
    if any(len(row.ids) < longest for row in rows):
        real = torch.tensor([[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in rows], device=lm.device)
        if prompt is not None:
            ones = real.new_ones(len(rows), prompt.num_virtual_tokens)
            real = torch.cat((real, ones) if prompt.placement == "append" else (ones, real), dim=1)
        places = {"attention_mask": real, "position_ids": (real.cumsum(1) - 1).clamp_min(0)}
    return _run(lm, embedded, places, None, logits, read)


def run_prompt(
    lm: LanguageModel, inputs: Prefix, prompt: SoftPrompt, *, logits: bool = True, read: int | None = None
) -> Prefix:
    """Run the prompt after inputs that have run without it; the inputs' cache grows by it."""
    virtual = prompt.embeddings.to(lm.device, lm.dtype).expand(len(inputs.log_probs), -1, -1)
    places = places_after(inputs, prompt.num_virtual_tokens)
    return _run(lm, virtual, places, inputs.cache, logits, read)


def _run(
    lm: LanguageModel,
    embedded: torch.Tensor,
    places: dict[str, torch.Tensor],
    cache: Any,
    logits: bool,
    read: int | None,
) -> Prefix:
    keep = lm.last_logits(1 if logits else 0)
    with last_positions_only(lm, read):
        out = lm.model(inputs_embeds=embedded, past_key_values=cache, use_cache=True, logits_to_keep=keep, **places)
    log_probs = next_log_probs(out) if logits else embedded.new_empty((len(embedded), 0))
    return Prefix(out.past_key_values, log_probs, places.get("attention_mask"))


def next_log_probs(out: Any) -> torch.Tensor:
    """Return the log-probabilities (nats) of the token after the last one of a forward pass, shape (B, vocabulary)."""
    log_probs: torch.Tensor = out.logits[:, -1].float().log_softmax(-1)
    return log_probs


def places_after(prefix: Prefix, n: int) -> dict[str, torch.Tensor]:
    """Return mask and position ids of ``n`` tokens after a prefix that was padded; nothing where it was not."""
    if prefix.mask is None:
        return {}
    mask = torch.cat((prefix.mask, prefix.mask.new_ones(len(prefix.mask), n)), dim=1)
    return {"attention_mask": mask, "position_ids": mask.cumsum(1)[:, -n:] - 1}


def by_length(rows: Sequence[EncodedExample]) -> list[list[EncodedExample]]:
    """Return runs of rows whose inputs have one length; rows stand by length."""
    return [list(same) for _, same in groupby(rows, key=lambda row: len(row.ids))]


def side_by_side(parts: Sequence[Prefix]) -> Prefix:
    """Return prefixes of different length as one batch, their keys and values padded on the left and masked."""
    if len(parts) == 1:
        return parts[0]
    cache = copied_cache(parts[0].cache)
    lengths = [part.cache.get_seq_length() for part in parts]
    longest = max(lengths)
    for i, layer in enumerate(cache.layers):
        for name in ("keys", "values"):
            padded = [
                torch.nn.functional.pad(getattr(part.cache.layers[i], name), (0, 0, longest - length, 0))
                for part, length in zip(parts, lengths, strict=True)
            ]
            setattr(layer, name, torch.cat(padded))
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = longest
    log_probs = torch.cat([part.log_probs for part in parts])
    real = [
        [0] * (longest - length) + [1] * length
        for part, length in zip(parts, lengths, strict=True)
        for _ in range(len(part.log_probs))
    ]
    return Prefix(cache, log_probs, torch.tensor(real, device=log_probs.device))


@torch.inference_mode()
def keeps_every_position(lm: LanguageModel, length: int) -> bool:
    """Return whether the model's cache keeps every position of a sequence of this length; a sliding window may not."""
    cache = copied_cache(
        lm.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=lm.device), use_cache=True).past_key_values
    )
    windows = [getattr(layer, "sliding_window", None) for layer in cache.layers]
    return all(window is None or length < window for window in windows)


def copied_cache(cache: Any) -> Any:
    """Return a cache of its own that shares the tensors; growing or selecting replaces tensors, never changes one.

    What is run on the copy leaves the cache as it was, whatever its kind: one of a sliding window cannot be cropped.
    Raise ModelError for a cache that is written in place.
    """
    from transformers.cache_utils import DynamicCache

    if not isinstance(cache, DynamicCache):
        raise ModelError(
            f"the model keeps a {type(cache).__name__}, which is changed in place; only models with a DynamicCache can be run"
        )
    own = copy.copy(cache)
    for name, value in vars(own).items():
        if isinstance(value, list):
            setattr(own, name, [one if isinstance(one, torch.Tensor) else copy.copy(one) for one in value])
    return own
