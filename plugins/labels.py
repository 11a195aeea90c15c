"""Labels: what the task's examples, or the grader of their outputs, say from outside the model.

One column per name in ``Task.label_columns``. A label of the example stands for itself; one that only
the grader gives (``shown_metaphor``) is read from the output. NaN where neither has it.
"""

from __future__ import annotations

import math
from typing import Any

import skillneurons as sn


def labels(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Return every label that this example carries or its graded output has."""
    return {**output.labels, **example.labels}


def complete(task: sn.Task) -> tuple[str, ...]:
    return task.label_columns


def _per_example(example: sn.Example, output: sn.Output) -> dict[str, float]:
    return labels(example, output)
