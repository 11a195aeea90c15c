"""A pass on disk: the examples with every metric value, and every neuron's score.

``examples.parquet``: id, split, group, prompt (the exact text that was tokenised), target, text,
correct, then one column per metric column. ``scores.safetensors``: per metric column one float32
tensor (n_layers, d_ff), the discovery split's score of every neuron; ``heldout.safetensors`` the same
of the heldout split. ``neurons.safetensors``: per metric column the activations of its ten strongest neurons on both
splits, (rows, neurons) in the order of the examples, and which neurons they are, (neurons, 2) of layer and neuron. From
these files and the plain model anyone can recompute a score.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from skillneurons.atomic import whole_folder, write_atomic
from skillneurons.attribution import Attribution
from skillneurons.results import ResultsFolder, check_key
from skillneurons.statistics import ranking

SAVED_SPLITS = ("discovery", "heldout")
STRONGEST = 10  # neurons of a column whose activations are kept


def write_pass(folder: ResultsFolder, key: str, attribution: Attribution, columns: Sequence[str]) -> Path:
    """Write the named columns of a pass as one folder that appears whole; one of the same key is replaced.

    All metrics of a unit are measured in one go but each keeps its own folder under its cell's key, so
    that a cell's bytes do not depend on which other metrics were still missing when it was measured.
    """
    target = folder.passes / check_key(key)
    with whole_folder(target) as draft:
        write_atomic(draft / "examples.parquet", _examples_parquet(attribution, columns))
        for name, scores in (("scores", attribution.scores), ("heldout", attribution.heldout)):
            arrays = {column: np.ascontiguousarray(scores[column]) for column in columns}
            write_atomic(draft / f"{name}.safetensors", save(arrays))
        write_atomic(draft / "neurons.safetensors", save(_strongest(attribution, columns)))
    folder.publish(target)
    return target


def _strongest(attribution: Attribution, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``column/discovery``, ``column/heldout`` and ``column/neurons`` of every column that has neurons."""
    found: dict[str, np.ndarray] = {}
    for column in columns:
        d_ff = attribution.scores[column].shape[1]
        flat = ranking(attribution.scores[column], STRONGEST)
        at = attribution.positions[column].ravel()[flat] if column in attribution.positions else None
        for split in SAVED_SPLITS:
            rows = attribution.splits[split].rows  # type: ignore[index]
            if rows is not None and len(flat):
                found[f"{column}/{split}"] = rows.of(flat, at)
                found[f"{column}/neurons"] = np.stack([flat // d_ff, flat % d_ff], axis=1)
    return found


def _examples_parquet(attribution: Attribution, chosen: Sequence[str]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, list[object]] = {
        name: [] for name in ("id", "split", "group", "prompt", "target", "text", "correct")
    }
    values = []
    for split in SAVED_SPLITS:
        measured = attribution.splits[split]  # type: ignore[index]
        for row, output in zip(measured.encoded, measured.outputs, strict=True):
            example = row.example
            cells = (
                example.id,
                split,
                example.group or example.id,
                row.text,
                example.target,
                output.text,
                output.correct,
            )
            for name, value in zip(columns, cells, strict=True):
                columns[name].append(value)
        values.append(measured.values)
    table = pa.table(columns)
    order = list(attribution.scores)
    for name in chosen:
        i = order.index(name)
        table = table.append_column(name, pa.array(np.concatenate([part[:, i] for part in values])))
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()
