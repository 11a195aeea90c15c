"""What the model answers when neurons are changed: the inputs run once, each change costs prompt and answer alone.

With the prompt after the input, what happens at prompt tokens never reaches the input's keys and values; they are
computed once per batch and shared by all changes (``positions`` prompt and answer; ``everywhere`` runs everything
again). A text is written by greedy decoding, but most changes leave most texts as they were: the unchanged model's
text is run as a whole under the change, and only where its tokens are no longer the most probable ones is a text
written anew. The result is that of plain greedy decoding.

The unchanged model is measured by the same replay with a change of no neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from skillneurons.changes import Change, StageEdits, together
from skillneurons.errors import CellError, UserError
from skillneurons.generation import Continuation, generate, read_draft, second_turn
from skillneurons.inputs import EncodedExample, equal_length_batches
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.outputs import choice_outputs, score_answers, text_outputs
from skillneurons.prefix import Prefix, copied_cache, run_prefix, run_prompt
from skillneurons.prompt import SoftPrompt
from skillneurons.ranks import agree
from skillneurons.reference import Reference, stages_of
from skillneurons.task_setup import follow_up
from skillneurons.types import Output, Task

AT_ONCE = 4  # changes of a full batch that run side by side; smaller batches take more
LOGITS = 1 << 28  # numbers in one tensor of logits, at most (1 GiB of float32)


@dataclass(frozen=True, eq=False)
class Replay:
    """A task's encoded examples under a prompt, ready to be run under changes.

    ``outputs(changes)`` returns one list of outputs per change, in the order of ``encoded``.
    """

    lm: LanguageModel
    task: Task
    encoded: Sequence[EncodedExample]
    prompt: SoftPrompt | None
    reference: Reference
    positions: str = "prompt"
    batch_size: int = 64
    seed: int = 0
    fitting: MicroBatches | None = None  # how many examples run at once, where it is not ``batch_size``
    _drafts: dict[int, list[list[int]]] = field(default_factory=dict)  # by example: the unchanged text of each turn

    def outputs(self, changes: Sequence[Change], progress: Callable[[int], None] | None = None) -> list[list[Output]]:
        """Run every change on every example; ``progress`` is told the number of changes times examples done.

        Raise CellError where a change makes the logits non-finite.
        """
        stages_of(self.positions, self.prompt)
        agree("the neurons that are changed", repr(changes))
        place = {row.index: i for i, row in enumerate(self.encoded)}
        found: list[list[Output | None]] = [[None] * len(self.encoded) for _ in changes]
        fitting = self.fitting or MicroBatches(self.batch_size)

        def run(rows: Sequence[EncodedExample]) -> list[tuple[list[int], list[Output]]]:
            start = self._input(rows)
            shared = self._unchanged(rows, start)
            done = []
            for which in together(changes, self._at_once(rows, fitting.size)):
                edits = StageEdits(self.lm, self.reference, [changes[i] for i in which], _ids(rows), self.seed)
                done.append((list(which), self._batch(rows, start, edits, shared)))
                if progress:
                    progress(len(done[-1][1]))
            return done

        for batch in equal_length_batches(self.encoded, min(fitting.limit, self._most_rows())):
            for rows, done in fitting.run(batch, run):
                places = [place[row.index] for row in rows]
                for which, outputs in done:
                    for number, output in enumerate(outputs):
                        found[which[number % len(which)]][places[number // len(which)]] = output
        return [[output for output in one if output is not None] for one in found]

    def _most_rows(self) -> int:
        """Return how many texts' logits over the whole vocabulary fit together; one always runs."""
        if self.task.kind == "choice":
            return len(self.encoded)
        width = int(self.lm.model.config.get_text_config().vocab_size)
        return max(1, LOGITS // (self.task.max_new_tokens * width))

    def _at_once(self, rows: Sequence[EncodedExample], size: int) -> int:
        """Return how many changes run side by side; a text's logits over the whole vocabulary must fit."""
        fitting = AT_ONCE * size // len(rows)
        if self.task.kind != "choice":
            width = int(self.lm.model.config.get_text_config().vocab_size)
            fitting = min(fitting, LOGITS // (len(rows) * self.task.max_new_tokens * width))
        return max(1, fitting)

    @torch.inference_mode()
    def _input(self, rows: Sequence[EncodedExample]) -> Prefix | None:
        """Return the cache of the inputs alone, None where they must be run anew with every change."""
        if self.prompt is not None and self.prompt.placement == "prepend":
            raise UserError("a causal test needs prompt.placement: append, or no prompt")
        return None if self.positions == "everywhere" else run_prefix(self.lm, rows, None)

    @torch.inference_mode()
    def _unchanged(self, rows: Sequence[EncodedExample], start: Prefix | None) -> _Dialogues | None:
        """Write the unchanged texts of a batch, from which the changed ones begin; return its second-turn inputs."""
        if self.task.kind == "choice":
            return None
        if not all(row.index in self._drafts for row in rows):
            self._batch(rows, start, StageEdits(self.lm, self.reference, [Change()], _ids(rows), self.seed))
        if self.task.follow_up is None or start is None:
            return None
        turns = []
        for row in rows:
            text = self.lm.decode(self._drafts[row.index][0])
            request = follow_up(self.task, row.example, text)
            if request is not None:
                turns.append((row, (row.example.prompt, text, request)))
        if not turns:
            return None
        again = second_turn(self.lm, [row for row, _ in turns], [turn for _, turn in turns])
        prefix = run_prefix(self.lm, again, None)
        return _Dialogues(prefix, {(row.index, row.ids): i for i, row in enumerate(again)})

    @torch.inference_mode()
    def _batch(
        self, rows: Sequence[EncodedExample], start: Prefix | None, edits: StageEdits, shared: _Dialogues | None = None
    ) -> list[Output]:
        """Return the outputs of every row under every change, changes of one row side by side."""
        n = len(edits.changes)
        repeated = [row for row in rows for _ in range(n)]
        prefix = self._prefix(repeated, start, edits, n)
        self._check(edits, prefix.log_probs)
        answer = [("answer", 1)] if self.positions != "prompt" and self._answers_run else []
        if self.task.kind != "choice":
            return text_outputs(self.lm, self.task, repeated, prefix, _Writer(self, repeated, edits, answer, shared))
        with edits.intervention(answer):
            outputs = choice_outputs(self.lm, repeated, prefix)
        self._check(edits, torch.tensor([value for one in outputs for value in one.choice_log_probs or ()]))
        return outputs

    @property
    def _answers_run(self) -> bool:
        """Whether any answer token is run through the model; a one-token choice is read off the last prompt token."""
        if self.task.kind != "choice":
            return True
        return any(len(choice) > 1 for row in self.encoded for choice in row.choices or ())

    def _check(self, edits: StageEdits, log_probs: torch.Tensor) -> None:
        """Refuse log-probabilities that are not numbers; minus infinity is one (a token that the model rules out)."""
        if bool(log_probs.isnan().any()):
            raise CellError(f"{self._told(edits)} makes the logits non-finite; use a smaller factor (causal.steering)")

    def _prefix(self, rows: Sequence[EncodedExample], start: Prefix | None, edits: StageEdits, n: int) -> Prefix:
        """Return input and prompt after their pass under the changes."""
        m = self.prompt.num_virtual_tokens if self.prompt is not None else 0
        if start is None:
            stages = [("input", len(rows[0].ids)), ("prompt", m)][: 2 if m else 1]
            with edits.intervention(stages):
                return run_prefix(self.lm, rows, self.prompt)
        cache = copied_cache(start.cache)
        if n > 1:
            cache.batch_repeat_interleave(n)
        inputs = Prefix(cache, start.log_probs.repeat_interleave(n, dim=0), None)
        if self.prompt is None:
            return inputs
        with edits.intervention([("prompt", m)] if self.positions == "prompt" else []):
            return run_prompt(self.lm, inputs, self.prompt)

    @staticmethod
    def _told(edits: StageEdits) -> str:
        sizes = sorted({round(max(map(abs, change.amounts)), 6) for change in edits.changes if change.amounts})
        return f"steering by {sizes[-1]:g} sd" if sizes else f"ablation by {edits.mode}"


@dataclass(frozen=True, eq=False)
class _Dialogues:
    """The second-turn inputs of a batch as the unchanged model leaves them, after their pass without the prompt."""

    prefix: Prefix
    numbers: Mapping[tuple[int, tuple[int, ...]], int]  # (example, token ids) -> row of the prefix

    def of(self, row: EncodedExample) -> int | None:
        return self.numbers.get((row.index, row.ids))


@dataclass(frozen=True, eq=False)
class _Writer:
    """Writes the texts of a batch under its changes, beginning from the unchanged texts where they are known."""

    replay: Replay
    rows: Sequence[EncodedExample]
    edits: StageEdits
    answer: Sequence[tuple[str, int]]
    shared: _Dialogues | None = None

    def score(self, prefix: Prefix, answers: Sequence[Sequence[int]]) -> torch.Tensor:
        with self.edits.intervention(self.answer):
            scores = score_answers(self.replay.lm, prefix, answers)
        self.replay._check(self.edits, scores)
        return scores

    def write(self, prefix: Prefix, limit: int) -> list[Continuation]:
        return self._continued(prefix, 0, range(len(self.rows)), limit)

    def revise(self, turns: Sequence[tuple[str, str, str]], numbers: Sequence[int], limit: int) -> list[Continuation]:
        """Answer the second turn; dialogues that are as without any change have their inputs run once for all."""
        lm, prompt = self.replay.lm, self.replay.prompt
        again = dict(zip(numbers, second_turn(lm, [self.rows[i] for i in numbers], turns), strict=True))
        shared = self.shared if self.replay.positions != "everywhere" else None
        same = [i for i in numbers if shared and shared.of(again[i]) is not None]
        fresh = [i for i in numbers if i not in set(same)]
        found: dict[int, Continuation] = {}
        if same and shared is not None:
            prefix = _some(shared.prefix, [shared.of(again[i]) or 0 for i in same])
            if prompt is not None:
                m = prompt.num_virtual_tokens
                with self.edits.intervention([("prompt", m)] if self.replay.positions == "prompt" else [], same):
                    prefix = run_prompt(lm, prefix, prompt)
            found |= zip(same, self._continued(prefix, 1, same, limit), strict=True)
        if fresh:
            found |= zip(
                fresh, self._continued(self._second([again[i] for i in fresh], fresh), 1, fresh, limit), strict=True
            )
        return [found[i] for i in numbers]

    def _second(self, rows: Sequence[EncodedExample], numbers: Sequence[int]) -> Prefix:
        """Run dialogues and prompt under the changes."""
        lm, prompt, positions = self.replay.lm, self.replay.prompt, self.replay.positions
        m = prompt.num_virtual_tokens if prompt is not None else 0
        whole = [("input", max(len(row.ids) for row in rows)), ("prompt", m)][: 2 if m else 1]
        stages = {"prompt": [("prompt", m)], "answer": [], "everywhere": whole}[positions]
        window = slice(-m, None) if positions == "prompt" else slice(None)
        with self.edits.intervention(stages, numbers, window):
            return run_prefix(lm, rows, prompt)

    def _continued(self, prefix: Prefix, turn: int, numbers: Sequence[int], limit: int) -> list[Continuation]:
        """Continue the rows of these numbers; the cache is used up."""
        lm, drafts = self.replay.lm, self.replay._drafts
        known = [drafts.get(self.rows[i].index, []) for i in numbers]
        found: list[Continuation | None] = [None] * len(numbers)
        if all(len(texts) > turn for texts in known):
            with self.edits.intervention(self.answer, numbers):
                found = list(read_draft(lm, prefix, [texts[turn] for texts in known]))
        anew = [i for i, one in enumerate(found) if one is None]
        if anew:
            part = prefix if len(anew) == len(numbers) else _some(prefix, anew)
            with self.edits.intervention(self.answer, [numbers[i] for i in anew]):
                written = generate(lm, part, limit)
            for i, one in zip(anew, written, strict=True):
                found[i] = one
        done = [one for one in found if one is not None]
        self.replay._check(self.edits, torch.tensor([one.log_prob for one in done]))
        return done

    def keep(self, turn: int, numbers: Sequence[int], written: Sequence[Continuation]) -> None:
        """Keep the texts of the unchanged model as drafts."""
        if len(self.edits.changes) == 1 and not self.edits.changes[0].neurons:
            for i, one in zip(numbers, written, strict=True):
                texts = self.replay._drafts.setdefault(self.rows[i].index, [])
                if len(texts) == turn:
                    texts.append(list(one.ids))


def _ids(rows: Sequence[EncodedExample]) -> list[str]:
    return [row.example.id for row in rows]


def _some(prefix: Prefix, rows: Sequence[int]) -> Prefix:
    """Return some rows of a prefix, each as often as it is named; the prefix stays as it is."""
    picked = torch.tensor(rows)  # in host memory, from where it selects on every layer's device
    cache = copied_cache(prefix.cache)
    cache.batch_select_indices(picked)
    return Prefix(cache, prefix.log_probs[picked], None if prefix.mask is None else prefix.mask[picked])
