"""The scores of every neuron that a pass keeps, read without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from skillneurons.errors import ResultsError
from skillneurons.results import ResultsFolder, check_key


def discovery_scores(folder: ResultsFolder, key: str) -> Mapping[str, np.ndarray]:
    """Return the discovery scores of a pass by column, each float32 (n_layers, d_ff); raise ResultsError where they are damaged."""
    return _read(folder, key, "scores.safetensors")


def heldout_scores(folder: ResultsFolder, key: str) -> Mapping[str, np.ndarray] | None:
    """Return the held-out scores of a pass by column, as ``discovery_scores``; None where they were not kept."""
    if not (folder.fetched(folder.passes / check_key(key)) / "heldout.safetensors").exists():
        return None
    return _read(folder, key, "heldout.safetensors")


def read_scores(folder: ResultsFolder, key: str) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return (discovery scores, heldout scores) of a pass by column, each float32 (n_layers, d_ff)."""
    return discovery_scores(folder, key), _read(folder, key, "heldout.safetensors")


def _read(folder: ResultsFolder, key: str, name: str) -> Mapping[str, np.ndarray]:
    place = folder.fetched(folder.passes / check_key(key))
    try:
        return load_file(place / name)
    except (OSError, SafetensorError) as error:
        raise ResultsError(
            f"{place}: cannot read the scores of this pass ({error}); delete the folder and its cells and run again"
        ) from error
