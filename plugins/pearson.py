"""Pearson correlation as a registered statistic: factory(n_neurons, n_columns) of its accumulator."""

from __future__ import annotations

from typing import Any

import skillneurons as sn
from skillneurons.statistics import PearsonAccumulator


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("pearson", PearsonAccumulator)
