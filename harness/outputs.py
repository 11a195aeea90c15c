"""What a frozen model answers: log-probabilities of given answers, and its own texts, graded.

The sequence is ``[input][soft prompt][answer]`` (or the prompt first, or none). The input and the
prompt run once; every answer is then scored, or generated, on the cached keys and values. Rows of a
batch mostly have inputs of equal length; others are padded on the left and masked. Answers of different
length are padded on the right, where a causal model does not look.

A task with a second turn gets its first text back with the request that follows; the answer to that is
what counts, and confidences of generated tokens are of that answer. Activations are those of the first turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from skillneurons.activations import ActivationRecorder, Rows, rows_together
from skillneurons.generation import Continuation, Sampling, generate, second_turn
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.model import LanguageModel
from skillneurons.prefix import Prefix, by_length, copied_cache, places_after, run_prefix, run_prompt, side_by_side
from skillneurons.prompt import SoftPrompt
from skillneurons.task_setup import follow_up, grade_text, is_correct
from skillneurons.types import Example, Output, Task


def score_answers(lm: LanguageModel, prefix: Prefix, answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the summed log-probability (nats) of one answer per row, shape (B,); the cache stays as it is."""
    first = torch.tensor([answer[0] for answer in answers], device=lm.device)
    total = prefix.log_probs.gather(1, first[:, None])[:, 0].double()
    longest = max(len(answer) for answer in answers)
    if longest == 1:
        return total
    padded = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=lm.device)
    out = lm.model(
        input_ids=padded[:, :-1],
        past_key_values=copied_cache(prefix.cache),
        use_cache=True,
        **places_after(prefix, longest - 1),
    )
    log_probs = out.logits.float().log_softmax(-1).gather(2, padded[:, 1:, None])[..., 0]  # (B, longest - 1)
    lengths = torch.tensor([len(answer) for answer in answers], device=lm.device)
    real = torch.arange(1, longest, device=lm.device)[None] < lengths[:, None]
    rest: torch.Tensor = (log_probs.double() * real).sum(dim=1)
    return total + rest


def choice_outputs(lm: LanguageModel, rows: Sequence[EncodedExample], prefix: Prefix) -> list[Output]:
    """Return the outputs of rows that choose the most probable of their choices; the cache stays as it is."""
    counts = {len(row.choices or ()) for row in rows}
    scores = torch.full((len(rows), max(counts)), float("-inf"), dtype=torch.float64)
    for c in range(max(counts)):
        answers = [row.choices[c] if row.choices and c < len(row.choices) else (0,) for row in rows]
        scored = score_answers(lm, prefix, answers).cpu()
        present = torch.tensor([c < len(row.choices or ()) for row in rows])
        scores[present, c] = scored[present]
    outputs = []
    for row, log_probs in zip(rows, scores, strict=True):
        choices = row.example.choices or ()
        values = log_probs[: len(choices)]
        shares = values.softmax(0)
        best = int(values.argmax())
        ordered = shares.sort(descending=True).values
        target = choices.index(row.example.target)
        outputs.append(
            Output(
                text=choices[best],
                correct=is_correct(row.example, choices[best], {}),
                target_log_prob=float(values[target]),
                choice_log_probs=tuple(values.tolist()),
                predicted=choices[best],
                n_target_tokens=len((row.choices or ())[target]),
                predicted_log_prob=float(values[best]),
                margin=float(ordered[0] - ordered[1]),
                entropy=float(-(shares * shares.clamp_min(1e-300).log()).sum()),
            )
        )
    return outputs


class Writer(Protocol):
    """Who writes the texts of a batch; ``numbers`` are rows of it."""

    def score(self, prefix: Prefix, answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the log-probability (nats) of one answer per row; the cache stays as it is."""

    def write(self, prefix: Prefix, limit: int) -> list[Continuation]:
        """Continue every row, at most ``limit`` tokens each; the cache is used up."""

    def revise(self, turns: Sequence[tuple[str, str, str]], numbers: Sequence[int], limit: int) -> list[Continuation]:
        """Answer (prompt, own text, request) of these rows, at most ``limit`` tokens each."""

    def keep(self, turn: int, numbers: Sequence[int], written: Sequence[Continuation]) -> None:
        """See what was written."""


@dataclass(frozen=True, eq=False)
class PlainWriter:
    """The model as it is: greedy, or by the draws of ``sampling``."""

    lm: LanguageModel
    rows: Sequence[EncodedExample]
    prompt: SoftPrompt | None
    sampling: Sampling | None = None

    def score(self, prefix: Prefix, answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """See Writer."""
        return score_answers(self.lm, prefix, answers)

    def write(self, prefix: Prefix, limit: int) -> list[Continuation]:
        """See Writer."""
        return generate(self.lm, prefix, limit, self.rows, self.sampling)

    def revise(self, turns: Sequence[tuple[str, str, str]], numbers: Sequence[int], limit: int) -> list[Continuation]:
        """See Writer."""
        mine = [self.rows[i] for i in numbers]
        prefix = run_prefix(self.lm, second_turn(self.lm, mine, turns), self.prompt)
        return generate(self.lm, prefix, limit, mine, replace(self.sampling, turn=1) if self.sampling else None)

    def keep(self, turn: int, numbers: Sequence[int], written: Sequence[Continuation]) -> None:
        """See Writer: nothing is kept."""


def text_outputs(
    lm: LanguageModel, task: Task, rows: Sequence[EncodedExample], prefix: Prefix, writer: Writer
) -> list[Output]:
    """Return the outputs of texts that ``writer`` writes, each with its second turn where the task has one."""
    targets = writer.score(prefix, [row.target for row in rows]).tolist()
    everyone = list(range(len(rows)))
    written = writer.write(prefix, task.max_new_tokens)
    writer.keep(0, everyone, written)
    texts = [lm.decode(one.ids) for one in written]
    if task.follow_up is not None:
        requests = [follow_up(task, row.example, text) for row, text in zip(rows, texts, strict=True)]
        asked = [i for i, request in enumerate(requests) if request is not None]
        if asked:
            turns = [(rows[i].example.prompt, texts[i], str(requests[i])) for i in asked]
            revised = writer.revise(turns, asked, task.max_new_tokens)
            writer.keep(1, asked, revised)
            for i, one in zip(asked, revised, strict=True):
                written[i], texts[i] = one, lm.decode(one.ids)
    outputs = []
    for row, target, one, text in zip(rows, targets, written, texts, strict=True):
        labels = grade_text(task, row.example, text)
        outputs.append(
            Output(
                text=text,
                correct=is_correct(row.example, text, labels),
                target_log_prob=float(target),
                n_target_tokens=len(row.target),
                predicted_log_prob=one.log_prob,
                margin=one.margin,
                entropy=one.entropy,
                labels=labels,
            )
        )
    return outputs


@torch.inference_mode()
def answer(
    lm: LanguageModel,
    task: Task,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    recorder: ActivationRecorder | None = None,
    sampling: Sampling | None = None,
    *,
    inputs: InputCache | None = None,
    apart: bool = False,
) -> tuple[list[Output], Rows | None]:
    """Return the outputs of a batch and, with a recorder, its activations.

    Activations have shape (batch, n_layers * d_ff), each layer's on its own device, and are read before any answer token runs. Texts are
    greedy unless ``sampling`` says otherwise. Without a prompt, the inputs are run and kept in ``inputs``; a prompt after the input
    begins from what is kept there. ``apart`` runs inputs of one length together (rows stand by length) where
    otherwise different lengths are padded.
    """
    prefix, activations = _begun(lm, rows, prompt, recorder, inputs, apart)
    if recorder:
        recorder.enabled = False
    try:
        if task.kind == "choice":
            outputs = choice_outputs(lm, rows, prefix)
        else:
            outputs = text_outputs(lm, task, rows, prefix, PlainWriter(lm, rows, prompt, sampling))
    finally:
        if recorder:
            recorder.enabled = True
    return outputs, activations


def _begun(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    recorder: ActivationRecorder | None,
    inputs: InputCache | None,
    apart: bool,
) -> tuple[Prefix, Rows | None]:
    """Return input and prompt after their pass, and what the recorder read of them."""
    read = recorder.last_positions if recorder else 1
    if prompt is not None and prompt.placement == "append":
        start = (inputs or InputCache(lm, room=0)).start(rows, apart=apart)
        if recorder:
            recorder.forget()
        prefix = run_prompt(lm, start, prompt, read=read)
        return prefix, recorder.take_where_they_are() if recorder else None
    parts, taken = [], []
    for same in by_length(rows) if apart else [rows]:
        parts.append(run_prefix(lm, same, prompt, read=read))
        if recorder:
            taken.append(recorder.take_where_they_are())
        if inputs is not None and prompt is None and parts[-1].mask is None:
            inputs.keep(same, parts[-1].cache)
    return side_by_side(parts), rows_together(taken) if taken else None


@torch.inference_mode()
def read_inputs(
    lm: LanguageModel,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    recorder: ActivationRecorder,
    inputs: InputCache | None = None,
) -> Rows:
    """Return what a recorder reads of inputs and prompt (batch, n_positions * n_neurons); no logit is computed."""
    read = recorder.last_positions
    if prompt is not None and prompt.placement == "append":
        start = (inputs or InputCache(lm, room=0)).start(rows)
        recorder.forget()
        run_prompt(lm, start, prompt, logits=False, read=read)
        return recorder.take_where_they_are()
    prefix = run_prefix(lm, rows, prompt, logits=False, read=read)
    if inputs is not None and prompt is None and prefix.mask is None:
        inputs.keep(rows, prefix.cache)
    return recorder.take_where_they_are()


def choice_log_probs(
    lm: LanguageModel, prompts: Sequence[str], choices: Sequence[str], *, batch_size: int = 16
) -> list[tuple[float, ...]]:
    """Return the summed log-probability (nats) of each choice after each prompt, without any soft prompt.

    Prompts go through the model's chat template where it uses one; rows stand in the prompts' order.
    """
    examples = [Example(str(i), prompt, choices[0], choices=tuple(choices)) for i, prompt in enumerate(prompts)]
    task = Task("choice_log_probs", "1", lambda split: examples, kind="choice")
    found: dict[int, tuple[float, ...]] = {}
    for rows in equal_length_batches(encode_examples(lm, task, examples, num_virtual_tokens=0), batch_size):
        outputs, _ = answer(lm, task, rows, None)
        found |= {row.index: output.choice_log_probs or () for row, output in zip(rows, outputs, strict=True)}
    return [found[i] for i in range(len(examples))]
