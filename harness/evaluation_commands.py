"""The commands ``skillneurons score`` and ``predict``: a task's own figures from a file of answers, and such a file from a model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skillneurons.command_input import loaded_registry, say

if TYPE_CHECKING:
    from skillneurons.config import Config
    from skillneurons.types import Example, Task


def _evaluation(
    arguments: argparse.Namespace, models: Sequence[str] = (), *, grading: bool = True
) -> tuple[Config, Task, list[Example]]:
    """Return the settings, the task with its options applied, and the examples it is evaluated on."""
    from skillneurons.config import load_config, plugins_of
    from skillneurons.errors import UserError
    from skillneurons.evaluation import evaluated_examples
    from skillneurons.task_setup import set_up

    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: at least 1 example is needed")
    registry = loaded_registry(arguments, plugins_of(None, arguments.set, os.environ, blank=True))
    config = load_config(
        overrides=arguments.set,
        models=models,
        tasks=[arguments.task],
        limit=arguments.limit,
        device=getattr(arguments, "device", None),
        registry=registry,
        blank=True,
        environ=os.environ,
    )
    options = config.tasks[arguments.task]
    task = set_up(registry, arguments.task, options, grading=grading).task
    examples = evaluated_examples(task, options, split=arguments.split, limit=config.limit, seed=config.data.seed)
    return config, task, examples


def score_command(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.evaluation import score_predictions, scores_json, scores_text, write_graded

    _, task, examples = _evaluation(arguments)
    scores, predictions = score_predictions(task, Path(arguments.predictions), examples, partial=arguments.partial)
    print(scores_json(scores) if arguments.json else scores_text(scores, detail=arguments.detail))
    if arguments.graded:
        write_graded(Path(arguments.graded), predictions)
    scored = len({one.example.id for one in predictions})
    say([f"{scored} of {len(examples)} examples have a prediction"])
    return 0


def predict_command(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    config, task, examples = _evaluation(arguments, [arguments.model], grading=False)

    from skillneurons.loading import load_model
    from skillneurons.predict import predict
    from skillneurons.predictions import write_predictions
    from skillneurons.progress import Progress
    from skillneurons.prompt import SoftPrompt

    lm = load_model(arguments.model, device=config.device, **config.model.model_dump(exclude={"too_long"}))
    prompt = SoftPrompt.from_pretrained(arguments.prompt) if arguments.prompt else None
    total = len(examples) * arguments.generations
    with Progress(0) as display, display.work(f"{arguments.task}: answers", total) as step:
        predictions = predict(
            lm,
            task,
            examples,
            prompt,
            generations=arguments.generations,
            temperature=arguments.temperature,
            seed=arguments.seed,
            batch_size=config.attribution.at_once,
            too_long=config.model.too_long,
            progress=step,
        )
    write_predictions(Path(arguments.output), task, predictions)
    say(
        [
            f"written: {arguments.output} ({len(predictions)} answers); score it with: skillneurons score {arguments.task}"
        ]
    )
    return 0
