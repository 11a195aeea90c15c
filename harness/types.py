"""What plugin authors handle: examples, outputs, tasks and metrics.

Everything here is a frozen dataclass and imports neither torch nor numpy, so that a plugin
registers in milliseconds.

An :class:`Example` is one input. An :class:`Output` is what the model did with it. A
:class:`Metric` turns both into one number per example and column; NaN means "not scored",
never 0. Log-probabilities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from skillneurons.plugin_calls import PluginCall, call_plugin

Split = Literal["train", "validation", "discovery", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "validation", "discovery", "heldout")
Kind = Literal["open", "choice", "generation"]
KINDS: tuple[Kind, ...] = ("open", "choice", "generation")


@dataclass(frozen=True, slots=True)
class Example:
    """One input of a task.

    ``prompt`` is the text the model reads and ``target`` the expected answer, tokenised as it
    stands (no space is added between them). ``choices`` lists the possible answers where the
    task is a choice; ``target`` is one of them. ``labels`` are external labels by name (float,
    NaN = not scored). Examples of one ``group`` always land in the same split; an empty group
    stands for the example's own ``id``. ``fields`` is whatever else the task knows.
    """

    id: str
    prompt: str
    target: str
    choices: tuple[str, ...] | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    group: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """What the model did with one example (log-probabilities in nats).

    ``text`` is the answer (the chosen choice, or the greedy continuation) and ``predicted`` the
    same as a choice, None where there are none. ``choice_log_probs`` stand in the order of
    ``Example.choices``, each summed over the choice's tokens. ``target_log_prob`` sums over the
    ``n_target_tokens`` tokens of the target. ``predicted_log_prob`` sums over the answer's own
    tokens; ``margin`` (top probability minus the second) and ``entropy`` (nats) are those of the
    distribution over choices, or the mean over the generated tokens. ``labels`` are what
    ``Task.grade`` said about the text.
    """

    text: str
    correct: float
    target_log_prob: float
    choice_log_probs: tuple[float, ...] | None = None
    predicted: str | None = None
    n_target_tokens: int = 1
    predicted_log_prob: float = math.nan
    margin: float = math.nan
    entropy: float = math.nan
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of a task's own evaluation, as its authors define it.

    ``name`` is what is measured (``exact_match``), ``part`` what it is measured on (a subtask, a
    subcase; empty: everything), ``n`` how many examples it rests on. NaN where nothing was scored.
    ``detail`` marks a figure of a small part, which stands in the cell but not on the board.
    """

    name: str
    value: float
    n: int
    part: str = ""
    detail: bool = False


def answer_text(example: Example, output: Output) -> str:
    """Return the answer as it stands."""
    return output.text


def answer_as_written(example: Example, prediction: str) -> str:
    """Return a prediction as it stands."""
    return prediction


@dataclass(frozen=True, slots=True)
class PredictionForm:
    """How answers stand in a predictions file: two columns, and what an answer is called there.

    ``write`` turns an output into the text of the second column, ``read`` that text into an answer
    (one of the example's choices, where there are choices).
    """

    columns: tuple[str, str] = ("id", "prediction")
    write: Callable[[Example, Output], str] = answer_text
    read: Callable[[Example, str], str] = answer_as_written


@dataclass(frozen=True, slots=True)
class Grader:
    """Someone who gives points to a text: rules, a local model, an endpoint.

    ``make(**options)`` returns the function that grades; ``options`` maps every option name that
    ``make`` takes to its default. The function is called with (example, text, rubric, grading):
    ``rubric`` maps each item to the question it asks about the text, ``grading`` counts the gradings
    of one text from 0. It returns items with their points (1 or 0, NaN = could not be graded); it may
    leave out what it was asked and grade more than that. ``synthetic`` marks a grader that knows only
    text made for it. ``identity(**options)`` returns, by name, what else its points depend on (the revision
    of a model), for the key of a cell; it loads nothing heavy.
    """

    name: str
    make: Callable[..., Callable[[Example, str, Mapping[str, str], int], Mapping[str, float]]]
    version: str = "1"
    options: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
    description: str = ""
    identity: Callable[..., Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A skill to look for: where its examples come from and how an answer is graded.

    ``load(split, *, limit=None, seed=0, **options)`` returns the examples of one split; the four
    splits must not share an ``id`` or a ``group``. ``options`` maps every option name that
    ``load`` takes to its default. ``kind`` is ``choice`` (each example has choices), ``open``
    (the greedy continuation must equal the target) or ``generation`` (free text; ``grade`` is
    required). ``grade(example, text)`` returns named numbers about a text, among them
    ``correct`` (0..1, NaN = not scored); without it an answer is right when it equals the target
    after stripping white space. ``label_columns`` names every label that examples or ``grade``
    can carry. ``chance`` is the accuracy of a guess.

    What a task may have besides:

    - ``form``: how the question is put, in a word or two; ``sizes``: how many examples a split gives
      when no limit is set.
    - ``subtasks``: parts that can be asked for by name (``arithmetic/2_digit_addition``), each with the
      options that it fixes.
    - ``score(pairs)``: the authors' own figures from (example, output) pairs; several outputs of one
      example are several pairs. ``predictions``: the form of a predictions file.
    - ``follow_up(example, text)``: what is said to the model after its first text, or None; the answer to
      that is then what counts. Called with an empty text to learn how long it is.
    - ``rubric(example)`` and ``marks(example, text, points)``: graded by a ``Grader`` (the options
      ``grader``, ``grader_options``, ``gradings``) instead of ``grade``: the items with their questions,
      and the named numbers that follow from the points.
    - ``tuned_on(**options)``: what data the prompt is tuned on, in words for the table.
    - ``rivals``: the column of the explanation that is wanted (``heuristics.correct``) mapped to those that could pass
      for it (``heuristics.last_digit_ok``), all of 0 and 1; the shortcut report weighs them against each other.
    - ``primary``: full names of the columns that stand for the skill, the foremost first, at most one per metric: what
      causal tests are about.
    - ``fit(**options)``: fields of the task that depend on its options (``label_columns``), by name.
    - ``family``: the task stands for others and cannot be run by itself; ``subtasks`` are what can.
    """

    name: str
    version: str
    load: Callable[..., Sequence[Example]]
    kind: Kind = "choice"
    source: str = ""
    licence: str = ""
    chance: float | None = None
    max_new_tokens: int = 16
    description: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    label_columns: tuple[str, ...] = ()
    grade: Callable[[Example, str], Mapping[str, float]] | None = None
    form: str = ""
    sizes: Mapping[Split, int] = field(default_factory=dict)
    subtasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Callable[[Sequence[tuple[Example, Output]]], Sequence[Score]] | None = None
    predictions: PredictionForm = field(default_factory=PredictionForm)
    follow_up: Callable[[Example, str], str | None] | None = None
    rubric: Callable[[Example], Mapping[str, str]] | None = None
    marks: Callable[[Example, str, Mapping[str, float]], Mapping[str, float]] | None = None
    tuned_on: Callable[..., str] | None = None
    fit: Callable[..., Mapping[str, Any]] | None = None
    rivals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    primary: Sequence[str] = ()
    family: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per example and column, computed from an example and the model's output.

    ``per_example(example, output)`` returns a float (a metric of one column, named like the
    metric) or a mapping from each name in ``columns`` to a float. ``columns`` may be a function
    of the task where the columns depend on it; a metric with no column for a task does not
    apply there. ``tasks`` restricts the metric to named tasks. ``needs`` names the Output fields
    without which the metric has nothing to say (``choice_log_probs``).
    """

    name: str
    per_example: Callable[[Example, Output], float | Mapping[str, float]]
    columns: Sequence[str] | Callable[[Task], Sequence[str]] | None = None
    tasks: Sequence[str] | None = None
    needs: tuple[str, ...] = ()
    version: str = "1"
    description: str = ""

    def columns_for(self, task: Task) -> tuple[str, ...]:
        """Return the full names (``metric.column``, or ``metric``) of the columns for a task."""
        if self.tasks is not None and not {task.name, task.name.partition("/")[0]} & set(self.tasks):
            return ()
        if self.columns is None:
            return (self.name,)
        names = self.columns
        if callable(names):
            names = tuple(call_plugin(PluginCall("metric", self.name, "columns", f"task {task.name!r}"), names, task))
        return tuple(f"{self.name}.{name}" for name in names)
