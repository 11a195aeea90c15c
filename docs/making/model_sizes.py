"""What every size of Qwen1.5 takes on GPUs, from the same estimate that ``run --dry-run --machine`` prints."""

from __future__ import annotations

import tempfile
from functools import cache

from skillneurons.config import load_config
from skillneurons.dry_run import DryRun, dry_run, size_text, time_text
from skillneurons.estimate import Estimate
from skillneurons.known_shapes import known_config, known_names
from skillneurons.machine_speed import STATED
from skillneurons.model_shape import shape_of
from skillneurons.registry import load_registry

from making.blocks import table

MACHINE = "h100"
SPLIT_OVER = 8
HEADS = (
    "model",
    "parameters",
    f"memory on one {MACHINE}",
    "time",
    "at least, `device_map`",
    "at least, `tp_plan`",
    f"time on {SPLIT_OVER} by `tp_plan`",
)


def model_sizes() -> str:
    """Return a row per size: memory, time, and how many GPUs it takes, by the `paper` settings on one task and seed."""
    one, split = _planned(MACHINE), _planned(f"{SPLIT_OVER}x{MACHINE}", "model.tp_plan=auto")
    return table(HEADS, [_row(name, _of(one, name), _of(split, name)) for name in known_names()])


@cache
def _planned(machine: str, *settings: str) -> DryRun:
    with tempfile.TemporaryDirectory() as nowhere:
        config = load_config(
            "paper", ["tasks={arithmetic: {}}", *settings], models=known_names(), seeds=[0], output=nowhere
        )
        return dry_run(config, load_registry(), machine)


def _of(found: DryRun, name: str) -> Estimate:
    return found.parts[name, "arithmetic"][1]


def _row(name: str, one: Estimate, split: Estimate) -> tuple[str, ...]:
    room = STATED[MACHINE].memory * 1e9
    config = known_config(name) or {}
    shape = shape_of(config, name)
    parameters = shape.parameters / 1e9
    by_layers, by_split = (one.memory.fewest(room, split=kind) for kind in (False, True))
    mixture = "num_experts" in config
    return (
        f"`{name.partition('/')[2]}`",
        f"{parameters:.2f} B" if parameters < 10 else f"{parameters:.1f} B",
        size_text(one.memory.device),
        time_text(one.low, one.high).removeprefix("about "),
        str(by_layers),
        "mixture of experts" if mixture else str(by_split),
        "" if not shape.splits_over(SPLIT_OVER) else time_text(split.low, split.high).removeprefix("about "),
    )
