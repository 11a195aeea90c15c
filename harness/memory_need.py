"""How much memory and disk a unit needs at its peak, in bytes: weights, kept keys and values, activations, sums, logits.

    device  weights + keys and values that are kept (up to the budget) + the largest single pass: its keys and values, its
            activations of one layer (of all layers where there is a gradient), its logits
    host    the interpreter with torch and transformers, rows of activations (beyond 1 GiB in a temporary file), sums and
            scores of all columns, normal activations at the prompt; on a CPU what is on the device besides

On a GPU the batch grows as long as memory lasts, so that more is used where there is more; what is said here is the need.
"""

from __future__ import annotations

from dataclasses import dataclass

from skillneurons.causal_calls import GATE_EXAMPLES
from skillneurons.forward_calls import MEASURED, Call, Calls, Workload
from skillneurons.model_shape import BYTES, ModelShape

INTERPRETER = 500e6  # torch, transformers, the board: resident on a CPU
INTERPRETER_GPU = 1.6e9  # and the GPU's libraries
CONTEXT_GPU = 0.6e9  # of the device
ROWS_IN_MEMORY = 1 << 30  # of kept activations (spool)
CACHE = 1.25  # of a pass's keys and values: they grow layer by layer, beside those they began from
LOGIT_COPIES = 6  # as they come, log-softmax, joined, exponential, product, without not-a-numbers
DONORS = 256  # examples whose activations are kept for resampling (reference)
CELL_JSON = 15e3  # bytes of a column in a cell's file
STRONGEST = 10  # neurons of a column whose activations are kept (passes)


@dataclass(frozen=True)
class MemoryNeed:
    """Peaks in bytes: ``device`` is 0 on a CPU, whose need is ``host`` alone. ``spool`` is a temporary file, ``disk`` stays."""

    device: float
    host: float
    disk: float
    spool: float


def memory_need(load: Workload, shape: ModelShape, calls: Calls, columns: int, n_tasks: int = 0) -> MemoryNeed:
    """Return what a unit needs; ``columns`` are those measured, ``n_tasks`` those compared at the end."""
    config, dtype = load.config, load.config.model.dtype
    n = {split: len(rows) for split, rows in load.rows.items()}
    positions = load.virtual if config.attribution.position == "max" and load.virtual else 1
    read = positions * shape.n_neurons
    device = float(shape.weight_bytes(dtype, config.model.quantization))
    kept = _kept(load)
    on_device = min(kept, load.config.cache.device_gb * 1e9) if load.gpu else kept
    device += on_device + max((_pass_bytes(call, shape, dtype) for call in calls), default=0)
    spooled = [4.0 * n[split] * read for split in MEASURED]
    host = kept - on_device + sum(size for size in spooled if size <= ROWS_IN_MEMORY)
    host += 8.0 * read * (columns + 3) * 2 * (3 if load.virtual else 1)  # moments, both splits, every pass
    host += 4.0 * shape.n_neurons * columns * 8  # scores, null, intervals
    causal = config.causal
    if causal.enabled and any(load.tested):
        prompt = max(1, load.virtual) * shape.n_neurons
        host += 8.0 * 6 * prompt  # mean, sd and sums
        normal = 2 * 4.0 * config.attribution.at_once * prompt
        if causal.mode == "resample":
            normal += 4.0 * min(DONORS, n["discovery"]) * prompt
        gate = 3 * 8.0 * n_tasks * min(GATE_EXAMPLES, n["train"]) * shape.n_neurons if n_tasks > 1 else 0.0
        host += max(normal, gate)
    disk = 2 * 4.0 * shape.n_neurons * columns + CELL_JSON * columns
    disk += columns * STRONGEST * 4.0 * sum(n[split] for split in MEASURED) + 4.0 * load.virtual * shape.d_model
    spool = sum(size for size in spooled if size > ROWS_IN_MEMORY)
    if load.gpu:
        return MemoryNeed(device + CONTEXT_GPU, host + INTERPRETER_GPU, disk, spool)
    return MemoryNeed(0.0, device + host + INTERPRETER, disk, spool)


def _kept(load: Workload) -> float:
    """Return the bytes of keys and values that tuning and measuring keep at the same time."""
    if not load.virtual:
        return 0.0
    total = 0.0
    for splits in (("train", "validation"), MEASURED):
        total += min(load.budget, load.kv * sum(row.input for split in splits for row in load.rows[split]))
    return total


def _pass_bytes(call: Call, shape: ModelShape, dtype: str) -> float:
    """Return what one forward pass takes beside the weights."""
    size, tokens = BYTES[dtype], call.rows * call.tokens
    cache = CACHE * call.rows * (call.past + call.tokens) * shape.kv_bytes(dtype)
    one_layer = tokens * (6 * shape.d_model + 3 * shape.d_ff_run)
    layers = 2 * shape.n_layers if call.gradient else 1
    logits = 4.0 * LOGIT_COPIES * call.rows * call.logits * shape.vocabulary
    return cache + size * one_layer * layers + logits
