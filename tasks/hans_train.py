"""What the prompt is tuned on before it meets HANS: the option ``train``.

``nli``: generated pairs in which overlap nearly always means entailment. ``mnli``: the real MNLI, its three
labels collapsed to entailed or not. ``hans``: HANS's own training split, which has the templates of the
evaluation set (the authors' augmentation experiment); where the pairs are generated, pairs of another seed.

Whatever the source, half of the pairs are entailed, no prompt comes twice, and none is a HANS evaluation prompt.
Pairs of one premise stay together, in train or in validation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import skillneurons as sn
from skillneurons.tasks.hans_examples import mnli_example_of, training_example_of, training_group, with_nli_labels
from skillneurons.tasks.hans_grammar import HansPair, generate_hans
from skillneurons.tasks.hans_mnli import HUB, mnli_pairs
from skillneurons.tasks.hans_source import hub_pairs, read_training_pairs
from skillneurons.tasks.hans_splits import deal
from skillneurons.tasks.hans_subcases import LABELS
from skillneurons.tasks.nli import CHOICES, nli_prompt, nli_stream

TRAIN = ("nli", "mnli", "hans")
TRAIN_SIZES = {"train": 2000, "validation": 500}
TRAIN_SHARES: dict[Any, float] = {"train": 0.8, "validation": 0.2}
PER_SUBCASE = 1000  # as in the authors' training split
Row = TypeVar("Row")


def check_train(train: str, mnli: str | None, mnli_revision: str | None) -> None:
    """Raise a DataError where ``train`` is unknown or an option of MNLI is given without it."""
    if train not in TRAIN:
        raise sn.DataError(f"hans.train: {train!r}; known: {', '.join(TRAIN)}")
    for option, value in (("mnli", mnli), ("mnli_revision", mnli_revision)):
        if value is not None and train != "mnli":
            raise sn.DataError(f"hans.{option}: {value!r} is given, but hans.train is {train!r}; set hans.train: mnli")


def tuned_on(**options: Any) -> str:
    """Say in words for the table what the prompt is tuned on."""
    train, mnli = options["train"], options["mnli"]
    check_train(train, mnli, options["mnli_revision"])
    if train == "nli":
        return "generated NLI"
    if train == "mnli":
        source = HUB if mnli is None else mnli
        return f"MNLI ({Path(source).resolve().name if Path(source).exists() else source})"
    generated = options["path"] is None and options["hub"] is None
    return f"HANS's own training split{', generated' if generated else ''} (same templates)"


def tuning_examples(
    which: str,
    seed: int,
    left_out: Iterable[str],
    *,
    train: str,
    path: str | None,
    hub: str | None,
    revision: str | None,
    mnli: str | None,
    mnli_revision: str | None,
) -> Iterator[sn.Example]:
    """Yield examples of ``train`` or ``validation``, entailed and not in turn, none with a prompt of ``left_out``.

    Generated NLI goes on for ever; the others end where one of the two answers has no more pairs.
    """
    seen = set(left_out)
    rng = Random(f"hans/tuning/{train}/{which}/{seed}")
    if train == "nli":
        stream = (example for example in nli_stream(f"hans/{seed}") if _side(example.group, "hans/nli") == which)
        yield from _in_turn(map(with_nli_labels, stream), seen)
    elif train == "mnli":
        rows = mnli_pairs(which, mnli, mnli_revision)
        yield from _balanced(rows, mnli_example_of, lambda row: (row.label == LABELS[0], row.label), seen, rng)
    else:
        pairs = [
            pair
            for pair in _hans_pairs(path, hub, revision, seed)
            if _side(training_group(pair), "hans/train") == which
            and nli_prompt(pair.sentence1, pair.sentence2) not in seen  # before the deal, so that subcases stay even
        ]
        yield from _balanced(
            pairs, training_example_of, lambda pair: (pair.gold_label == LABELS[0], pair.subcase), seen, rng
        )


def _side(group: str, salt: str) -> str:
    return sn.split_by_group(group, salt, TRAIN_SHARES)


@lru_cache(maxsize=2)
def _generated(seed: int) -> tuple[HansPair, ...]:
    return tuple(generate_hans(PER_SUBCASE, f"train/{seed}"))


def _hans_pairs(path: str | None, hub: str | None, revision: str | None, seed: int) -> Iterable[HansPair]:
    if path is not None:
        return read_training_pairs(path)
    return hub_pairs(hub, revision, "train") if hub is not None else _generated(seed)


def _in_turn(stream: Iterator[sn.Example], seen: set[str]) -> Iterator[sn.Example]:
    waiting: dict[str, list[sn.Example]] = {answer: [] for answer in CHOICES}
    for example in stream:
        if example.prompt not in seen:
            seen.add(example.prompt)
            waiting[example.target].append(example)
            if all(waiting.values()):
                yield from (examples.pop() for examples in waiting.values())


def _balanced(
    rows: Iterable[Row],
    make: Callable[[Row], sn.Example],
    stratum: Callable[[Row], tuple[bool, Hashable]],
    seen: set[str],
    rng: Random,
) -> Iterator[sn.Example]:
    """Yield examples, entailed and not in turn; each answer deals its strata (label, subcase) in turn, shuffled."""
    strata: dict[bool, dict[Hashable, list[Row]]] = {True: defaultdict(list), False: defaultdict(list)}
    for row in rows:
        entailed, name = stratum(row)
        strata[entailed][name].append(row)
    both = [_fresh(deal(list(strata[entailed].values()), rng), make, seen) for entailed in (True, False)]
    for pair in zip(*both, strict=False):
        yield from pair


def _fresh(rows: Iterable[Row], make: Callable[[Row], sn.Example], seen: set[str]) -> Iterator[sn.Example]:
    for example in map(make, rows):
        if example.prompt not in seen:
            seen.add(example.prompt)
            yield example
