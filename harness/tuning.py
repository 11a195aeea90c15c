"""Tune a soft prompt on a frozen model: AdamW on the prompt's embeddings alone.

Loss: cross-entropy (nats) on the answer tokens, averaged over the answer tokens of a batch: the
target's tokens (open answer, with its end of text), the verbalizer's tokens (choice), the completion
(generation). The prompt with the best validation loss is kept; tuning stops early after ``patience``
evaluations without a better one. The model's weights never get gradients.

Method: Lester, Al-Rfou & Constant 2021 (arXiv 2104.08691), with the prompt placed after the input.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from skillneurons.errors import UserError
from skillneurons.examples import load_split
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt, initial_prompt
from skillneurons.task_setup import with_options
from skillneurons.types import Example, Task

IGNORED = -100


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """How a prompt is tuned; the defaults are those of the paper."""

    steps: int = 500
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    batch_size: int = 32
    eval_every: int = 50
    patience: int = 5


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
        logits_to_keep=answer,
    )
    loss = torch.nn.functional.cross_entropy(
        out.logits[:, -answer:].float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, int((targets != IGNORED).sum())


def _batches(rows: Sequence[EncodedExample], batch_size: int, seed: int) -> Iterator[list[EncodedExample]]:
    """Yield batches for ever: each epoch in a new seeded order, similar lengths side by side."""
    rng = random.Random(f"tuning/{seed}")
    while True:
        order = rng.sample(list(rows), len(rows))
        window = batch_size * 8
        epoch = []
        for start in range(0, len(order), window):
            near = sorted(order[start : start + window], key=lambda row: len(row.ids) + len(row.target))
            epoch += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
        rng.shuffle(epoch)
        yield from epoch


@torch.no_grad()
def mean_loss(
    lm: LanguageModel, rows: Sequence[EncodedExample], virtual: torch.Tensor, placement: str, batch_size: int
) -> float:
    """Return the mean cross-entropy (nats per answer token) over all rows."""
    near = sorted(rows, key=lambda row: (len(row.ids) + len(row.target), row.index))
    total, count = 0.0, 0
    for start in range(0, len(near), batch_size):
        loss, n = answer_loss(lm, near[start : start + batch_size], virtual, placement)
        total, count = total + float(loss), count + n
    return total / count


def tune_on(
    lm: LanguageModel,
    train: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    start: SoftPrompt,
    settings: TuningSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> SoftPrompt:
    """Tune ``start`` on encoded examples and return the prompt of the best validation loss.

    Step 0 is evaluated too: an untrained prompt that no step improves on is what comes back.
    """
    virtual = start.embeddings.to(lm.device).clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([virtual], lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
    best, best_loss, without = virtual.detach().clone(), float("inf"), 0
    history: list[dict[str, float]] = []
    batches = _batches(train, settings.batch_size, seed)
    running: list[float] = []
    for step in range(settings.steps + 1):
        if step % settings.eval_every == 0 or step == settings.steps:
            loss = mean_loss(lm, validation, virtual.detach(), start.placement, settings.batch_size)
            mean = sum(running) / len(running) if running else float("nan")
            history.append({"step": step, "validation_loss": loss} | ({"train_loss": mean} if running else {}))
            running = []
            without += 1
            if loss < best_loss:
                best, best_loss, without = virtual.detach().clone(), loss, 0
            if without >= settings.patience or step == settings.steps:
                break
        summed, count = answer_loss(lm, next(batches), virtual, start.placement)
        mean_of_batch = summed / count
        optimizer.zero_grad(set_to_none=True)
        mean_of_batch.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        running.append(float(mean_of_batch.detach()))
        if progress:
            progress(step + 1, settings.steps, running[-1])
    return replace(start, embeddings=best.float().cpu(), history=tuple(history))


def tune_prompt(
    lm: LanguageModel,
    task: Task,
    *,
    num_virtual_tokens: int = 20,
    seed: int = 0,
    init: str = "SAMPLE_VOCAB",
    init_text: str | None = None,
    placement: str = "append",
    train: Sequence[Example] | None = None,
    validation: Sequence[Example] | None = None,
    data_seed: int = 0,
    options: Mapping[str, Any] | None = None,
    too_long: str = "refuse",
    progress: Callable[[int, int, float], None] | None = None,
    **settings: Any,
) -> SoftPrompt:
    """Tune a soft prompt of a task, appended after the input, on a frozen model.

    ``train`` and ``validation`` default to the task's own splits (at most 1000 and 200 examples).
    Further keywords are those of ``TuningSettings``: steps, lr, betas, weight_decay, batch_size,
    eval_every, patience. The same seed gives the same prompt on the same machine.
    """
    unknown = sorted(set(settings) - set(TuningSettings.__dataclass_fields__))
    if unknown:
        known = ", ".join(TuningSettings.__dataclass_fields__)
        raise UserError(f"tune_prompt has no setting {unknown[0]!r}; known: {known}")
    task, chosen = with_options(task, options), dict(options or {})
    if train is None:
        train = load_split(task, "train", limit=1000, seed=data_seed, options=chosen)
    if validation is None:
        validation = load_split(task, "validation", limit=200, seed=data_seed, options=chosen)
    start = initial_prompt(lm, num_virtual_tokens, init=init, text=init_text, seed=seed, placement=placement)
    encoded = [
        encode_examples(lm, task, rows, num_virtual_tokens=num_virtual_tokens, too_long=too_long)
        for rows in (train, validation)
    ]
    if not encoded[0] or not encoded[1]:
        raise UserError(f"task {task.name!r}: tuning needs examples to train on and to validate on")
    return tune_on(lm, encoded[0], encoded[1], start, TuningSettings(**settings), seed=seed, progress=progress)
