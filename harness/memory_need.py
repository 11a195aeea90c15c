"""How much memory and disk a unit needs at its peak, in bytes: weights, kept keys and values, activations, sums, logits.

    device  weights + keys and values that are kept (up to the budget) + the largest single pass: its keys and values, its
            activations of one layer (of all layers where there is a gradient), its logits; on a GPU the sums of all columns
    host    the interpreter with torch and transformers, rows of activations (beyond 1 GiB in a temporary file), sums and
            scores of all columns, normal activations at the prompt; on a CPU what is on the device besides

Of several devices the fullest is told. Where they bear whole layers, it has its share of the weights and at most one layer more, keys and
values of its layers, and a pass's activations; where every layer is split, an equal part of weights, of keys and values, and of the neurons of
a layer, while sums, hidden states and logits are whole on each, and every process has its own rows of activations on the host. ``by_devices`` says it for other numbers of devices.

On a GPU the batch grows as long as memory lasts, so that more is used where there is more; what is said here is the need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skillneurons.causal_calls import GATE_EXAMPLES
from skillneurons.forward_calls import MEASURED, Call, Calls, Workload
from skillneurons.machine_speed import Devices
from skillneurons.model_shape import BYTES, ModelShape

INTERPRETER = 500e6  # torch, transformers, the board: resident on a CPU
INTERPRETER_GPU = 1.6e9  # and the GPU's libraries
CONTEXT_GPU = 0.6e9  # of the device
ROWS_IN_MEMORY = 1 << 30  # of kept activations (spool)
CACHE = 1.25  # of a pass's keys and values: they grow layer by layer, beside those they began from
LOGIT_COPIES = 6  # as they come, log-softmax, joined, exponential, product, without not-a-numbers
DONORS = 256  # examples whose activations are kept for resampling (reference)
CELL_JSON = 15e3  # bytes of a column in a cell's file
ONE = Devices()
SPREAD_OVER = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64)  # devices that are looked at
STRONGEST = 10  # neurons of a column whose activations are kept (passes)


@dataclass(frozen=True)
class MemoryNeed:
    """Peaks in bytes: ``device`` is 0 on a CPU, whose need is ``host`` alone. ``spool`` is a temporary file, ``disk`` stays."""

    device: float
    host: float
    disk: float
    spool: float
    by_devices: Mapping[str, float] = field(
        default_factory=dict
    )  # {"layers 2": bytes, "split 2": bytes}, up to MOST of them

    def fewest(self, room: float, *, split: bool) -> int | None:
        """Return on how many devices with so much memory it fits at the least; None where not on the most looked at."""
        kind = "split" if split else "layers"
        fitting = [
            int(name.split()[1]) for name, size in self.by_devices.items() if name.startswith(kind) and size <= room
        ]
        return min(fitting, default=None)


def memory_need(
    load: Workload, shape: ModelShape, calls: Calls, columns: int, n_tasks: int = 0, devices: Devices = ONE
) -> MemoryNeed:
    """Return what a unit needs; ``columns`` are those measured, ``n_tasks`` those compared at the end."""
    config, dtype = load.config, load.config.model.dtype
    n = {split: len(rows) for split, rows in load.rows.items()}
    positions = load.virtual if config.attribution.position == "max" and load.virtual else 1
    read = positions * shape.n_neurons
    kept = _kept(load)
    ranks = devices.n if devices.split else 1  # processes, each with a budget and rows of its own
    on_device = _on_device(load, kept, devices)
    sums = 8.0 * read * (columns + 3)  # moments of a split in one pass
    all_sums = sums * 2 * (3 if load.virtual else 1)  # both splits, every pass

    def needed(spread: Devices) -> float:
        own = _weights(shape, dtype, config.model.quantization, spread) + _on_device(load, kept, spread) / spread.n
        own += max((_pass_bytes(call, shape, dtype, spread) for call in calls), default=0)
        if not load.gpu:
            return own
        return own + (all_sums if spread.n == 1 or spread.split else sums / spread.n)

    device = needed(devices)
    spooled = [4.0 * n[split] * read for split in MEASURED]
    host = sum(size for size in spooled if size <= ROWS_IN_MEMORY)
    host += all_sums if not load.gpu or (devices.n > 1 and not devices.split) else 0.0
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
        others = {
            f"{kind} {n}": needed(Devices(n, split)) + CONTEXT_GPU
            for kind, split in (("layers", False), ("split", True))
            for n in SPREAD_OVER
            if (shape.splits_over(n) if split else n <= shape.n_layers)
        }
        host = kept - on_device + (host + INTERPRETER_GPU) * ranks
        return MemoryNeed(device + CONTEXT_GPU, host, disk, spool * ranks, others)
    return MemoryNeed(0.0, device + host + INTERPRETER, disk, spool)


def _on_device(load: Workload, kept: float, spread: Devices) -> float:
    """Return the bytes of kept keys and values that lie on the devices: each rank has the budget for its own part."""
    if not load.gpu:
        return kept
    return min(kept, load.config.cache.device_gb * 1e9 * (spread.n if spread.split else 1))


def _kept(load: Workload) -> float:
    """Return the bytes of keys and values that tuning and measuring keep at the same time."""
    if not load.virtual:
        return 0.0
    total = 0.0
    for splits in (("train", "validation"), MEASURED):
        total += min(load.budget, load.kv * sum(row.input for split in splits for row in load.rows[split]))
    return total


def _weights(shape: ModelShape, dtype: str, quantization: str | None, spread: Devices) -> float:
    """Return the weights on the fullest device."""
    whole = float(shape.weight_bytes(dtype, quantization))
    if spread.n == 1 or spread.split:
        return whole / spread.n
    layer = shape.layer_weights * BYTES[quantization or dtype]
    return min(whole, max(whole / spread.n, shape.embedding * BYTES[dtype]) + layer)


def _pass_bytes(call: Call, shape: ModelShape, dtype: str, spread: Devices = ONE) -> float:
    """Return what one forward pass takes beside the weights, on one device."""
    size, tokens = BYTES[dtype], call.rows * call.tokens
    cache = CACHE * call.rows * (call.past + call.tokens) * shape.kv_bytes(dtype) / spread.n
    one_layer = tokens * (6 * shape.d_model + 3 * shape.d_ff_run / (spread.n if spread.split else 1))
    layers = 2 * shape.n_layers / (1 if spread.split else spread.n) if call.gradient else 1
    logits = 4.0 * LOGIT_COPIES * call.rows * call.logits * shape.vocabulary
    return cache + size * one_layer * layers + logits
