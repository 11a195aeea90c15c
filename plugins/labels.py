"""Labels: what the task's examples, or the grader of their outputs, say from outside the model.

One column per name in ``Task.label_columns``. A label of the example stands for itself; one that only
the grader gives (``shown_metaphor``) is read from the graded output. NaN where neither has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import skillneurons as sn


def columns(task: sn.Task) -> Sequence[str]:
    """Return the labels that a task declares."""
    return task.label_columns


def labels(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Return every label that this example carries or its graded output has."""
    return {**output.labels, **example.labels}


@sn.hookimpl
def register_metrics(register: Any) -> None:
    register(sn.Metric("labels", labels, columns, description="external labels of the task's examples"))
