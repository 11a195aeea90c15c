"""Run inputs with a soft prompt and let the model write: greedily, or by seeded draws.

Inputs of a first turn run by length and are not padded. A second turn holds a text of the model's own, so
its inputs differ in length: they are padded on the left, masked, and their positions count real tokens only.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from skillneurons.errors import CellError, ModelError
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt


@dataclass(slots=True)
class Prefix:
    """Input and prompt after their forward pass: the cache, its mask, and the next token's log-probabilities."""

    cache: Any
    log_probs: torch.Tensor  # (B, vocabulary), nats
    mask: torch.Tensor | None  # (B, T + m), 1 where a real token stands; None: everywhere


@dataclass(frozen=True, slots=True)
class Sampling:
    """How texts are drawn: ``temperature`` (0: greedily) and the seed.

    ``generation`` numbers the text of an example and ``turn`` the turn of its dialogue, each with numbers of its own.
    """

    temperature: float
    seed: int
    generation: int
    turn: int = 0


@dataclass(slots=True)
class Continuation:
    """A continuation: its tokens, their summed log-probability (nats), and means over them."""

    ids: list[int]
    log_prob: float
    margin: float
    entropy: float


def run_prefix(lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt | None) -> Prefix:
    """Run inputs and the prompt; the vocabulary projection runs on the last row only."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row.ids)) + list(row.ids) for row in rows], device=lm.device)
    real = torch.tensor([[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in rows], device=lm.device)
    embedded = lm.embed(ids)
    if prompt is not None:
        virtual = prompt.embeddings.to(embedded.device, embedded.dtype).expand(len(rows), -1, -1)
        ones = real.new_ones(len(rows), prompt.num_virtual_tokens)
        in_order = (embedded, virtual) if prompt.placement == "append" else (virtual, embedded)
        embedded = torch.cat(in_order, dim=1)
        real = torch.cat((real, ones) if prompt.placement == "append" else (ones, real), dim=1)
    if bool(real.all()):
        out = lm.model(inputs_embeds=embedded, use_cache=True, logits_to_keep=1)
        return Prefix(out.past_key_values, _next(out), None)
    out = lm.model(
        inputs_embeds=embedded,
        attention_mask=real,
        position_ids=(real.cumsum(1) - 1).clamp_min(0),
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix(out.past_key_values, _next(out), real)


def run_apart(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    after: Callable[[], None] | None = None,
) -> Prefix:
    """Return what ``run_prefix`` does with inputs of one length run together, not padded, and put side by side afterwards.

    Texts are then written for all rows at once, which costs as many steps as for a few. Rows stand by length; ``after``
    is called after each length's pass.
    """
    parts = []
    for _, same in groupby(rows, key=lambda row: len(row.ids)):
        parts.append(run_prefix(lm, list(same), prompt))
        if after:
            after()
    return _side_by_side(parts)


def _side_by_side(parts: Sequence[Prefix]) -> Prefix:
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


def run_prompt(lm: LanguageModel, inputs: Prefix, prompt: SoftPrompt) -> Prefix:
    """Run the prompt after inputs that have run without it; the inputs' cache grows by it."""
    m = prompt.num_virtual_tokens
    virtual = prompt.embeddings.to(lm.device, lm.dtype).expand(len(inputs.log_probs), -1, -1)
    places = places_after(inputs, m)
    out = lm.model(inputs_embeds=virtual, past_key_values=inputs.cache, use_cache=True, logits_to_keep=1, **places)
    return Prefix(out.past_key_values, _next(out), places.get("attention_mask"))


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


def _next(out: Any) -> torch.Tensor:
    log_probs: torch.Tensor = out.logits[:, -1].float().log_softmax(-1)
    return log_probs


def generate(
    lm: LanguageModel,
    prefix: Prefix,
    max_new_tokens: int,
    rows: Sequence[EncodedExample] = (),
    sampling: Sampling | None = None,
) -> list[Continuation]:
    """Continue each row until its end of text or ``max_new_tokens``; uses the cache up.

    Greedy without ``sampling``. A drawn text depends on its example's id, the seed and the generation
    alone, not on the other rows.
    """
    eos = lm.tokenizer.eos_token_id
    log_probs, mask, steps = prefix.log_probs, prefix.mask, []
    draws = [] if sampling is None or sampling.temperature == 0 else [_stream(sampling, row) for row in rows]
    alive = torch.ones(log_probs.shape[0], dtype=torch.bool, device=log_probs.device)
    for step in range(max_new_tokens):
        top = log_probs.topk(2, dim=-1)
        token = _drawn(log_probs, sampling.temperature, draws) if sampling and draws else top.indices[:, 0]
        chosen = log_probs.gather(1, token[:, None])[:, 0]
        entropy = -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)
        margin = top.values[:, 0].exp() - top.values[:, 1].exp()
        steps.append((token, chosen, margin, entropy, alive))
        if eos is not None:
            alive = alive & (token != eos)
        if not alive.any() or step + 1 == max_new_tokens:
            break
        places: dict[str, torch.Tensor] = {}
        if mask is not None:
            mask = torch.cat((mask, mask.new_ones(mask.shape[0], 1)), dim=1)
            places = {"attention_mask": mask, "position_ids": mask.sum(1, keepdim=True) - 1}
        out = lm.model(
            input_ids=token[:, None], past_key_values=prefix.cache, use_cache=True, logits_to_keep=1, **places
        )
        log_probs = _next(out)
    tokens, chosen, margins, entropies, lives = (torch.stack(column, 1).cpu() for column in zip(*steps, strict=True))
    n = lives.sum(1)
    means = [(values.double() * lives).sum(1) / n for values in (margins, entropies)]
    sums = (chosen.double() * lives).sum(1)
    return [
        Continuation(tokens[i, : n[i]].tolist(), float(sums[i]), float(means[0][i]), float(means[1][i]))
        for i in range(len(n))
    ]


def places_after(prefix: Prefix, n: int) -> dict[str, torch.Tensor]:
    """Return mask and position ids of ``n`` tokens after a prefix that was padded; nothing where it was not."""
    if prefix.mask is None:
        return {}
    mask = torch.cat((prefix.mask, prefix.mask.new_ones(len(prefix.mask), n)), dim=1)
    return {"attention_mask": mask, "position_ids": mask.cumsum(1)[:, -n:] - 1}


def read_draft(lm: LanguageModel, prefix: Prefix, drafts: Sequence[Sequence[int]]) -> list[Continuation | None]:
    """Return, for each row, the continuation that greedy decoding would write if it is the draft, else None.

    Each draft is a whole text (it ends with the end of text, or at the limit of its length). All its tokens run in one pass;
    it stands if each is the most probable one after those before it. The cache stays as it is.
    """
    longest = max(len(draft) for draft in drafts)
    ids = torch.tensor([[*draft, *[0] * (longest - len(draft))] for draft in drafts], device=prefix.log_probs.device)
    log_probs = prefix.log_probs[:, None]
    if longest > 1:
        places = places_after(prefix, longest - 1)
        cache = copied_cache(prefix.cache)
        out = lm.model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, **places)
        log_probs = torch.cat((log_probs, out.logits.float().log_softmax(-1)), dim=1)  # (B, longest, vocabulary)
    lengths = torch.tensor([len(draft) for draft in drafts], device=ids.device)
    real = torch.arange(longest, device=ids.device)[None] < lengths[:, None]
    top = log_probs.topk(2, dim=-1)
    stands = ((top.indices[..., 0] == ids) | ~real).all(dim=1).tolist()
    margins = (top.values[..., 0].exp() - top.values[..., 1].exp()).double() * real
    entropies = -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1).double() * real
    chosen = (log_probs.gather(2, ids[..., None])[..., 0].double() * real).sum(1)
    means = [(values.sum(1) / lengths).tolist() for values in (margins, entropies)]
    return [
        Continuation(list(draft), float(chosen[i]), means[0][i], means[1][i]) if stands[i] else None
        for i, draft in enumerate(drafts)
    ]


def _stream(sampling: Sampling, row: EncodedExample) -> random.Random:
    turn = f"/turn {sampling.turn}" if sampling.turn else ""
    return random.Random(f"generation/{sampling.seed}/{sampling.generation}/{row.example.id}{turn}")


def _drawn(log_probs: torch.Tensor, temperature: float, draws: Sequence[random.Random]) -> torch.Tensor:
    """Draw one token per row: the first whose cumulated probability passes the row's own number."""
    cumulated = (log_probs.double() / temperature).softmax(-1).cumsum(-1)
    numbers = torch.tensor([draw.random() for draw in draws], dtype=torch.float64, device=log_probs.device)
    token: torch.Tensor = (cumulated < numbers[:, None] * cumulated[:, -1:]).sum(-1)
    return token


def second_turn(
    lm: LanguageModel, rows: Sequence[EncodedExample], turns: Sequence[tuple[str, str, str]]
) -> list[EncodedExample]:
    """Return the rows with the whole dialogue (prompt, own text, request) as their input."""
    again = []
    for row, turn in zip(rows, turns, strict=True):
        text = lm.dialogue(turn)
        ids = tuple(lm.encode(text))
        if row.truncated:
            ids = ids[-row.room_for_dialogue :]
        if len(ids) > row.room_for_dialogue:
            raise CellError(
                f"example {row.example.id!r}: its second turn has {len(ids)} tokens, but {lm.name!r} has room for "
                f"{row.room_for_dialogue} beside the prompt and the answer (context {lm.context_length})"
            )
        again.append(replace(row, text=text, ids=ids))
    return again
