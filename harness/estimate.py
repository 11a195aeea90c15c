"""What the cells that are to be run will take: time, memory and disk, without torch and without loading weights.

    time    forward passes (``forward_calls``, ``causal_calls``) at the machine's speed (``machine_speed``), the permutation
            null (1 + B) x N x neurons multiplications a column, sums of every pass, and what Python does for each example
    memory  ``memory_need``

A time is a range: from the least to the most that the run may turn out to be, times by how much the speed may be off. With
finished cells of the same machine in the folder the speed is theirs (``calibration``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from skillneurons.causal_calls import across_calls, unit_calls
from skillneurons.config import Config
from skillneurons.errors import ModelError
from skillneurons.forward_calls import LEAST, LIKELY, MEASURED, MOST, Calls, Unknowns, Workload, tokens_of
from skillneurons.known_shapes import known_config
from skillneurons.machine_speed import Speed, gpus_here, known_gpu, measured_speed, stated_speed
from skillneurons.memory_need import MemoryNeed, memory_need
from skillneurons.model_shape import ModelShape, read_shape, shape_of
from skillneurons.model_source import is_instructed, model_files
from skillneurons.neutral import neutral_text
from skillneurons.plan import PlannedCell, TaskData
from skillneurons.registry import Registry
from skillneurons.token_lengths import Count, Row, counter_of, rows_of
from skillneurons.types import SPLITS, Split

START = 6.0  # s: the interpreter, torch, the plugins, the table
LOADING = 3.0  # s of a model beside its weights
DISK = 0.5e9  # bytes of weights a second
COLUMN = 0.015  # s of a column's intervals
EXAMPLE = 4e-4  # s of an example in a pass: metrics, sums
CHANGED = 1e-4  # s of a row under a change
HOST_FLOPS = 5e10  # of the null, where the speed is that of a GPU
ENTRY = 5e-9  # s of one number of the null
NOT_KNOWN_GPU = "a100"  # whose rate is taken where a GPU is asked for and none is seen


@dataclass(frozen=True)
class Estimate:
    """Seconds (least, likely, most), tokens that run forward, operations, and the memory needed."""

    low: float
    likely: float
    high: float
    tokens: int
    memory: MemoryNeed

    @classmethod
    def total(cls, parts: Sequence[Estimate]) -> Estimate:
        """Return the sum of times and disk, and the largest of the memories."""
        memories = [part.memory for part in parts] or [MemoryNeed(0, 0, 0, 0)]
        return cls(
            sum(part.low for part in parts),
            sum(part.likely for part in parts),
            sum(part.high for part in parts),
            sum(part.tokens for part in parts),
            MemoryNeed(
                max(one.device for one in memories),
                max(one.host for one in memories),
                sum(one.disk for one in memories),
                max(one.spool for one in memories),
                max(memories, key=lambda one: one.device).by_devices,
            ),
        )


@dataclass(frozen=True)
class ModelAtHand:
    """What is known of a model without loading it: its shape, how its tokens are counted, whether a template is applied."""

    name: str
    shape: ModelShape
    count: Count = field(repr=False)
    counted: str
    template: bool
    here: bool = True  # whether its config.json was found: else its sizes are those of ``known_shapes``


def model_at_hand(config: Config, name: str, revision: str) -> ModelAtHand:
    """Return what a model's files say, or what is known of it without them; raise ModelError where its size is not known."""
    setting = config.model.chat_template
    template = setting == "on" or (setting == "auto" and is_instructed(name))
    try:
        files = model_files(name, revision)
    except ModelError:
        known = known_config(name)
        if known is None:
            raise
        return ModelAtHand(name, shape_of(known, name), *counter_of(None), template, here=False)
    return ModelAtHand(name, read_shape(files, name), *counter_of(files), template)


def rows_by_split(config: Config, model: ModelAtHand, data: TaskData) -> dict[Split, list[Row]]:
    """Return the tokens of all examples of a task."""
    room = model.shape.context_length - config.prompt.num_virtual_tokens - 1
    return {
        split: rows_of(data.task, data.splits.get(split, ()), model.count, template=model.template, room=room)
        for split in SPLITS
    }


def tested_columns(config: Config, cells: Sequence[PlannedCell]) -> list[int]:
    """Return of how many columns of each cell causes are tested."""
    columns = config.causal.columns
    if columns == "primary":
        return [min(1, len(cell.columns)) for cell in cells]
    return [len(cell.columns) if columns == "all" else len({*cell.columns} & {*columns}) for cell in cells]


def workload(
    config: Config,
    registry: Registry,
    model: ModelAtHand,
    data: TaskData,
    rows: Mapping[Split, Sequence[Row]],
    cells: Sequence[PlannedCell],
    *,
    gpu: bool,
    shared: bool,
    tuned: bool,
) -> Workload:
    """Return what these cells of a unit have to run."""
    factory = registry.attribution(config.attribution.statistic)
    neutral = _neutral(config.causal.neutral_text, model) if config.causal.enabled else ()
    return Workload(
        config,
        data.task,
        rows,
        tested_columns(config, cells) if config.causal.enabled else (),
        shared,
        tuned,
        model.shape.kv_bytes(config.model.dtype),
        model.shape.vocabulary,
        gpu,
        neutral,
        getattr(factory, "baseline_split", None),
        bool(getattr(factory, "gradient", False)),
        model.shape.window,
    )


def _neutral(name: str, model: ModelAtHand) -> tuple[int, ...]:
    lines = neutral_text(name)
    both = zip(model.count([a for a, _ in lines]), model.count([b for _, b in lines]), strict=True)
    return tuple(a + (b if line[1] else 0) for (a, b), line in zip(both, lines, strict=True))


def seconds_of(load: Workload, shape: ModelShape, speed: Speed, n_columns: int, unknown: Unknowns) -> float:
    """Return how long a unit takes on a machine, its model loaded."""
    config = load.config
    work = unit_calls(load, unknown)
    total = speed.seconds(sum(work.values(), Calls()), shape, config.model.dtype)
    settings, n = config.attribution, sum(len(load.rows[split]) for split in MEASURED)
    positions = load.virtual if settings.position == "max" and load.virtual else 1
    neurons, flops = positions * shape.n_neurons, HOST_FLOPS if speed.gpu else speed.flops
    drawn = 1 + settings.permutations
    null = 2.0 * drawn * len(load.rows["discovery"]) * neurons / flops + ENTRY * drawn * neurons
    passes = (2 + load.shared) if load.virtual else 1
    sums = 4.0 * n * neurons * n_columns * passes / speed.flops + EXAMPLE * n * passes
    changed = CHANGED * sum(k * call.rows for call, k in work.get("causal", Calls()).items() if call.tokens > 1)
    return total + speed.factor * (n_columns * (null + COLUMN * settings.bootstrap / 1000) + sums + changed)


def estimate_of(load: Workload, model: ModelAtHand, speed: Speed, n_columns: int, n_tasks: int) -> Estimate:
    """Return the estimate of one unit, its model loaded."""
    least, likely, most = (seconds_of(load, model.shape, speed, n_columns, one) for one in (LEAST, LIKELY, MOST))
    calls = sum(unit_calls(load, LIKELY).values(), Calls())
    memory = memory_need(load, model.shape, calls, n_columns, n_tasks, speed.devices)
    return Estimate(*between(least, likely, most, speed), tokens_of(calls), memory)


def between(least: float, likely: float, most: float, speed: Speed) -> tuple[float, float, float]:
    """Return the range of a time: what only the run tells, and how far the speed may be off, as independent factors.

    A speed that was taken from finished cells holds what they told.
    """
    if not likely:
        return 0.0, 0.0, 0.0
    known = math.log(speed.spread)
    unknown = (0.0, 0.0) if speed.calibrated else (math.log(likely / least), math.log(most / likely))
    below, above = (math.exp(math.hypot(known, one)) for one in unknown)
    return likely / below, likely, likely * above


def loading(config: Config, model: ModelAtHand, speed: Speed) -> Estimate:
    """Return what starting and loading a model takes."""
    seconds = LOADING + model.shape.weight_bytes(config.model.dtype) / DISK
    return Estimate(seconds / speed.spread, seconds, seconds * speed.spread, 0, MemoryNeed(0, 0, 0, 0))


def across_estimate(loads: Sequence[Workload], model: ModelAtHand, speed: Speed, memory: MemoryNeed) -> Estimate:
    """Return the estimate of what concerns several tasks of a model and seed."""
    times = []
    for unknown in (LEAST, LIKELY, MOST):
        calls = across_calls(loads, unknown)
        changed = CHANGED * sum(k * call.rows for call, k in calls.items() if call.tokens > 1)
        times.append(speed.seconds(calls, model.shape, loads[0].config.model.dtype) + speed.factor * changed)
    tokens = tokens_of(across_calls(loads, LIKELY))
    return Estimate(*between(times[0], times[1], times[2], speed), tokens, memory)


def choose_speed(config: Config, machine: str | None = None) -> Speed:
    """Return the machine that a run would take: the one that is named, this one's GPU (all of them where a model is spread), or its CPU."""
    dtype = config.model.dtype
    if machine is not None:
        return stated_speed(machine, dtype, split=config.model.tp_plan is not None)
    here = gpus_here() if config.device != "cpu" and not _torch_for_cpu() else []
    if config.device.startswith("cuda") or here:
        known = known_gpu(here[0]) if here else None
        split = config.model.tp_plan is not None
        n = len(here) if known and (split or config.model.device_map is not None) else 1
        speed = stated_speed(f"{n}x{known or NOT_KNOWN_GPU}", dtype, split=split)
        return speed if known else replace(speed, told=f"no GPU of a known rate is seen here; {speed.told}")
    return measured_speed(dtype)


@cache
def _torch_for_cpu() -> bool:
    from importlib import metadata

    return metadata.version("torch").endswith("+cpu")
