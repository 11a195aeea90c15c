"""Consistency of a prompt with the cells that rest on it: its model, its length, its beginning, and the history of its tuning.

Losses are taken at step 0, then every ``eval_every`` steps and at the last; tuning ends at ``steps``, or after ``patience`` losses without
a better one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.file_faults import read_mapping, told
from skillneurons.finding import CONSISTENCY, Ledger
from skillneurons.kept_pass import history_of
from skillneurons.results import Result


def check_prompt(root: Path, key: str, cells: Sequence[Result], ledger: Ledger) -> None:
    """Check one prompt against its cells."""
    cell = cells[0]
    adapter, _ = read_mapping(root / "prompts" / key / "adapter_config.json")
    placed, _ = read_mapping(root / "prompts" / key / "placement.json")
    settings = cell.config.get("prompt") or {}
    keys = [one.key for one in cells]

    def say(file: str, what: str) -> None:
        ledger.say(CONSISTENCY, f"prompts/{key}/{file}", what, "the prompt is not the one of its cells", keys)

    named = adapter.get("base_model_name_or_path")
    if named != cell.model["name"]:
        say(
            "adapter_config.json",
            f"it was tuned for {told(repr(named))}, its cells are of {told(repr(cell.model['name']))}",
        )
    if placed.get("init") != settings.get("prompt_tuning_init"):
        begun, asked = told(repr(placed.get("init"))), told(repr(settings.get("prompt_tuning_init")))
        say("placement.json", f"it began as {begun}, its cells' settings say {asked}")
    history = history_of(root, key)
    if all(isinstance(row, Mapping) for row in history):  # else told with what is damaged
        for what in _history(history, settings):
            say("history.json", what)
    first, *others = [(one.key, one.accuracy.get("tuned")) for one in cells if one.status == "ok"] or [("", None)]
    for name, accuracy in others:
        if accuracy is not None and first[1] is not None and abs(accuracy - first[1]) > 0.02:
            what = f"accuracy.tuned is {accuracy}, that of {first[0]} with the same prompt {first[1]}"
            ledger.say(CONSISTENCY, f"cells/{name}.json", what, "one prompt has one accuracy", [name, first[0]])


def _history(history: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Iterator[str]:
    steps, every, patience = (settings.get(name) for name in ("steps", "eval_every", "patience"))
    if not (isinstance(steps, int) and isinstance(every, int) and isinstance(patience, int) and every):
        return
    if not history:
        yield "it holds no loss, and tuning begins with one"
        return
    losses: list[Any] = [row.get("validation_loss") for row in history]
    done = [row.get("step") for row in history]
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in losses):
        yield "it holds a loss that is no finite number"
        return
    wanted = [min(i * every, steps) for i in range(len(done))]
    if done != wanted:
        yield f"its losses are of the steps {told(done[:6])}, with these settings they are of {wanted[:6]}"
        return
    best: float = math.inf
    without = 0
    for i, loss in enumerate(losses):
        best, without = (loss, 0) if loss < best else (best, without + 1)
        ended = done[i] >= steps or without >= patience
        if ended != (i == len(losses) - 1):
            yield f"it ends at step {done[-1]}, with these settings and losses tuning ends {'at' if ended else 'after'} step {done[i]}"
            return


def best_loss(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the lowest validation loss of a history, None where it has none."""
    losses = [row["validation_loss"] for row in history if isinstance(row.get("validation_loss"), int | float)]
    return min(losses) if losses else None
