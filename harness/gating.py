"""Skills on demand: a gate reads an input, recognises the skill it needs, and switches that skill on.

The gate is a softmax regression on the activations at the input's last token, all neurons standardised on the training
inputs; weights by L-BFGS with an L2 penalty (no random start). It reads the input alone, before any prompt. Switching a
skill on means its prompt, or its prompt and a push of its neurons (``boost``). Policies compared on the same held-out
inputs of all tasks, accuracy averaged over tasks:

    never      no prompt                    always X   the prompt of X for every input
    gate       the recognised skill's       oracle     the skill's own, known
    gate + boost, oracle + boost            the same with the push
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.activations import ActivationRecorder
from skillneurons.changes import Change
from skillneurons.effects import balanced
from skillneurons.errors import UserError
from skillneurons.inputs import EncodedExample, equal_length_batches
from skillneurons.model import LanguageModel
from skillneurons.outputs import read_inputs
from skillneurons.prompt import SoftPrompt
from skillneurons.reference import Reference
from skillneurons.replay import Replay
from skillneurons.types import Task

PENALTY = 1e-2
STEPS = 100

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Skill:
    """A task with its prompt and, for a boost, its neurons (flat indices), their signs and its reference."""

    task: Task
    prompt: SoftPrompt
    train: Sequence[EncodedExample]
    heldout: Sequence[EncodedExample]
    reference: Reference
    neurons: Sequence[int] = ()
    signs: Sequence[float] = ()


@dataclass(frozen=True, eq=False)
class SkillGate:
    """``names`` of the skills, ``weights`` (skills, neurons + 1), mean and sd of the training activations."""

    names: tuple[str, ...]
    weights: Doubles
    mean: Doubles
    sd: Doubles

    def recognise(self, activations: npt.NDArray[Any]) -> list[str]:
        """Return the skill of each row of activations at the input's last token (rows, n_neurons)."""
        x = np.c_[(activations - self.mean) / self.sd, np.ones(len(activations))]
        return [self.names[i] for i in (x @ self.weights.T).argmax(axis=1)]


def train_gate(activations: npt.NDArray[Any], skills: Sequence[str]) -> SkillGate:
    """Fit a gate on activations (rows, n_neurons) and the skill of each row; raise UserError for fewer than two skills."""
    names = tuple(sorted(set(skills)))
    if len(names) < 2:
        raise UserError(
            f"a gate chooses between skills, but there is only {', '.join(names) or 'none'}; give two or more"
        )
    mean, sd = activations.mean(axis=0, dtype=np.float64), activations.std(axis=0, dtype=np.float64)
    sd = np.where(sd > 0, sd, 1.0)
    x = torch.from_numpy(np.c_[(activations - mean) / sd, np.ones(len(activations))])
    y = torch.tensor([names.index(name) for name in skills])
    weights = torch.zeros(len(names), x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weights.T, y) + PENALTY * (weights[:, :-1] ** 2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return SkillGate(names, weights.detach().numpy(), mean, sd)


def read_activations(
    lm: LanguageModel, encoded: Sequence[EncodedExample], batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Return the activations at the input's last token, shape (examples, n_neurons), in the examples' order."""
    place = {row.index: i for i, row in enumerate(encoded)}
    found = np.empty((len(encoded), lm.n_neurons), dtype=np.float32)
    with ActivationRecorder(lm) as recorder:
        for rows in equal_length_batches(encoded, batch_size):
            found[[place[row.index] for row in rows]] = read_inputs(lm, rows, None, recorder).cpu().numpy()
    return found


@dataclass(frozen=True)
class OnDemand:
    """How often the gate is right, by task, and each policy's accuracy by task and on average."""

    recognised: Mapping[str, float]
    policies: Mapping[str, Mapping[str, float | None]]
    alpha: float

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


def skills_on_demand(
    lm: LanguageModel, skills: Mapping[str, Skill], *, alpha: float = 2.0, batch_size: int = 64, seed: int = 0
) -> OnDemand:
    """Train a gate on the skills' training inputs and compare the policies on their held-out inputs."""
    train = {name: read_activations(lm, skill.train, batch_size) for name, skill in skills.items()}
    gate = train_gate(np.concatenate(list(train.values())), [n for n, rows in train.items() for _ in range(len(rows))])
    choices = {n: gate.recognise(read_activations(lm, skill.heldout, batch_size)) for n, skill in skills.items()}
    run = _Runs(lm, skills, alpha, batch_size, seed)
    policies: dict[str, dict[str, float | None]] = {}
    for policy in ("never", *(f"always {name}" for name in skills), "gate", "oracle", "gate + boost", "oracle + boost"):
        policies[policy] = {}
        for name, skill in skills.items():
            boost = policy.endswith("boost")
            if policy == "never":
                correct = run.correct(name, None, False)
            elif policy.startswith("always "):
                correct = run.correct(name, policy.removeprefix("always "), False)
            elif policy.startswith("oracle"):
                correct = run.correct(name, name, boost)
            else:
                by_skill = {other: run.correct(name, other, boost) for other in sorted(set(choices[name]))}
                correct = np.array([by_skill[other][i] for i, other in enumerate(choices[name])])
            policies[policy][name] = _finite(balanced(correct, _classes(skill.heldout)))
        known = [value for value in policies[policy].values() if value is not None]
        policies[policy]["mean"] = float(np.mean(known)) if known else None
    right = {name: float(np.mean([other == name for other in chosen])) for name, chosen in choices.items()}
    return OnDemand({**right, "mean": float(np.mean(list(right.values())))}, policies, alpha)


class _Runs:
    """Runs a task's held-out inputs under a skill's prompt, each combination once."""

    def __init__(
        self, lm: LanguageModel, skills: Mapping[str, Skill], alpha: float, batch_size: int, seed: int
    ) -> None:
        self.lm, self.skills, self.alpha, self.batch_size, self.seed = lm, skills, alpha, batch_size, seed
        self._known: dict[tuple[str, str | None, bool], Doubles] = {}

    def correct(self, name: str, switched_on: str | None, boost: bool) -> Doubles:
        """Return how right each held-out example of a task is, with a skill switched on (None: no prompt)."""
        key = (name, switched_on, boost)
        if key not in self._known:
            skill = self.skills[name]
            other = self.skills[switched_on] if switched_on is not None else None
            reference = other.reference if other else skill.reference
            positions = "prompt" if other else "answer"
            replay = Replay(
                self.lm,
                skill.task,
                skill.heldout,
                other.prompt if other else None,
                reference,
                positions,
                self.batch_size,
                self.seed,
            )
            change = Change()
            if boost and other:
                amounts = tuple(self.alpha * float(np.sign(sign)) for sign in other.signs)
                change = Change(tuple(other.neurons), "steer", amounts)
            (outputs,) = replay.outputs([change])
            self._known[key] = np.array([output.correct for output in outputs], dtype=np.float64)
        return self._known[key]


def _classes(encoded: Sequence[EncodedExample]) -> npt.NDArray[np.int64]:
    same = len({row.example.choices for row in encoded}) == 1
    names = [row.example.target if row.example.choices and same else "" for row in encoded]
    classes: npt.NDArray[np.int64] = np.unique(names, return_inverse=True)[1]
    return classes


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
