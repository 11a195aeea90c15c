"""Which forward passes a unit (model, task, seed) runs, told from the lengths of its examples: the work, not yet its time.

Every ``Call`` is one forward pass of the model: so many rows, so many tokens each, behind so many that have run before. Here
are those of ``tuning`` and ``measurement``, with their batches: examples of one length together, at most 512 tokens of input
at once on a CPU; ``causal_calls`` adds what tests causes. What is not known beforehand (how long the texts get, how many of
them change when neurons are changed, whether tuning stops early) are ``Unknowns``: the least, the likely and the most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from skillneurons.config import Config
from skillneurons.token_lengths import Row
from skillneurons.types import Split, Task

TOKENS_AT_ONCE = 512  # of input in a batch of a pass, on a CPU (model)
MEASURED: tuple[Split, Split] = ("discovery", "heldout")


class Call(NamedTuple):
    """One forward pass: ``rows`` of ``tokens`` behind ``past`` tokens, ``logits`` positions of each row projected."""

    rows: int
    tokens: int
    past: int
    logits: int = 1
    gradient: bool = False


Calls = Counter[Call]


@dataclass(frozen=True)
class Unknowns:
    """What only the run itself tells, as shares: of the room for a text that is written, of texts that a change changes.

    ``stops`` is after how many evaluations without a better one tuning ends: by patience at once, or never.
    """

    written: float
    rewritten: float
    stops: bool = False


LEAST = Unknowns(0.0, 0.0, stops=True)
LIKELY = Unknowns(0.3, 0.15)
MOST = Unknowns(1.0, 0.5)


@dataclass(frozen=True)
class Workload:
    """What is to be run of one unit.

    ``tested`` counts, for every metric with something to do, its columns of which causes are tested. ``shared`` is whether
    this unit runs what all seeds of the task share, ``tuned`` whether its prompt is there already. ``kv`` is the bytes of
    a token's keys and values, ``neutral`` the lengths of the neutral text's lines, ``averaged`` the split of which a statistic needs
    means first, ``gradient`` whether it needs gradients.
    """

    config: Config
    task: Task
    rows: Mapping[Split, Sequence[Row]]
    tested: Sequence[int]
    shared: bool
    tuned: bool
    kv: int
    vocabulary: int
    gpu: bool
    neutral: Sequence[int] = ()
    averaged: Split | None = None
    gradient: bool = False
    window: int | None = None

    @property
    def virtual(self) -> int:
        """The tokens of the soft prompt, 0 where there is none."""
        return 0 if self.config.attribution.position == "input_last" else self.config.prompt.num_virtual_tokens

    @property
    def choice(self) -> bool:
        return self.task.kind == "choice"

    @property
    def at_once(self) -> int:
        """How many examples run at once; a GPU takes more as long as memory lasts."""
        settings = self.config.attribution
        return min(settings.at_most, 4 * settings.at_once) if self.gpu else settings.at_once

    @property
    def budget(self) -> int:
        """Bytes of keys and values that tuning may keep, and measuring as much again."""
        cache = self.config.cache
        return int((cache.device_gb + cache.host_gb) / 2 * 1e9)

    def tested_examples(self, share: int = 1) -> int:
        """Return how many held-out examples causes are tested on (``share`` 2: half of them, across tasks)."""
        settings = self.config.causal
        n = settings.examples if self.choice else settings.generated
        return min(max(1, n // share), len(self.rows["heldout"]))


def tokens_of(calls: Calls) -> int:
    """Return the tokens that run forward."""
    return sum(n * call.rows * call.tokens for call, n in calls.items())


def equal_lengths(rows: Sequence[Row], at_once: int, tokens: int | None = None) -> Iterator[list[Row]]:
    """Yield batches of inputs of one length."""
    for length, same in groupby(sorted(rows, key=lambda row: row.input), key=lambda row: row.input):
        size = at_once if tokens is None else max(1, min(at_once, tokens // length))
        own = list(same)
        yield from (own[i : i + size] for i in range(0, len(own), size))


def _limit(load: Workload) -> int | None:
    return None if load.gpu else TOKENS_AT_ONCE


def input_calls(load: Workload) -> Calls:
    calls: Calls = Counter()
    for split in ("train", "validation"):
        size = load.config.prompt.batch_size
        for part in equal_lengths(load.rows[split], size, _limit(load)):
            calls[Call(len(part), part[0].input, 0, 0)] += 1
    return calls


def _kept(load: Workload, rows: Sequence[Row]) -> int:
    """Return the longest input whose keys and values still find room when all are kept in order of length."""
    room, longest = load.budget, -1
    for row in sorted(rows, key=lambda row: row.input):
        room -= row.input * load.kv
        if room < 0:
            break
        longest = row.input
    windowed = load.window is not None and any(row.input + load.virtual + row.target >= load.window for row in rows)
    return -1 if windowed else longest


def tuning_calls(load: Workload, unknown: Unknowns) -> Calls:
    """Steps and evaluations: prompt and answer behind inputs that are kept, or that run again."""
    settings, calls = load.config.prompt, Counter[Call]()
    train, validation = load.rows["train"], load.rows["validation"]
    kept = _kept(load, [*train, *validation])
    evaluations = settings.steps // settings.eval_every + 1
    steps = settings.steps
    if unknown.stops and settings.patience < evaluations:
        evaluations = settings.patience + 1
        steps = settings.patience * settings.eval_every

    def batches(rows: Sequence[Row]) -> list[list[Row]]:
        near = sorted(rows, key=lambda row: row.input + row.target)
        return [near[i : i + settings.batch_size] for i in range(0, len(near), settings.batch_size)]

    for rows, times, gradient in ((train, steps, True), (validation, evaluations, False)):
        parts = batches(rows)
        each = times / len(parts) if gradient and parts else float(times)
        done = 0.0
        for number, part in enumerate(parts):
            longest, answer = max(row.input for row in part), max(row.target for row in part)
            n = round((number + 1) * each) - round(done)
            done = (number + 1) * each
            if longest > kept:
                calls[Call(len(part), longest, 0, 0)] += n
            calls[Call(len(part), load.virtual + answer - 1, longest, answer, gradient)] += n
    return calls


def pass_calls(load: Workload, unknown: Unknowns) -> Calls:
    """The passes without a prompt (once for all seeds), under the tuned prompt, and under the untuned one."""
    calls: Calls = Counter()
    held = [row for split in MEASURED for row in load.rows[split]]
    kept = _kept(load, held)
    for split in MEASURED:
        if not load.virtual:
            calls += _pass(load, load.rows[split], unknown, 0, -1)
            continue
        if load.shared:
            calls += _pass(load, load.rows[split], unknown, 0, -1)
        for _ in ("tuned", "untuned"):
            calls += _pass(load, load.rows[split], unknown, load.virtual, -1 if load.gradient else kept)
    if load.averaged is not None:
        prompts = [load.virtual, load.virtual, *([0] if load.shared else [])] if load.virtual else [0]
        for m in prompts:
            for part in equal_lengths(load.rows[load.averaged], load.at_once, _limit(load)):
                calls[Call(len(part), part[0].input + m, 0, 0)] += 1
    return calls


def _pass(load: Workload, rows: Sequence[Row], unknown: Unknowns, m: int, kept: int) -> Calls:
    """One split once; inputs of at most ``kept`` tokens have run already."""
    calls: Calls = Counter()
    if load.choice or load.gradient or load.window is not None:
        batches = list(equal_lengths(rows, load.at_once, _limit(load)))
    else:
        near = sorted(rows, key=lambda row: row.input)
        batches = [near[i : i + load.at_once] for i in range(0, len(near), load.at_once)]
    for batch in batches:
        longest = max(row.input for row in batch)
        if load.gradient:
            answer = max(row.target for row in batch)
            calls[Call(len(batch), longest + m + answer - 1, 0, answer, True)] += 1
        for part in equal_lengths(batch, len(batch)):
            if part[0].input > kept:
                calls[Call(len(part), part[0].input, 0)] += 1
        if m:
            calls[Call(len(batch), m, longest)] += 1
        calls += answer_calls(load, batch, longest + m, unknown)
    return calls


def answer_calls(
    load: Workload, batch: Sequence[Row], past: int, unknown: Unknowns, times: int = 1, *, drafts: bool = False
) -> Calls:
    """Score the choices of a batch, or score its targets and write its texts; ``times`` rows of each example.

    ``drafts``: the texts are known from before, run as a whole, and written anew where they have changed.
    """
    calls: Calls = Counter()
    n = len(batch) * times
    if load.choice:
        for c in range(max(len(row.choices) for row in batch)):
            longest = max(row.choices[c] if c < len(row.choices) else 1 for row in batch)
            if longest > 1:
                calls[Call(n, longest - 1, past, longest - 1)] += 1
        return calls
    target = max(row.target for row in batch)
    if target > 1:
        calls[Call(n, target - 1, past, target - 1)] += 1
    length = min(load.task.max_new_tokens, round(target + unknown.written * (load.task.max_new_tokens - target)))
    length = max(1, length)
    turns = [(n, past, False)]
    if any(row.request for row in batch):
        turns.append((n, past + length + max(row.request for row in batch), True))
    for rows, before, second in turns:
        if second:
            calls[Call(rows, before if not drafts else load.virtual, 0 if not drafts else before)] += 1
        if length == 1:
            continue
        anew, steps = rows, length - 1
        if drafts:
            calls[Call(rows, length - 1, before, length - 1)] += 1
            anew = math.ceil(unknown.rewritten * rows)
            steps = round(steps * (1 - (1 - unknown.rewritten) ** len(batch)))  # one text that changes is enough
        if anew and steps:
            calls[Call(anew, 1, before + length // 2)] += steps
    return calls
