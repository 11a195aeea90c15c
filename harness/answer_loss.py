"""The loss of a prompt: cross-entropy (nats) on the answer tokens of a batch.

What is answered: the target's tokens (open answer, with its end of text), the verbalizer's tokens (choice), the completion
(generation). With the prompt after the input, the inputs' keys and values are cached and only prompt and answer tokens run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from skillneurons.errors import UserError
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.prefix import places_after

IGNORED = -100


def answer_loss(
    lm: LanguageModel, rows: Sequence[EncodedExample], virtual: torch.Tensor, placement: str
) -> tuple[torch.Tensor, int]:
    """Return the summed cross-entropy (nats) of the rows' answer tokens, and how many tokens that is.

    Inputs are padded on the left and answers on the right; position ids count real tokens only, so
    the result equals that of each row run alone, up to float rounding.
    """
    longest = max(len(row.ids) for row in rows)
    answer = max(len(row.target) for row in rows)
    m = virtual.shape[0]
    device = lm.device
    inputs = torch.tensor([[0] * (longest - len(row.ids)) + list(row.ids) for row in rows], device=device)
    real = torch.tensor([[0] * (longest - len(row.ids)) + [1] * len(row.ids) for row in rows], device=device)
    targets = torch.tensor([list(row.target) + [IGNORED] * (answer - len(row.target)) for row in rows], device=device)
    embedded = lm.embed(inputs)
    prompt = virtual.to(embedded.dtype).expand(len(rows), -1, -1)
    ones = torch.ones(len(rows), m, dtype=real.dtype, device=device)
    before = [embedded, prompt] if placement == "append" else [prompt, embedded]
    mask = [real, ones] if placement == "append" else [ones, real]
    if answer > 1:
        before.append(lm.embed(targets[:, :-1].clamp_min(0)))
        mask.append((targets[:, :-1] != IGNORED).to(real.dtype))
    attention_mask = torch.cat(mask, dim=1)
    out = lm.model(
        inputs_embeds=torch.cat(before, dim=1),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(1) - 1).clamp_min(0),
        use_cache=False,
        logits_to_keep=lm.last_logits(answer),
    )
    loss = torch.nn.functional.cross_entropy(
        out.logits[:, -answer:].float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, int((targets != IGNORED).sum())


def cached_answer_loss(
    lm: LanguageModel, rows: Sequence[EncodedExample], virtual: torch.Tensor, inputs: InputCache
) -> tuple[torch.Tensor, int]:
    """Return what ``answer_loss`` does for a prompt after the input, with only prompt and answer tokens run.

    The inputs' keys and values come from ``inputs``; the gradient is the same, for none of it goes through them.
    """
    answer = max(len(row.target) for row in rows)
    if len(virtual) + answer - 1 > inputs.room:
        raise UserError(
            f"these inputs were run for at most {inputs.room} tokens behind them, and {len(virtual) + answer - 1} follow; "
            "run them again for as many virtual tokens (run_inputs)"
        )
    start = inputs.start(rows, once=True)
    device = lm.device
    targets = torch.tensor([list(row.target) + [IGNORED] * (answer - len(row.target)) for row in rows], device=device)
    embedded = virtual.to(lm.dtype).expand(len(rows), -1, -1)
    if answer > 1:
        embedded = torch.cat((embedded, lm.embed(targets[:, :-1].clamp_min(0))), dim=1)
    places = places_after(start, embedded.shape[1])  # what stands after an answer is never looked at by what is scored
    out = lm.model(
        inputs_embeds=embedded,
        past_key_values=start.cache,
        use_cache=True,
        logits_to_keep=lm.last_logits(answer),
        **places,
    )
    loss = torch.nn.functional.cross_entropy(
        out.logits[:, -answer:].float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, sum(len(row.target) for row in rows)


def loss_of(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    virtual: torch.Tensor,
    placement: str,
    inputs: InputCache | None,
) -> tuple[torch.Tensor, int]:
    if inputs is None:
        return answer_loss(lm, rows, virtual, placement)
    return cached_answer_loss(lm, rows, virtual, inputs)


@torch.no_grad()
def mean_loss(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    virtual: torch.Tensor,
    placement: str,
    batch_size: int,
    inputs: InputCache | None = None,
    fitting: MicroBatches | None = None,
) -> float:
    """Return the mean cross-entropy (nats per answer token) over all rows."""
    near = sorted(rows, key=lambda row: (len(row.ids) + len(row.target), row.index))
    fitting = fitting or MicroBatches(batch_size)
    total, count = 0.0, 0
    for start in range(0, len(near), batch_size):
        batch = near[start : start + batch_size]
        for _, (loss, n) in fitting.run(batch, lambda part: loss_of(lm, part, virtual, placement, inputs)):
            total, count = total + float(loss), count + n
    return total / count
