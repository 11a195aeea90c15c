"""Which forward passes the causal part of a unit runs, and what concerns several tasks: ``causal``, ``across``, ``replay``.

A replay runs each batch of inputs once, then prompt and answer for every change. Sets that come up twice, which are then run
once, are counted twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from skillneurons.forward_calls import (
    Call,
    Calls,
    Unknowns,
    Workload,
    answer_calls,
    equal_lengths,
    input_calls,
    pass_calls,
    tuning_calls,
)
from skillneurons.token_lengths import Row

CHANGES_AT_ONCE = 4  # full batches that run side by side (replay)
LOGITS = 1 << 28  # numbers in one tensor of logits (replay)
CARD_EXAMPLES = 6  # of a neuron, three at each end (cards)
GATE_EXAMPLES = 200  # of train, for the gate (across)
TABLE_K = 10
SINGLE_PUSHES = 2  # a single neuron's steering: -2 and 2 sd


def unit_calls(load: Workload, unknown: Unknowns) -> dict[str, Calls]:
    """Return the forward passes of a unit by part: inputs, tuning, passes, causal."""
    work: dict[str, Calls] = {}
    if load.virtual and not load.tuned:
        if load.shared:
            work["inputs"] = input_calls(load)
        work["tuning"] = tuning_calls(load, unknown)
    work["passes"] = pass_calls(load, unknown)
    if load.config.causal.enabled and any(load.tested):
        work["causal"] = causal_calls(load, unknown)
    return work


def spread(rows: Sequence[Row], n: int) -> list[Row]:
    """Return at most ``n`` rows, evenly spaced, as ``causal`` takes them."""
    return list(rows) if len(rows) <= n else [rows[i * len(rows) // n] for i in range(n)]


def replayed(
    load: Workload,
    rows: Sequence[Row],
    changes: int,
    unknown: Unknowns,
    *,
    m: int | None = None,
    first: bool = False,
    answer: bool = False,
) -> Calls:
    """Return what running changes on examples costs: inputs once, then prompt and answer for every change.

    ``first`` where the unchanged texts are not known yet; ``answer`` where nothing of the prompt is changed.
    """
    calls: Calls = Counter()
    m = load.virtual if m is None else m
    again = load.config.causal.positions == "everywhere" and not answer
    size = load.config.attribution.at_once
    width = load.task.max_new_tokens * load.vocabulary
    most = size if load.choice else max(1, min(size, LOGITS // width))
    for batch in equal_lengths(rows, most):
        longest = batch[0].input
        if not again:
            calls[Call(len(batch), longest, 0)] += 1
        if not load.choice and first:
            calls += _replay_batch(load, batch, 1, unknown, m, again, drafts=False)
        side = CHANGES_AT_ONCE * size // len(batch)
        side = max(1, side if load.choice else min(side, LOGITS // (len(batch) * width)))
        for start in range(0, changes, side):
            times = min(side, changes - start)
            calls += _replay_batch(load, batch, times, unknown, m, again, drafts=True)
    return calls


def _replay_batch(
    load: Workload, batch: Sequence[Row], times: int, unknown: Unknowns, m: int, again: bool, *, drafts: bool
) -> Calls:
    calls: Calls = Counter()
    longest = batch[0].input
    if again:
        calls[Call(len(batch) * times, longest + m, 0)] += 1
    elif m:
        calls[Call(len(batch) * times, m, longest)] += 1
    return calls + answer_calls(load, batch, longest + m, unknown, times, drafts=drafts)


def _reference(load: Workload, rows: Sequence[Row], unknown: Unknowns) -> Calls:
    """What neurons normally do, on discovery."""
    calls: Calls = Counter()
    for batch in equal_lengths(rows, load.config.attribution.at_once):
        calls[Call(len(batch), batch[0].input + load.virtual, 0)] += 1
        if load.config.causal.positions != "prompt":
            answers = [row.choices or (row.target,) for row in batch]
            for c in range(max(map(len, answers))):
                longest = max(one[c] if c < len(one) else 1 for one in answers)
                if longest > 1:
                    calls[Call(len(batch), longest - 1, batch[0].input + load.virtual, 0)] += 1
    return calls


def causal_calls(load: Workload, unknown: Unknowns) -> Calls:
    """Cards, doses beside random sets, steering with its price, and neurons one by one, for every column tested."""
    settings = load.config.causal
    held = spread(load.rows["heldout"], load.tested_examples())
    calls = _reference(load, spread(load.rows["discovery"], load.tested_examples()), unknown)
    pushes = len({0.0, *settings.steering}) - 1
    doses = len(set(settings.k)) * (1 + settings.random_sets)
    singles = settings.cards * (1 + settings.random_sets)
    mean = round(sum(row.input for row in held) / len(held))
    for metric, columns in enumerate(load.tested):
        if not columns:
            continue
        calls += replayed(load, held, 1, unknown, first=metric == 0)  # the unchanged model
        calls += replayed(load, held, 1, unknown)  # all neurons at their mean
        for _ in range(columns):
            calls += replayed(load, held, doses, unknown)
            if settings.steering:
                calls += replayed(load, held, pushes, unknown)
                for length in load.neutral:
                    calls[Call(1, length, 0, length)] += pushes + 1
            if settings.cards:
                calls[Call(1, mean + load.virtual, 0, 0)] += settings.cards * CARD_EXAMPLES
                calls += replayed(load, held, singles, unknown)
                if settings.steering:
                    calls += replayed(load, held, settings.cards * SINGLE_PUSHES, unknown)
    return calls


def across_calls(loads: Sequence[Workload], unknown: Unknowns) -> Calls:
    """Return the forward passes of what concerns several tasks of one model and seed."""
    calls: Calls = Counter()
    loads = [load for load in loads if load.virtual]
    if len(loads) < 2:
        return calls
    settings = loads[0].config.causal
    n_k, n = len(set(settings.across_k)), len(loads)
    for load in loads:
        held = spread(load.rows["heldout"], load.tested_examples(2))
        calls += _reference(load, spread(load.rows["discovery"], load.tested_examples(2)), unknown)
        calls += replayed(load, held, 1, unknown, first=True)
        calls += replayed(load, held, 1, unknown)
        for _ in range(n * n_k):
            calls += replayed(load, held, 1 + settings.random_sets, unknown)
        columns = sum(load.tested)
        if columns > 1:
            calls += replayed(load, held, columns - 1 + columns * (columns - 1) // 2, unknown)
        calls += replayed(load, held, n - 1 + (0 if TABLE_K in settings.across_k else n), unknown)
        if settings.positions != "prompt":
            continue
        for rows in (spread(load.rows["train"], GATE_EXAMPLES), held):
            for batch in equal_lengths(rows, load.config.attribution.at_once):
                calls[Call(len(batch), batch[0].input, 0, 0)] += 1
        calls += replayed(load, held, 1, unknown, m=0, first=True, answer=True)
        for _ in range(n + 1):  # under every task's prompt, and under its own with the push
            calls += replayed(load, held, 1, unknown, first=True)
    return calls
