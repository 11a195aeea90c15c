"""What a frozen model answers: log-probabilities of given answers, and greedy continuations.

The sequence is ``[input][soft prompt][answer]`` (or the prompt first, or none). The input and the
prompt run once; every answer is then scored, or generated, on the cached keys and values. Rows of a
batch have inputs of equal length, so no position is padded before the answer; answers of different
length are padded on the right, where a causal model does not look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.errors import CellError, SkillNeuronsError
from skillneurons.inputs import EncodedExample
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt
from skillneurons.types import Output, Task


@dataclass(slots=True)
class Prefix:
    """Input and prompt after their forward pass: the cache, its length, and the next token's logits."""

    cache: Any
    length: int
    log_probs: torch.Tensor  # (B, vocabulary), nats


def input_embeddings(lm: LanguageModel, ids: torch.Tensor, prompt: SoftPrompt | None) -> torch.Tensor:
    """Return the embeddings of input and prompt in their order, shape (B, T + m, d_model)."""
    embedded = lm.embed(ids)
    if prompt is None:
        return embedded
    virtual = prompt.embeddings.to(embedded.device, embedded.dtype).expand(ids.shape[0], -1, -1)
    order = (embedded, virtual) if prompt.placement == "append" else (virtual, embedded)
    return torch.cat(order, dim=1)


def run_prefix(lm: LanguageModel, rows: Sequence[EncodedExample], prompt: SoftPrompt | None) -> Prefix:
    """Run inputs of equal length and the prompt; the vocabulary projection runs on the last row only."""
    ids = torch.tensor([row.ids for row in rows], device=lm.device)
    embeddings = input_embeddings(lm, ids, prompt)
    out = lm.model(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1)
    return Prefix(out.past_key_values, embeddings.shape[1], out.logits[:, -1].float().log_softmax(-1))


def score_answers(lm: LanguageModel, prefix: Prefix, answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the summed log-probability (nats) of one answer per row, shape (B,); the cache is restored."""
    first = torch.tensor([answer[0] for answer in answers], device=lm.device)
    total = prefix.log_probs.gather(1, first[:, None])[:, 0].double()
    longest = max(len(answer) for answer in answers)
    if longest == 1:
        return total
    padded = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=lm.device)
    out = lm.model(input_ids=padded[:, :-1], past_key_values=prefix.cache, use_cache=True)
    prefix.cache.crop(1 - longest)  # a negative number removes that many positions
    log_probs = out.logits.float().log_softmax(-1).gather(2, padded[:, 1:, None])[..., 0]  # (B, longest - 1)
    lengths = torch.tensor([len(answer) for answer in answers], device=lm.device)
    real = torch.arange(1, longest, device=lm.device)[None] < lengths[:, None]
    rest: torch.Tensor = (log_probs.double() * real).sum(dim=1)
    return total + rest


@dataclass(slots=True)
class Continuation:
    """A greedy continuation: its tokens, their summed log-probability, and means over them."""

    ids: list[int]
    log_prob: float
    margin: float
    entropy: float


def generate(lm: LanguageModel, prefix: Prefix, max_new_tokens: int) -> list[Continuation]:
    """Continue each row greedily until its end of text or ``max_new_tokens``; uses the cache up."""
    eos = lm.tokenizer.eos_token_id
    log_probs, steps = prefix.log_probs, []
    alive = torch.ones(log_probs.shape[0], dtype=torch.bool, device=log_probs.device)
    for step in range(max_new_tokens):
        top = log_probs.topk(2, dim=-1)
        token = top.indices[:, 0]
        entropy = -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)
        margin = top.values[:, 0].exp() - top.values[:, 1].exp()
        steps.append((token, top.values[:, 0], margin, entropy, alive))
        if eos is not None:
            alive = alive & (token != eos)
        if not alive.any() or step + 1 == max_new_tokens:
            break
        out = lm.model(input_ids=token[:, None], past_key_values=prefix.cache, use_cache=True, logits_to_keep=1)
        log_probs = out.logits[:, -1].float().log_softmax(-1)
    tokens, chosen, margins, entropies, lives = (torch.stack(column, 1).cpu() for column in zip(*steps, strict=True))
    n = lives.sum(1)
    means = [(values.double() * lives).sum(1) / n for values in (margins, entropies)]
    sums = (chosen.double() * lives).sum(1)
    return [
        Continuation(tokens[i, : n[i]].tolist(), float(sums[i]), float(means[0][i]), float(means[1][i]))
        for i in range(len(n))
    ]


def _choice_outputs(lm: LanguageModel, task: Task, rows: Sequence[EncodedExample], prefix: Prefix) -> list[Output]:
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
                correct=_correct(task, row, choices[best], {}),
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


def _correct(task: Task, row: EncodedExample, text: str, labels: dict[str, float]) -> float:
    if "correct" in labels:
        return float(labels["correct"])
    return float(text.strip() == row.example.target.strip())


def _text_outputs(lm: LanguageModel, task: Task, rows: Sequence[EncodedExample], prefix: Prefix) -> list[Output]:
    targets = score_answers(lm, prefix, [row.target for row in rows]).tolist()
    outputs = []
    for row, target, written in zip(rows, targets, generate(lm, prefix, task.max_new_tokens), strict=True):
        text = lm.decode(written.ids)
        labels = _graded(task, row, text)
        outputs.append(
            Output(
                text=text,
                correct=_correct(task, row, text, labels),
                target_log_prob=float(target),
                n_target_tokens=len(row.target),
                predicted_log_prob=written.log_prob,
                margin=written.margin,
                entropy=written.entropy,
                labels=labels,
            )
        )
    return outputs


def _graded(task: Task, row: EncodedExample, text: str) -> dict[str, float]:
    if task.grade is None:
        return {}
    try:
        return {name: float(value) for name, value in task.grade(row.example, text).items()}
    except SkillNeuronsError:
        raise
    except Exception as error:
        raise CellError(
            f"task {task.name!r}: grade failed on example {row.example.id!r}: {type(error).__name__}: {error}"
        ) from error


@torch.inference_mode()
def answer(
    lm: LanguageModel,
    task: Task,
    rows: Sequence[EncodedExample],
    prompt: SoftPrompt | None,
    recorder: ActivationRecorder | None = None,
) -> tuple[list[Output], torch.Tensor | None]:
    """Return the outputs of a batch of equal length and, with a recorder, its activations.

    Activations have shape (batch, n_layers * d_ff) and are read before any answer token runs.
    """
    prefix = run_prefix(lm, rows, prompt)
    activations = recorder.take() if recorder else None
    if recorder:
        recorder.enabled = False
    try:
        outputs = (_choice_outputs if task.kind == "choice" else _text_outputs)(lm, task, rows, prefix)
    finally:
        if recorder:
            recorder.enabled = True
    return outputs, activations
