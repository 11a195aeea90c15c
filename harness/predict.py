"""A model's answers to a task's evaluation examples, with a soft prompt or without, for a predictions file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skillneurons.errors import UserError
from skillneurons.generation import Sampling
from skillneurons.inputs import encode_examples, equal_length_batches
from skillneurons.model import LanguageModel
from skillneurons.outputs import answer
from skillneurons.predictions import Prediction
from skillneurons.prompt import SoftPrompt
from skillneurons.types import Example, Task

TEMPERATURE = 0.7  # of several generations, as the Skill-Mix authors have it


def predict(
    lm: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    prompt: SoftPrompt | None = None,
    *,
    generations: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    too_long: str = "refuse",
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Return ``generations`` answers of each example, in the examples' order, generation after generation.

    One generation is greedy, several are drawn at ``temperature``; the same seed gives the same texts.
    """
    drawn = (TEMPERATURE if generations > 1 else 0.0) if temperature is None else temperature
    if generations < 1 or drawn < 0:
        raise UserError(f"generations {generations} must be at least 1 and temperature {drawn} at least 0")
    if generations > 1 and (task.kind == "choice" or drawn == 0):
        raise UserError(
            f"{generations} generations of a {'choice' if task.kind == 'choice' else 'greedy answer'} are all the same; "
            "ask for one, or give a temperature above 0"
        )
    if prompt is not None and prompt.embeddings.shape[1] != lm.d_model:
        raise UserError(
            f"the prompt's vectors have {prompt.embeddings.shape[1]} numbers, but {lm.name!r} needs {lm.d_model}; "
            f"give a prompt that was tuned on it{f' (this one: on {prompt.base_model!r})' if prompt.base_model else ''}"
        )
    m = prompt.num_virtual_tokens if prompt is not None else 0
    encoded = encode_examples(lm, task, examples, num_virtual_tokens=m, too_long=too_long)
    predictions = []
    for generation in range(generations):
        found: dict[int, Prediction] = {}
        for rows in equal_length_batches(encoded, batch_size):
            outputs, _ = answer(lm, task, rows, prompt, sampling=Sampling(drawn, seed, generation))
            found |= {
                row.index: Prediction(row.example, output, generation)
                for row, output in zip(rows, outputs, strict=True)
            }
            if progress:
                progress(len(rows))
        predictions += [found[index] for index in range(len(encoded))]
    return predictions
