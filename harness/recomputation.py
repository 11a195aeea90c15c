"""Recomputation: the pass of a cell is run again with the submitted prompt, by the code that runs cells, and compared.

The same bytes are the same result. Other bytes (another machine, another version) are compared figure by figure
(``cell_comparison``). The prompt itself is held against the history of its tuning:
its validation loss is the best of the history, and the prompt that its seed begins with has the first loss.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.cell_comparison import Tolerance, differences, tolerance_of
from skillneurons.config import Config
from skillneurons.file_faults import read_table, read_tensors, told
from skillneurons.finding import RECOMPUTATION, Ledger
from skillneurons.kept_pass import KeptPass, history_of
from skillneurons.plan import Unit
from skillneurons.prompt_check import best_loss
from skillneurons.registry import Registry
from skillneurons.remade_request import told_error

if TYPE_CHECKING:
    from skillneurons.model import LanguageModel

IDENTICAL, WITHIN = "byte-identical", "within tolerances"


@dataclass(frozen=True)
class Bench:
    """What recomputing needs: the submitted folder, the plugins here, the device, and whether prompts are tuned again."""

    root: Path
    registry: Registry
    device: str = "auto"
    retune: bool = False


def recompute(bench: Bench, unit: Unit, config: Config, those: Sequence[KeptPass], ledger: Ledger) -> None:
    """Compute the cells of one unit again and compare; ``config`` is theirs, limit included."""
    keys = [one.cell.key for one in those]
    key = unit.prompt_key
    if key is not None and not (bench.root / "prompts" / key).is_dir():
        for one in those:
            ledger.cannot(one.path, f"it cannot be recomputed: its prompt {key} is not kept here")
        return
    tolerance = tolerance_of(config.model.dtype)  # which the key covers
    with tempfile.TemporaryDirectory(prefix="skillneurons-verify-") as scratch:
        try:
            if key is not None:
                lm = _loaded(config, bench.device)
                _check_losses(bench, unit, config, lm, keys, tolerance, ledger)
                shutil.copytree(bench.root / "prompts" / key, Path(scratch) / "prompts" / key)
            again = _run(bench, config, Path(scratch), [one.cell.metric["name"] for one in those])
        except Exception as error:  # whatever a model or a plugin raises: nothing was computed
            for one in those:
                ledger.cannot(one.path, f"it cannot be recomputed: {told_error(error)}")
            return
        for one in those:
            _compare(bench.root, again, one, tolerance, ledger)
    if bench.retune and key is not None:
        _retune(bench, config, key, keys, tolerance, ledger)


def _loaded(config: Config, device: str) -> LanguageModel:
    from skillneurons.loading import load_model

    return load_model(config.models[0], device=device, **config.model.model_dump(exclude={"too_long"}))


def _run(bench: Bench, config: Config, scratch: Path, metrics: Sequence[str]) -> Path:
    """Run cells into a scratch folder, whose prompt is there already."""
    from skillneurons.runner import run_config

    causal = config.causal.model_copy(update={"across": False})
    own = {"output": str(scratch), "device": bench.device, "metrics": list(metrics), "causal": causal}
    run_config(config.model_copy(update=own), bench.registry, progress=False)
    return scratch


def _check_losses(
    bench: Bench,
    unit: Unit,
    config: Config,
    lm: LanguageModel,
    keys: Sequence[str],
    tolerance: Tolerance,
    ledger: Ledger,
) -> None:
    """Hold a prompt's loss, and that of the prompt its seed begins with, against the history of its tuning."""
    from skillneurons.answer_loss import mean_loss
    from skillneurons.inputs import encode_examples
    from skillneurons.prompt import SoftPrompt, initial_prompt

    place, settings = f"prompts/{unit.prompt_key}", config.prompt
    prompt = SoftPrompt.from_pretrained(bench.root / place)
    history = history_of(bench.root, unit.prompt_key)
    first = initial_prompt(
        lm,
        settings.num_virtual_tokens,
        init=settings.prompt_tuning_init,
        text=settings.prompt_tuning_init_text,
        seed=unit.seed,
        placement=settings.placement,
    )
    rows = encode_examples(
        lm,
        unit.data.task,
        unit.data.splits["validation"],
        num_virtual_tokens=settings.num_virtual_tokens,
        too_long=config.model.too_long,
    )
    begun = history[0].get("validation_loss") if history else None
    for what, one, known in (
        ("the lowest validation loss of its history", prompt, best_loss(history)),
        (f"the first loss of its history (the prompt that seed {unit.seed} begins with)", first, begun),
    ):
        loss = mean_loss(lm, rows, one.embeddings.to(lm.device), one.placement, settings.batch_size)
        if known is None or not abs(loss - known) <= tolerance.loss * max(1.0, abs(loss)):
            ledger.say(
                RECOMPUTATION,
                place,
                f"{what} is {known if known is None else f'{known:.6f}'}, computed again {loss:.6f}",
                "the prompt was swapped: it is not the one that was tuned for these cells",
                keys,
            )


def _retune(bench: Bench, config: Config, key: str, keys: Sequence[str], tolerance: Tolerance, ledger: Ledger) -> None:
    """Tune the prompt again from its seed and compare."""
    with tempfile.TemporaryDirectory(prefix="skillneurons-verify-") as scratch:
        quick = {"attribution": config.attribution.model_copy(update={"permutations": 0, "bootstrap": 0})}
        quick["causal"] = config.causal.model_copy(update={"enabled": False})  # type: ignore[assignment]
        try:
            _run(bench, config.model_copy(update=quick), Path(scratch), config.metrics)
            mine = (Path(scratch) / "prompts" / key / "adapter_model.safetensors").read_bytes()
        except Exception as error:  # whatever a model or a plugin raises: nothing was tuned
            ledger.cannot(f"prompts/{key}", f"it cannot be tuned again: {told_error(error)}")
            return
        if mine == (bench.root / "prompts" / key / "adapter_model.safetensors").read_bytes():
            return
        ours, theirs = best_loss(history_of(Path(scratch), key)), best_loss(history_of(bench.root, key))
    most = 25 * tolerance.loss  # steps of a tuning add up what machines round otherwise
    if ours is None or theirs is None or abs(ours - theirs) > most * max(1.0, abs(ours)):
        what = f"tuned again from its seed it reaches a validation loss of {ours}, its history says {theirs}"
        ledger.say(RECOMPUTATION, f"prompts/{key}", what, "the prompt was not tuned as its settings say", keys)


def _compare(root: Path, again: Path, kept: KeptPass, tolerance: Tolerance, ledger: Ledger) -> None:
    """Compare a cell and its pass with what was computed here."""
    cell = kept.cell
    mine = again / "cells" / f"{cell.key}.json"
    content = json.loads(mine.read_bytes()) if mine.is_file() else {}
    if content.get("status") != "ok":
        why = (content.get("error") or {}).get("message", "its model or its settings give another key here")
        ledger.cannot(kept.path, f"it cannot be recomputed: {told(why)}")
        return
    theirs = (root / kept.path).read_bytes()
    same = mine.read_bytes() == theirs and not list(_other_files(root / kept.place, again / kept.place))
    found = (
        []
        if same
        else [
            *_passes(kept, again / kept.place, tolerance),
            *(("", what) for what in differences(json.loads(theirs), content, tolerance)),
        ]
    )
    for path, what in found:
        where = kept.path if not path else f"{kept.place}/{path}"
        ledger.say(RECOMPUTATION, where, what, "the model gives other figures than the cell", [cell.key])
    cards = Path("cards") / f"{cell.key}.json"
    if same and _bytes(root / cards) != _bytes(again / cards):
        what = "it is not what the model gives, where cell and pass are, byte for byte"
        ledger.say(RECOMPUTATION, str(cards), what, "the neuron cards were altered or left out", [cell.key])
        return
    if not found:
        ledger.recomputed[cell.key] = IDENTICAL if same else WITHIN


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _other_files(theirs: Path, mine: Path) -> Iterator[str]:
    for name in ("examples.parquet", "scores.safetensors", "heldout.safetensors", "neurons.safetensors"):
        if (theirs / name).is_file() and (theirs / name).read_bytes() != (mine / name).read_bytes():
            yield name


def _passes(kept: KeptPass, mine: Path, tolerance: Tolerance) -> Iterator[tuple[str, str]]:
    import numpy as np

    for name, theirs in (("scores", kept.scores), ("heldout", kept.heldout)):
        ours = read_tensors(mine / f"{name}.safetensors", deep=True).arrays
        for column, said in theirs.items():
            here = ours[column]
            far = ~(np.abs(said - here) <= tolerance.score) & ~(np.isnan(said) & np.isnan(here))
            if far.mean() > tolerance.stray:
                at = np.unravel_index(
                    int(np.argmax(np.where(far, np.nan_to_num(np.abs(said - here), nan=9.0), 0.0))), said.shape
                )
                place = f"L{int(at[0]):02d}.N{int(at[1]):04d}"
                yield (
                    f"{name}.safetensors",
                    f"{told(column)}: {int(far.sum())} of {far.size} neurons differ by more than {tolerance.score:g}, most {place}: "
                    f"{said[at]:.6f}, computed again {here[at]:.6f}",
                )
    ours_table = read_table(mine / "examples.parquet", deep=True).values
    for name, listed in kept.table.items():
        here_column = ours_table.get(name, [])
        if len(here_column) != len(listed):
            yield "examples.parquet", f"{told(name)} has {len(listed)} rows, computed again {len(here_column)}"
            continue
        wrong = [
            i for i, (a, b) in enumerate(zip(listed, here_column, strict=True)) if not _same(a, b, tolerance.value)
        ]
        few = 1 - tolerance.texts if name not in ("id", "split", "group", "prompt", "target") else 0.0
        if len(wrong) > few * len(listed):
            i = wrong[0]
            said_value, here_value = told(repr(listed[i])), told(repr(here_column[i]))
            yield (
                "examples.parquet",
                f"{told(name)} differs on {len(wrong)} of {len(listed)} examples, first {told(repr(kept.table['id'][i]))}: "
                f"{said_value}, computed again {here_value}",
            )


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return abs(one - other) <= tolerance * max(1.0, abs(one))
    return bool(one == other)
