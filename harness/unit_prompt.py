"""The prompt of a unit (model, task, seed): loaded where it is saved, else tuned by one runner and saved whole."""

from __future__ import annotations

import time
from pathlib import Path

from skillneurons.atomic import whole_folder
from skillneurons.checkpoint import TuningCheckpoint
from skillneurons.config import Config
from skillneurons.errors import CellError, ResultsError
from skillneurons.input_cache import CacheBudget
from skillneurons.inputs import encode_examples
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.plan import Unit
from skillneurons.prompt import SoftPrompt, initial_prompt
from skillneurons.run_context import RunContext
from skillneurons.tuning import TuningInputs, TuningSettings, run_inputs, tune_prompt


def prompt_of_unit(
    context: RunContext, unit: Unit, lm: LanguageModel, label: str, fitting: MicroBatches
) -> tuple[SoftPrompt, dict[str, float]]:
    """Return the saved prompt of this unit, or tune it and save it whole; one runner tunes it, others wait for it.

    With it come the seconds of that: ``tuning`` is 0 where it was saved, ``resumed_tuning`` what was left of a tuning that was
    broken off, ``waiting`` how long another runner tuned it.
    """
    began, took = time.perf_counter(), ""
    key = str(unit.prompt_key)
    place = context.folder.prompts / key
    prompt = _saved_prompt(context, place)
    if prompt is None:
        what = f"the prompt of {label}"
        with context.locks.held(f"prompt-{key}", waiting=lambda who: context.say_waiting(what, who)):
            prompt = _saved_prompt(context, place)
            if prompt is not None:
                took = "waiting"
            else:
                prompt, resumed = _tuned(context, unit, lm, label, fitting)
                took = "resumed_tuning" if resumed else "tuning"
                with context.interruption.deferred():
                    with whole_folder(place) as draft:
                        prompt.save_pretrained(draft, lm)
                    context.folder.publish(place)
    _checkpoint_of(context, key).remove()
    return prompt, {took: round(time.perf_counter() - began, 3)} if took else {"tuning": 0.0}


def _checkpoint_of(context: RunContext, key: str) -> TuningCheckpoint:
    path = context.folder.checkpoints / f"{key}.safetensors"
    return TuningCheckpoint(path, key, folder=context.folder, stop=lambda: context.interruption.pending)


def _saved_prompt(context: RunContext, place: Path) -> SoftPrompt | None:
    if not context.folder.fetched(place).exists():
        return None
    try:
        return SoftPrompt.from_pretrained(place)
    except ResultsError as error:
        context.notes.append(f"{error} (tuned again)")
        return None


def _tuned(
    context: RunContext, unit: Unit, lm: LanguageModel, label: str, fitting: MicroBatches
) -> tuple[SoftPrompt, bool]:
    """Tune the prompt of this unit, from its checkpoint where a run was broken off: then it says so."""
    settings, checkpoint = context.config.prompt, _checkpoint_of(context, str(unit.prompt_key))
    inputs = _tuning_inputs(context, unit, lm, label, fitting) if settings.placement == "append" else None
    shown = 0
    with context.display.work(f"{label}: prompt tuning", settings.steps) as step, context.interruption.deferred():

        def advance(done: int, total: int, loss: float) -> None:
            nonlocal shown
            step(done - shown)
            shown = done

        prompt = tune_prompt(
            lm,
            unit.data.task,
            num_virtual_tokens=settings.num_virtual_tokens,
            seed=unit.seed,
            init=settings.prompt_tuning_init,
            init_text=settings.prompt_tuning_init_text,
            placement=settings.placement,
            train=unit.data.splits["train"],
            validation=unit.data.splits["validation"],
            too_long=context.config.model.too_long,
            inputs=inputs,
            fitting=fitting,
            progress=advance,
            checkpoint=checkpoint,
            **{name: getattr(settings, name) for name in TuningSettings.__dataclass_fields__},
        )
    if checkpoint.problem:
        context.notes.append(checkpoint.problem)
    if not prompt.embeddings.isfinite().all():
        checkpoint.remove()
        raise CellError(f"prompt tuning diverged on {unit.data.task.name!r}; lower prompt.lr (now {settings.lr})")
    return prompt, checkpoint.resumed


def half_budget(context: RunContext) -> CacheBudget:
    """Return half of the budget: tuning and measuring have one each, so that neither depends on the other."""
    return budget_of(context.config)


def budget_of(config: Config) -> CacheBudget:
    """Return the half of a config's budget that tuning has, and measuring."""
    return CacheBudget.of_gigabytes(config.cache.device_gb / 2, config.cache.host_gb / 2)


def _tuning_inputs(
    context: RunContext, unit: Unit, lm: LanguageModel, label: str, fitting: MicroBatches
) -> TuningInputs:
    """Return the inputs of train and validation after their one pass, which all seeds of the task share."""
    m = context.config.prompt.num_virtual_tokens

    def run() -> TuningInputs:
        encoded = [
            encode_examples(
                lm,
                unit.data.task,
                unit.data.splits[split],
                num_virtual_tokens=m,
                too_long=context.config.model.too_long,
            )
            for split in ("train", "validation")
        ]
        with context.display.work(f"{label}: inputs", sum(map(len, encoded))) as step:
            return run_inputs(
                lm,
                encoded[0],
                encoded[1],
                m,
                budget=half_budget(context),
                fitting=fitting,
                progress=step,
            )

    made: TuningInputs = context.shared("tuning inputs", (unit.model, unit.data.task.name, unit.data.hash), run)
    return made


def initial_of_unit(context: RunContext, unit: Unit, lm: LanguageModel) -> SoftPrompt:
    """Return the prompt before any step of tuning."""
    settings = context.config.prompt
    return initial_prompt(
        lm,
        settings.num_virtual_tokens,
        init=settings.prompt_tuning_init,
        text=settings.prompt_tuning_init_text,
        seed=unit.seed,
        placement=settings.placement,
    )
