"""The scores of every neuron that a pass keeps, read without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from skillneurons.errors import ResultsError
from skillneurons.results import ResultsFolder, check_key


def read_scores(folder: ResultsFolder, key: str) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return (discovery scores, heldout scores) of a pass by column, each float32 (n_layers, d_ff)."""
    place = folder.passes / check_key(key)
    try:
        return load_file(place / "scores.safetensors"), load_file(place / "heldout.safetensors")
    except (OSError, SafetensorError) as error:
        raise ResultsError(
            f"{place}: cannot read the scores of this pass ({error}); delete the folder and its cells and run again"
        ) from error
