"""Correlate every neuron with values that are known beforehand: the inputs run once, and nothing else does.

No answer is scored and no logit computed, the last feed-forward layer runs on the read position alone, inputs of one length
run together without padding, and what is kept are sums (``statistics``), so memory does not grow with the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.device_sums import DeviceSums
from skillneurons.errors import UserError
from skillneurons.input_cache import InputCache
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.measurement import positions_read, recorder_for, sums_of
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.outputs import read_inputs
from skillneurons.prompt import SoftPrompt
from skillneurons.statistics import PearsonAccumulator
from skillneurons.types import Example, Task


def correlate(
    lm: LanguageModel,
    texts: Sequence[str],
    values: Any,
    *,
    prompt: SoftPrompt | None = None,
    position: str = "last",
    site: str = "product",
    batch_size: int = 64,
    too_long: str = "refuse",
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return Pearson's r of every neuron with every column of ``values``, shape (columns, n_layers, d_ff).

    ``texts`` are inputs (the chat template is applied where the model uses one); ``values`` (texts, columns) or (texts,), NaN
    where not scored. Activations are read at the last token of the input, or with a ``prompt`` at its ``last`` token or
    as the ``mean`` over its tokens. NaN where a neuron or a column has no variance.
    """
    if position not in ("last", "mean"):
        raise UserError(f"correlate reads at position 'last' or 'mean', got {position!r}; sn.attribute has them all")
    columns = np.asarray(values, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != len(texts) or not len(texts):
        raise UserError(f"values must be (texts, columns) for {len(texts)} texts (at least one), got {columns.shape}")
    task = Task("correlate", "1", lambda split: (), kind="open", max_new_tokens=1)
    examples = [Example(str(i), text, "0") for i, text in enumerate(texts)]
    m = prompt.num_virtual_tokens if prompt is not None else 0
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=m, too_long=too_long)
    sums = correlate_encoded(
        lm, encoded, columns, prompt, position=position, site=site, batch_size=batch_size, progress=progress
    )
    return sums.result().astype(np.float32).reshape(columns.shape[1], lm.n_layers, lm.d_ff)


def correlate_encoded(
    lm: LanguageModel,
    encoded: Sequence[EncodedExample],
    values: npt.NDArray[np.float64],
    prompt: SoftPrompt | None = None,
    *,
    position: str = "last",
    site: str = "product",
    batch_size: int = 64,
    inputs: InputCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> PearsonAccumulator:
    """Return the sums of encoded examples with ``values`` (examples, columns), rows in their order."""
    sums = sums_of(PearsonAccumulator, lm, positions_read(prompt, position) * lm.n_neurons, values.shape[1])
    place = {row.index: i for i, row in enumerate(encoded)}
    fitting = MicroBatches(batch_size)
    with recorder_for(lm, prompt, position, site) as recorder:
        for rows in equal_length_batches(encoded, batch_size, lm.tokens_at_once):
            for part, read in fitting.run(rows, lambda part: read_inputs(lm, part, prompt, recorder, inputs)):
                sums.update(read, values[[place[row.index] for row in part]])
                if progress:
                    progress(len(part))
    found: PearsonAccumulator = sums.joined() if isinstance(sums, DeviceSums) else sums
    return found
