"""How fast a machine is: this one, measured in a moment without torch, or one that is stated.

A forward pass takes max(operations / ``flops``, bytes of weights / ``bandwidth``) for its products, the time to move keys,
values and logits at ``bandwidth``, and ``overhead`` seconds a layer whatever it computes. Measured are a matrix product on the
CPU and a copy of memory, about 0.1 s together; the overhead is that of a small product done by torch
from Python, which only torch could tell: it stands here as a constant, scaled by how fast this Python counts.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from skillneurons.errors import UserError, unknown_name
from skillneurons.forward_calls import Call, Calls
from skillneurons.model_shape import BYTES, ModelShape

SECONDS = 0.03  # of one measurement, at least
SIDE = 64  # of the product
CPU_SHARE = 0.55  # of the rate of products that forward passes of such batches reach
OVERHEAD = 3.5e-4  # s a layer on a CPU, where counting to 50,000 takes REFERENCE
REFERENCE = 1e-3
GPU_OVERHEAD = 2.5e-4  # s a layer: some twenty small kernels
SPLIT_EFFICIENCY = 0.6  # of a device's rate that it adds where layers are split: the exchanges take the rest
EXCHANGE = 5e-5  # s of one exchange between devices; two a layer
MOST_DEVICES = 64
SHARE = 0.4  # of a GPU's stated rate that such batches reach


@dataclass(frozen=True)
class Devices:
    """How many devices a model lies on: whole layers on each, or a part of every layer (``split``: tensor parallel)."""

    n: int = 1
    split: bool = False


@dataclass(frozen=True)
class Speed:
    """A machine: operations and bytes a second, seconds of overhead a layer, memory of its device, and where that is from.

    ``spread`` is by what factor a time may be off either way. ``factor`` corrects times by runs that were measured. ``devices`` of
    one kind share a model: layer after layer, of which one computes at a time, or each layer ``split`` over all.
    """

    told: str
    flops: float
    bandwidth: float
    overhead: float
    gpu: bool = False
    device_bytes: float | None = None
    spread: float = 1.6
    factor: float = 1.0
    calibrated: bool = False
    devices: Devices = Devices()

    def seconds(self, calls: Calls, shape: ModelShape, dtype: str) -> float:
        """Return how long forward (and backward) passes take."""
        return self.factor * sum(n * self._of(call, shape, dtype) for call, n in calls.items())

    def _of(self, call: Call, shape: ModelShape, dtype: str) -> float:
        if not call.rows or not call.tokens:
            return 0.0
        tokens, seen = call.rows * call.tokens, call.past + call.tokens
        wide = shape.n_heads * shape.head_size
        attention = 4.0 * tokens * (call.past + call.tokens / 2) * wide * shape.n_layers
        logits = call.rows * call.logits
        work = 2.0 * tokens * shape.layer_weights_run * shape.n_layers + attention + 2.0 * logits * shape.embedding
        weights = BYTES[dtype] * (shape.n_layers * shape.layer_weights_run + (shape.embedding if logits else 0))
        moved = 3.0 * call.rows * seen * shape.kv_bytes(dtype) + 24.0 * logits * shape.vocabulary
        once = max(work / self.flops, weights / self.bandwidth) + moved / self.bandwidth
        once += self.overhead * (shape.n_layers + 1)
        return 2 * once if call.gradient else once  # the weights are frozen: backward costs as much as forward

    def scaled(self, factor: float, spread: float, told: str) -> Speed:
        """Return the same machine with its times corrected."""
        return replace(self, factor=factor, spread=spread, told=told, calibrated=True)


@dataclass(frozen=True)
class Stated:
    """What a maker states: TFLOP/s of bfloat16 and of float32, GB/s, GB."""

    narrow: float
    wide: float
    bandwidth: float
    memory: float


STATED = {
    "h200": Stated(989, 67, 4800, 141),
    "h100": Stated(989, 67, 3350, 80),
    "a100": Stated(312, 19.5, 2039, 80),
    "l40s": Stated(362, 92, 864, 48),
    "a10": Stated(125, 31, 600, 24),
    "l4": Stated(121, 30, 300, 24),
    "t4": Stated(65, 8.1, 320, 16),
    "v100": Stated(125, 15.7, 900, 32),
    "rtx4090": Stated(165, 83, 1008, 24),
    "rtx3090": Stated(71, 36, 936, 24),
}


def stated_speed(name: str, dtype: str, *, split: bool = False) -> Speed:
    """Return a machine by its name, ``8xh100`` for several devices; raise UserError for one that is not in the table.

    With ``split`` every layer is split over them (tensor parallel), which is quicker; else they bear the layers in turn.
    """
    count, _, kind = name.lower().rpartition("x") if re.match(r"\d+x", name) else ("1", "", name.lower())
    known, n = STATED.get(kind), int(count)
    if known is None:
        raise unknown_name("machine", kind, STATED)
    if not 1 <= n <= MOST_DEVICES:
        raise UserError(f"machine {name!r}: a model can be spread over 1 to {MOST_DEVICES} devices, as in 8xh100")
    rate = known.wide if dtype == "float32" else known.narrow
    gain = 1 + (n - 1) * SPLIT_EFFICIENCY if split else 1.0
    told = (
        f"{kind} as its maker states it ({rate:g} TFLOP/s of {dtype}, {known.bandwidth:g} GB/s), {SHARE:.0%} of it used"
    )
    if n > 1:
        told = f"{n} x {told}; " + (
            f"every layer split over them (model.tp_plan): each more adds {SPLIT_EFFICIENCY:.0%} of one"
            if split
            else "one after another (model.device_map): no quicker than one"
        )
    return Speed(
        told=told,
        flops=rate * 1e12 * SHARE * gain,
        bandwidth=known.bandwidth * 1e9 * 2 * SHARE * gain,
        overhead=GPU_OVERHEAD + (2 * EXCHANGE if split and n > 1 else 0.0),
        gpu=True,
        device_bytes=known.memory * 1e9,
        spread=2.5,
        devices=Devices(n, split and n > 1),
    )


def gpus_here() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs as its driver tells them."""
    told = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    found = [re.search(r"^Model:\s*(.+)$", file.read_text("utf-8", "replace"), re.MULTILINE) for file in told]
    return [one[1].strip() if one else "a GPU" for one in found]


def known_gpu(name: str) -> str | None:
    """Return the table's name of a GPU as its driver calls it."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((one for one in sorted(STATED, key=len, reverse=True) if one in plain), None)


def measured_speed(dtype: str) -> Speed:
    """Measure this machine's CPU in about 0.1 s.

    The product is so small that it runs on one core whatever else the machine is doing; all cores together take a large one.
    """
    import numpy as np

    a = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(a)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rate = cores * 2 * SIDE**3 / _fastest(lambda: np.matmul(a, a, out=out))
    source = np.ones(1 << 23, np.float32)  # 32 MB
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / _fastest(lambda: np.copyto(target, source))
    counting = _fastest(_count)
    return Speed(
        told=f"measured for a moment on this machine's CPU: {_round(rate / 1e9)} GFLOP/s on {cores} {'core' if cores == 1 else 'cores'}, {CPU_SHARE:.0%} of it "
        f"used, {_round(bandwidth / 1e9)} GB/s" + ("" if dtype == "float32" else f"; {dtype} on a CPU may be slower"),
        flops=rate * CPU_SHARE,
        bandwidth=bandwidth,
        overhead=OVERHEAD * counting / REFERENCE,
    )


def _fastest(work: Callable[[], object]) -> float:
    """Return the shortest of several repeats: what else the machine is doing now is no part of what it can do."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 4 or (time.perf_counter() - began < SECONDS and len(times) < 2000):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _round(value: float) -> str:
    return f"{float(f'{value:.2g}'):.0f}"


def _count() -> int:
    total = 0
    for i in range(50_000):
        total += i & 3
    return total
