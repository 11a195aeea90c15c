"""Plugins for the tests of the contract: good ones, and for each check one that it alone should catch."""

from __future__ import annotations

TASK = """
import skillneurons as sn


def example(n, **changes):
    target = "no" if n % 2 else "yes"
    return sn.Example(**{"id": str(n), "prompt": f"Is {n} even?", "target": target, "choices": ("yes", "no")} | changes)


def numbers(split):
    return [n for n in range(900) if sn.split_by_group(str(n), "parity") == split]


def load(split, *, limit=None, seed=0):
    return [example(n) for n in numbers(split)[:limit]]
"""

GOOD_TASK = (
    TASK
    + """

@sn.hookimpl
def register_tasks(register):
    register(sn.Task("parity", "1", load, chance=0.5))
"""
)

GOOD_METRIC = """
import skillneurons as sn


def shouting(example, output):
    return float(output.text.isupper())


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("shouting", shouting))
"""

ATTRIBUTION = """
import numpy as np
import skillneurons as sn
from skillneurons.statistics import Accumulator, checked_rows


class Covariance(Accumulator):
    def __init__(self, n_neurons, n_columns):
        super().__init__(n_neurons, n_columns)
        self.sums = [np.zeros((n_columns, 1)), np.zeros((n_columns, 1)), *np.zeros((2, n_columns, n_neurons))]

    def update(self, activations, values):
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        scored = (~np.isnan(v)).T.astype(float)
        v = np.nan_to_num(v).T
        for total, more in zip(self.sums, (scored.sum(1)[:, None], v.sum(1)[:, None], scored @ a, v @ a)):
            total += more
        return self

    def merge(self, other):
        for total, more in zip(self.sums, other.sums):
            total += more
        return self

    def result(self):
        n, v, a, products = self.sums
        return products / n - v / n * a / n
"""

GOOD_ATTRIBUTION = (
    ATTRIBUTION
    + """

@sn.hookimpl
def register_attributions(register):
    register("covariance", Covariance)
"""
)

GOOD_GRADER = """
import skillneurons as sn


def make(word="indeed"):
    def grade(example, text, rubric, grading):
        return {item: float(word in text) for item in rubric}

    return grade


@sn.hookimpl
def register_graders(register):
    register(sn.Grader("has_word", make, options={"word": "indeed"}, synthetic=True))
"""

GOOD = {"task": GOOD_TASK, "metric": GOOD_METRIC, "attribution": GOOD_ATTRIBUTION, "grader": GOOD_GRADER}

BROKEN_PLUGINS = {  # check: a whole plugin
    "loads": "import skillneurons as sn\n\n1 / 0\n",
    "light": f"import scipy\n{GOOD_GRADER}",
    "same names": GOOD_GRADER.replace('"has_word"', "f\"word-{hash('x') % 10**9}\""),
    "texts": GOOD_GRADER.replace("make, ", "make, version=2, "),
}

BROKEN_TASKS = (
    TASK
    + """
import itertools
import random
from dataclasses import replace

calls = itertools.count()


def changed(**changes):
    def made(n):
        return {name: value.format(n=n) if isinstance(value, str) else value for name, value in changes.items()}

    return lambda split, *, limit=None, seed=0: [example(n, **made(n)) for n in numbers(split)[:limit]]


def copied(split, *, limit=None, seed=0):
    return [example(n, id=f"{split}-{n}") for n in range(700)][:limit]


def copied_late(split, *, limit=None, seed=0):
    place = ("train", "validation", "discovery", "heldout").index(split)
    own = [n for n in range(1200) if n % 4 == place]
    return [example(n, prompt=f"Is {n} odd or even?", target=("yes", "no")[n // 4 % 2], id=f"{split}-{n}") for n in [*own, 2000]][:limit]


def without_limit(split):
    return load(split)


def no_data(split, *, limit=None, seed=0):
    raise sn.DataError("cannot find parity.csv")


def raises(split, *, limit=None, seed=0):
    return [example(n) for n in numbers(split)[:limit]][0].word


def seeds_all(split, *, limit=None, seed=0):
    random.seed(seed)
    chosen = numbers(split)
    random.shuffle(chosen)
    return [example(n) for n in chosen[:limit]]


def in_order(split, *, limit=None, seed=0):
    chosen = numbers(split)
    return [example(n, target="yes" if n > 700 else "no", prompt=f"Is {n} above 700?") for n in chosen[:limit]]


def asked(n):
    return sn.Example(str(n), f"What follows {n}?", str(n + 1))


def load_open(split, *, limit=None, seed=0):
    return [asked(n) for n in numbers(split)[:limit]]


def load_k(split, *, limit=None, seed=0, k=3):
    return [example(n, prompt=f"Is {n} a multiple of {k - 1}?") for n in numbers(split)[:limit]]


def ignores_limit(split, *, limit=None, seed=0):
    return load(split)


def counts_calls(split, *, limit=None, seed=0):
    return [example(n, group=f"g{n}", fields={"call": next(calls)}) for n in numbers(split)[:limit]]


def hashes(split, *, limit=None, seed=0):
    return [example(n, fields={"hash": hash("x")}) for n in numbers(split)[:limit]]


def by_place(split, *, limit=None, seed=0):
    chosen = numbers(split)
    random.Random(seed).shuffle(chosen)
    return [example(n, id=f"{split}/{i}") for i, n in enumerate(chosen[:limit])]


def first_choice(split, *, limit=None, seed=0):
    return [replace(asked(n), choices=(str(n + 1), str(n + 2))) for n in numbers(split)[:limit]]


def graded(right, wrong):
    def grade(example, text):
        return {"correct": right if text == example.target else wrong}

    return {"load": load_open, "kind": "open", "grade": grade}


BROKEN = {
    "loads": {"load": changed(target="maybe")},
    "loads-list": {"load": changed(choices=["yes", "no"])},
    "loads-nothing": {"load": lambda split, *, limit=None, seed=0: None},
    "loads-unlike": {"load": without_limit},
    "loads-no-data": {"load": no_data},
    "loads-raises": {"load": raises},
    "options": {"load": load, "options": {"k": 2}},
    "options-default": {"load": load_k, "options": {"k": 2}},
    "subtasks": {"load": load_k, "options": {"k": 3}, "subtasks": {"of-5": {"m": 5}}},
    "splits": {"load": changed(group="all")},
    "splits-copied": {"load": copied},
    "splits-copied-late": {"load": copied_late},
    "limit": {"load": ignores_limit},
    "same-seed": {"load": counts_calls},
    "same-seed-elsewhere": {"load": hashes},
    "same-seed-everywhere": {"load": seeds_all},
    "stable-ids": {"load": by_place},
    "chance": {"load": load, "chance": 0.25},
    "chance-place": {"load": first_choice, "chance": 0.5},
    "balance": {"load": in_order},
    "can-be-passed": graded(0.0, 0.0),
    "can-be-passed-text": graded(0.5, 0.0) | {"kind": "generation"},
    "can-be-failed": graded(1.0, 1.0),
    "grades": graded(2.0, 0.0),
    "labels": {"load": changed(labels={"even": 1.0, "never": float("nan")}), "label_columns": ("even", "never")},
    "text-round-trips": {"load": changed(prompt="Is cafe\\u0301 {n} open?")},
    "text-round-trips-token": {"load": changed(prompt="Is {n} over?<|endoftext|>")},
}


@sn.hookimpl
def register_tasks(register):
    for name, arguments in BROKEN.items():
        register(sn.Task(name, "1", **arguments))
"""
)

BROKEN_METRICS = """
import math

import skillneurons as sn

before = []


def changes(example, output):
    example.fields["seen"] = True
    return 1.0


def remembers(example, output):
    if before[-1:] != [example.id]:
        before.append(example.id)
    return float(before[-2:-1] == ["3_digit_multiplication/291/876/right"])


BROKEN = {
    "needs": {"per_example": lambda example, output: 1.0, "needs": ("logits",)},
    "tasks": {"per_example": lambda example, output: 1.0, "tasks": ("arithmetik",)},
    "runs": {"per_example": lambda example, output: output.choice_log_probs[0]},
    "columns": {"per_example": lambda example, output: {"a": 1.0}, "columns": ("a", "b")},
    "numbers": {"per_example": lambda example, output: 1.0 if output.text else math.inf},
    "scored": {"per_example": lambda example, output: math.nan},
    "deterministic": {"per_example": lambda example, output: float(hash(example.id))},
    "batch-invariance": {"per_example": remembers},
    "leaves-its-input": {"per_example": changes},
}


@sn.hookimpl
def register_metrics(register):
    for name, arguments in BROKEN.items():
        register(sn.Metric(name, **arguments))
"""

BROKEN_ATTRIBUTIONS = (
    ATTRIBUTION
    + """

class Transposed(Covariance):
    def result(self):
        return super().result().T


class Hashed(Covariance):
    def result(self):
        return super().result() * (1 + hash("x") % 1000003)


class Counting(Covariance):
    updates = 0

    def update(self, activations, values):
        self.updates += 1
        return super().update(activations, values)

    def result(self):
        return super().result() * self.updates


class Forgetting(Covariance):
    def merge(self, other):
        self.sums[0] += other.sums[0]
        return self


class Zeros(Covariance):
    def update(self, activations, values):
        return super().update(activations, np.nan_to_num(values))


class Dropping(Covariance):
    def update(self, activations, values):
        whole = ~np.isnan(values).any(axis=1)
        return super().update(activations[whole], values[whole])


class Centring(Covariance):
    def update(self, activations, values):
        super().update(activations, values)
        activations -= activations.mean(axis=0)


class Drifting(Covariance):
    def effect(self):
        return self.result() + self.sums[2] / self.sums[0] / 1000


class Unsigned(Covariance):
    def effect(self):
        return abs(self.result())


BROKEN = {
    "shape": Transposed,
    "deterministic": Hashed,
    "batch-invariance": Counting,
    "merge": Forgetting,
    "not-scored": Zeros,
    "not-scored-elsewhere": Dropping,
    "leaves-its-input": Centring,
    "constant-neuron": Drifting,
    "planted-neuron": Unsigned,
}


@sn.hookimpl
def register_attributions(register):
    for name, factory in BROKEN.items():
        register(name, factory)
"""
)

BROKEN_GRADERS = """
import itertools

import skillneurons as sn

calls = itertools.count()


def give(point):
    return lambda example, text, rubric, grading: dict.fromkeys(rubric, point)


def plain():
    return give(1.0)


def heavy():
    import scipy

    return give(float(bool(scipy.__version__)))


def two():
    return give(2.0)


def later():
    return lambda example, text, rubric, grading: dict.fromkeys(rubric, float(next(calls) >= 30))


@sn.hookimpl
def register_graders(register):
    register(sn.Grader("make", plain, options={"word": "indeed"}))
    register(sn.Grader("light-make", heavy))
    register(sn.Grader("points", two))
    register(sn.Grader("deterministic", later, synthetic=True))
"""

BROKEN = {
    "task": BROKEN_TASKS,
    "metric": BROKEN_METRICS,
    "attribution": BROKEN_ATTRIBUTIONS,
    "grader": BROKEN_GRADERS,
}
