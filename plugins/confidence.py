"""Confidence: how sure the model is of the right answer and of its own.

Columns (natural logarithms):

- ``p_target``: probability of the target. For a choice it is normalised over the choices, else it is
  the product over the target's tokens.
- ``p_predicted``: the same of the answer the model gives.
- ``margin``: top probability minus the second, over choices, or the mean over generated tokens.
- ``mean_log_prob``: log-probability of the target per token, over the whole vocabulary.
- ``neg_entropy``: minus the entropy over choices, or minus the mean over generated tokens.
"""

from __future__ import annotations

import math
from typing import Any

import skillneurons as sn

COLUMNS = ("p_target", "p_predicted", "margin", "mean_log_prob", "neg_entropy")


def confidence(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Return the five columns of one example."""
    log_norm = 0.0
    if output.choice_log_probs is not None:
        top = max(output.choice_log_probs)
        log_norm = top + math.log(sum(math.exp(value - top) for value in output.choice_log_probs))
    return {
        "p_target": math.exp(output.target_log_prob - log_norm),
        "p_predicted": math.exp(output.predicted_log_prob - log_norm),
        "margin": output.margin,
        "mean_log_prob": output.target_log_prob / output.n_target_tokens,
        "neg_entropy": -output.entropy,
    }


@sn.hookimpl
def register_metrics(register: Any) -> None:
    register(sn.Metric("confidence", confidence, COLUMNS, description="how sure the model is"))
