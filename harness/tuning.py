"""Tune a soft prompt on a frozen model: AdamW on the prompt's embeddings alone.

Loss: cross-entropy (nats) on the answer tokens, averaged over the answer tokens of a batch: the
target's tokens (open answer, with its end of text), the verbalizer's tokens (choice), the completion
(generation). The prompt with the best validation loss is kept; tuning stops early after ``patience``
evaluations without a better one. The model's weights never get gradients.

Method: Lester, Al-Rfou & Constant 2021 (arXiv 2104.08691), with the prompt placed after the input.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from skillneurons.answer_loss import loss_of, mean_loss
from skillneurons.checkpoint import TuningCheckpoint, TuningState
from skillneurons.errors import UserError
from skillneurons.examples import load_split
from skillneurons.input_cache import CacheBudget, InputCache
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt, initial_prompt
from skillneurons.task_setup import with_options
from skillneurons.types import Example, Task


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


@dataclass(frozen=True, eq=False)
class TuningInputs:
    """The inputs of both splits after their one pass, for prompts of at most as many tokens as ``room`` was made for."""

    train: InputCache
    validation: InputCache


def run_inputs(
    lm: LanguageModel,
    train: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    num_virtual_tokens: int,
    *,
    budget: CacheBudget | None = None,
    batch_size: int = 64,
    fitting: MicroBatches | None = None,
    progress: Callable[[int], None] | None = None,
) -> TuningInputs:
    """Run the inputs of both splits once; several prompts (seeds) can be tuned on the result. They share the budget."""

    def filled(rows: Sequence[EncodedExample], own: CacheBudget | None) -> InputCache:
        room = num_virtual_tokens + max((len(row.target) for row in rows), default=0)
        return InputCache(lm, room=room, budget=own).fill(rows, batch_size, progress, fitting=fitting)

    first = filled(train, budget)
    return TuningInputs(first, filled(validation, first.left))


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


class _Tuning:
    """A tuning between two steps: the prompt, AdamW, the best prompt so far, the batches to come."""

    def __init__(
        self,
        lm: LanguageModel,
        train: Sequence[EncodedExample],
        start: SoftPrompt,
        settings: TuningSettings,
        seed: int,
        fitting: MicroBatches,
        saved: TuningState | None,
    ) -> None:
        self.fitting = fitting
        self.virtual = (saved.virtual if saved else start.embeddings).to(lm.device).clone().requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            [self.virtual], lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self.best, self.best_loss, self.without = self.virtual.detach().clone(), float("inf"), 0
        self.history: list[Mapping[str, float]] = []
        self.running: list[float] = []
        self.step, self.evaluated = 0, False
        self.batches = _batches(train, settings.batch_size, seed)
        if saved is not None:
            self._restore(saved)

    def _restore(self, saved: TuningState) -> None:
        self.best, self.best_loss, self.without = saved.best.to(self.virtual.device), saved.best_loss, saved.without
        self.history, self.running = list(saved.history), list(saved.running)
        self.step, self.evaluated = saved.step, saved.evaluated
        for _ in range(saved.step):
            next(self.batches)
        if saved.moments is not None:
            first, second = (one.to(self.virtual.device) for one in saved.moments)
            count = torch.tensor(float(saved.step))
            self.optimizer.state[self.virtual] = {"step": count, "exp_avg": first, "exp_avg_sq": second}
        if saved.at_once:  # memory ran out before: a part of a batch stays as large as it was
            self.fitting.size = min(self.fitting.size, saved.at_once)

    def state(self) -> TuningState:
        """Return all that the steps to come depend on."""
        kept = self.optimizer.state.get(self.virtual)
        return TuningState(
            step=self.step,
            evaluated=self.evaluated,
            virtual=self.virtual.detach(),
            best=self.best,
            best_loss=self.best_loss,
            without=self.without,
            moments=(kept["exp_avg"], kept["exp_avg_sq"]) if kept else None,
            running=self.running,
            history=self.history,
            at_once=self.fitting.size,
        )

    def judge(self, loss: float) -> None:
        """Take note of the validation loss before the next step."""
        mean = sum(self.running) / len(self.running) if self.running else float("nan")
        row = {"step": self.step, "validation_loss": loss} | ({"train_loss": mean} if self.running else {})
        self.history.append(row)
        self.running = []
        self.without += 1
        if loss < self.best_loss:
            self.best, self.best_loss, self.without = self.virtual.detach().clone(), loss, 0
        self.evaluated = True

    def advance(self, gradient: Callable[[Sequence[EncodedExample], int], tuple[float, torch.Tensor]]) -> float:
        """Do one step on the next batch, as much of it at once as fits; return its loss."""
        batch = next(self.batches)
        count = sum(len(row.target) for row in batch)
        parts = [done for _, done in self.fitting.run(batch, lambda part: gradient(part, count))]
        self.virtual.grad = functools.reduce(torch.add, (one for _, one in parts))
        self.optimizer.step()
        self.running.append(sum(loss for loss, _ in parts))
        self.step, self.evaluated = self.step + 1, False
        return self.running[-1]


def tune_on(
    lm: LanguageModel,
    train: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    start: SoftPrompt,
    settings: TuningSettings,
    *,
    seed: int = 0,
    inputs: TuningInputs | None = None,
    fitting: MicroBatches | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    checkpoint: TuningCheckpoint | None = None,
) -> SoftPrompt:
    """Tune ``start`` on encoded examples and return the prompt of the best validation loss.

    Step 0 is evaluated too: an untrained prompt that no step improves on is what comes back. With ``inputs``
    (``run_inputs``) a step runs prompt and answer tokens alone; without, and for a prompt before the input, whole sequences.
    A step always takes the whole batch; ``fitting`` says how much of it runs at once, and gradients add up. With a
    ``checkpoint`` it begins where a tuning of the same prompt was broken off, and ends at the same bytes.
    """
    if inputs is not None and start.placement != "append":
        raise UserError(
            "a prompt before the input changes the input's keys and values: they cannot be kept; leave inputs out"
        )
    saved = checkpoint.load() if checkpoint else None
    tuning = _Tuning(lm, train, start, settings, seed, fitting or MicroBatches(settings.batch_size), saved)
    held = inputs.validation if inputs else None

    def gradient(part: Sequence[EncodedExample], count: int) -> tuple[float, torch.Tensor]:
        loss = loss_of(lm, part, tuning.virtual, start.placement, inputs.train if inputs else None)[0] / count
        return float(loss.detach()), torch.autograd.grad(loss, tuning.virtual)[0]

    if progress and saved:
        progress(saved.step, settings.steps, float("nan"))
    while True:
        if checkpoint:
            checkpoint.offer(tuning.state)
        last = tuning.step >= settings.steps
        if not tuning.evaluated and (tuning.step % settings.eval_every == 0 or last):
            prompt = tuning.virtual.detach()
            size = settings.batch_size
            tuning.judge(mean_loss(lm, validation, prompt, start.placement, size, held, tuning.fitting))
            if checkpoint:
                checkpoint.offer(tuning.state)
        if last or tuning.without >= settings.patience:
            break
        loss = tuning.advance(gradient)
        if progress:
            progress(tuning.step, settings.steps, loss)
    return replace(start, embeddings=tuning.best.float().cpu(), history=tuple(tuning.history))


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
    budget: CacheBudget | None = None,
    inputs: TuningInputs | None = None,
    fitting: MicroBatches | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    checkpoint: TuningCheckpoint | None = None,
    **settings: Any,
) -> SoftPrompt:
    """Tune a soft prompt of a task, appended after the input, on a frozen model.

    ``train`` and ``validation`` default to the task's own splits (at most 1000 and 200 examples).
    The inputs run once, and their keys and values are kept within ``budget``; ``inputs`` (``run_inputs``) brings them from
    an earlier prompt of the same examples. Further keywords are those of ``TuningSettings``: steps, lr, betas, weight_decay, batch_size,
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
    chosen_settings = TuningSettings(**settings)
    if inputs is None and placement == "append":
        inputs = run_inputs(lm, encoded[0], encoded[1], num_virtual_tokens, budget=budget)
    return tune_on(
        lm,
        encoded[0],
        encoded[1],
        start,
        chosen_settings,
        seed=seed,
        inputs=inputs,
        fitting=fitting,
        progress=progress,
        checkpoint=checkpoint,
    )
