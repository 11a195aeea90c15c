"""Settings that are right one by one and cannot go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def contradictions(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (key, what is wrong) for values that cannot go together; what ``values`` lack is taken from ``defaults``.

    A value of the wrong type contradicts nothing.
    """

    def of(section: str, name: str) -> Any:
        given = values.get(section)
        default = defaults.get(section, {}).get(name)
        return given.get(name, default) if isinstance(given, Mapping) else default

    found = []
    placement, position = of("prompt", "placement"), of("attribution", "position")
    if placement == "prepend" and position in ("last", "max", "mean"):
        found.append(
            (
                "prompt.placement",
                f"'prepend' does not go with attribution.position {position!r}: a prompt placed before the input never "
                "sees it, so its activations are the same for every example; write append, or read at input_last",
            )
        )
    init, text = of("prompt", "prompt_tuning_init"), of("prompt", "prompt_tuning_init_text")
    if init == "TEXT" and (text is None or (isinstance(text, str) and not text.strip())):
        found.append(("prompt.prompt_tuning_init", "'TEXT' needs a text to begin with in prompt_tuning_init_text"))
    if init in ("SAMPLE_VOCAB", "RANDOM") and isinstance(text, str):
        found.append(
            (
                "prompt.prompt_tuning_init_text",
                f"is not read with prompt_tuning_init {init!r}; write TEXT there, or leave it out",
            )
        )
    device, spread = values.get("device", defaults.get("device")), of("model", "device_map")
    if isinstance(spread, str | Mapping) and isinstance(device, str) and device != "auto":
        found.append(
            (
                "model.device_map",
                f"{spread!r} chooses the devices itself, but device is {device!r}; leave device at auto",
            )
        )
    kind, address, gpus = (of("executor", name) for name in ("kind", "address", "gpus"))
    if kind == "local" and isinstance(address, str):
        found.append(
            ("executor.address", f"{address!r} is of a Ray cluster, but executor.kind is 'local'; write ray there")
        )
    if isinstance(address, str) and address.startswith("ray://"):
        found.append(
            (
                "executor.address",
                f"{address!r} is of a Ray client, which does not see the run folder that the workers see; run on a node of the "
                "cluster with auto, or with HOST:PORT of its head (port 6379 unless it was started with another)",
            )
        )
    if isinstance(gpus, float | int) and not isinstance(gpus, bool) and gpus > 1 and gpus % 1:
        found.append(("executor.gpus", f"{gpus} is no number of GPUs: it is a part of one, or whole"))
    if kind == "ray" and gpus == 0 and isinstance(device, str) and device.startswith("cuda"):
        found.append(
            (
                "executor.gpus",
                f"0 gives a worker no GPU, but device is {device!r}; give it one, or leave device at auto",
            )
        )
    if isinstance(of("model", "max_memory"), Mapping) and not isinstance(spread, str):
        found.append(
            ("model.max_memory", "bounds what model.device_map may place where; write model.device_map: auto beside it")
        )
    if of("model", "tp_plan") == "auto":
        others = [("device_map", spread), ("quantization", of("model", "quantization"))]
        found += [
            ("model.tp_plan", f"'auto' does not go with model.{name} {given!r}; leave one of them out")
            for name, given in others
            if isinstance(given, str | Mapping)
        ]
        if kind == "ray":
            why = "'auto' is of processes that torchrun starts, but executor.kind is 'ray'"
            found.append(("model.tp_plan", f"{why}; spread the model with model.device_map there"))
        if isinstance(device, str) and device != "auto":
            found.append(
                (
                    "model.tp_plan",
                    f"'auto' gives each process its own device, but device is {device!r}; leave it at auto",
                )
            )
    return found
