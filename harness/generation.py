"""Let the model write after a prefix: greedily, or by seeded draws; and check a text it is said to have written.

A second turn holds a text of the model's own, so its inputs differ in length: they are padded on the left, masked, and
their positions count real tokens only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from skillneurons.errors import CellError
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.prefix import Prefix, copied_cache, next_log_probs, places_after


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
    keep = lm.last_logits(1)
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
            input_ids=token[:, None], past_key_values=prefix.cache, use_cache=True, logits_to_keep=keep, **places
        )
        log_probs = next_log_probs(out)
    tokens, chosen, margins, entropies, lives = (torch.stack(column, 1).cpu() for column in zip(*steps, strict=True))
    n = lives.sum(1)
    means = [(values.double() * lives).sum(1) / n for values in (margins, entropies)]
    sums = (chosen.double() * lives).sum(1)
    return [
        Continuation(tokens[i, : n[i]].tolist(), float(sums[i]), float(means[0][i]), float(means[1][i]))
        for i in range(len(n))
    ]


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
