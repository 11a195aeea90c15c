"""Documents of a task of lm-evaluation-harness as examples, in four splits that share no document.

The prompt is that harness's own context (description, few-shot documents, ``doc_to_text``, ``gen_prefix``). A choice is
``target_delimiter`` + its text; white space at the end of the prompt moves to the front of the choices, as there. The target
of a text is the first gold answer, after the delimiter where the task's own grading takes it so.

An ``id`` is a hash of question, choices and answer (``-2`` on a repetition), a group one of question and choices, whatever
their order. Train and validation (8:2) come from the training split, discovery and heldout (6:4) from the test split (the
validation split where there is none); a training document that is evaluated too is left out of training. Without another
training document all four come from the evaluated ones. Within a split the order is drawn by ``seed``.

Few-shot documents are never of validation, discovery or heldout, never the document itself, and depend on that document alone:
the harness's sampler is seeded with its id, where the harness goes on drawing from one document to the next.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import skillneurons as sn
from skillneurons.plugins.lm_eval_build import Unusable, telling

SHOWN = ("a document cannot be shown", "its templates, process_docs and num_fewshot")
MOST = 20_000  # training documents that are looked at
TRAINING: Mapping[sn.Split, float] = {"train": 0.8, "validation": 0.2}
EVALUATED: Mapping[sn.Split, float] = {"discovery": 0.6, "heldout": 0.4}


@dataclass(frozen=True, slots=True)
class Row:
    """A document with its id, its group and its split."""

    id: str
    group: str
    split: sn.Split
    doc: Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Documents:
    """The documents of a built task, and their examples; ``right(doc, text)`` is the task's own grading of a text."""

    name: str
    where: str
    task: Any
    num_fewshot: int
    leave_out: bool
    right: Callable[[Mapping[str, Any], str], float]
    rows: tuple[Row, ...] = ()
    shots: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    by_id: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_choice(self) -> bool:
        """Return whether an answer is chosen rather than written."""
        return bool(self.task.OUTPUT_TYPE == "multiple_choice")

    def load(self, split: sn.Split, *, limit: int | None = None, seed: int = 0, **options: Any) -> list[sn.Example]:
        """Return the examples of a split; DataError for a document that cannot be one, unless those are left out."""
        mine = sorted(
            (row for row in self.rows if row.split == split),
            key=lambda row: (sn.stable_hash(row.id, str(seed)), row.id),
        )
        examples: list[sn.Example] = []
        with telling(self.where, *SHOWN):
            for row in mine:
                if len(examples) == limit:
                    break
                try:
                    examples.append(self._example(row))
                except Unusable as reason:
                    if not self.leave_out:
                        raise sn.DataError(
                            f"lm-eval/{self.name}, document {row.id} ({_shown(row.doc)}): {reason}; set the task's option "
                            "leave_out: true to go on without such documents"
                        ) from None
        return examples

    def _example(self, row: Row) -> sn.Example:
        prompt = self._context(row)
        if self.is_choice:
            raw = _choices(self.task, row.doc)
            gold = _gold(self.task.doc_to_target(row.doc), raw)
            space = prompt[len(prompt.rstrip()) :] + self.task.config.target_delimiter
            choices = tuple(f"{space}{choice}" for choice in raw)
            if not prompt.strip():
                raise Unusable("its prompt is empty; the answer needs something to stand after")
            fields = {"choices": list(raw), "gold": gold}
            return sn.Example(row.id, prompt.rstrip(), choices[gold], choices, group=row.group, fields=fields)
        if not prompt.strip():
            raise Unusable("its prompt is empty; the text needs something to stand after")
        return sn.Example(row.id, prompt, self._target(row, prompt), group=row.group)

    def _target(self, row: Row, prompt: str) -> str:
        gold = _gold_text(self.task, row.doc)
        delimiter = self.task.config.target_delimiter
        if self.task.doc_to_prefix(row.doc):
            delimiter = " "
        spaced = [gold] if prompt[-1:].isspace() and delimiter.isspace() else [f"{delimiter}{gold}", gold]
        for target in spaced:
            if gold and self.right(row.doc, target) == 1:
                return target
        raise Unusable(
            f"the task's own grading calls its answer {gold!r} wrong, so that a prompt would be tuned on a mistake"
        )

    def _context(self, row: Row) -> str:
        if self.num_fewshot:
            self.task.sampler.replace_df([doc for group, doc in self.shots if group != row.group])
            self.task.set_fewshot_seed(int(row.id.partition("-")[0], 16))
        try:
            text = self.task.fewshot_context(
                row.doc, num_fewshot=self.num_fewshot, gen_prefix=self.task.doc_to_prefix(row.doc)
            )
        except (AssertionError, ValueError) as error:
            if not self.num_fewshot:
                raise
            raise sn.DataError(
                f"lm-eval/{self.name}: {self.num_fewshot} few-shot documents cannot be drawn from {len(self.shots)} "
                f"({error}); set num_fewshot lower"
            ) from error
        if not isinstance(text, str):
            raise Unusable("each of its choices has a prompt of its own; here one prompt has all choices")
        return text


def documents(
    name: str,
    where: str,
    task: Any,
    num_fewshot: int,
    leave_out: bool,
    right: Callable[[Mapping[str, Any], str], float],
) -> Documents:
    """Return the documents of a built task, divided into splits; ``Documents.load`` makes examples of them."""
    with telling(where, *SHOWN):
        evaluated = [(doc, *_hashes(task, doc)) for doc in task.eval_docs]
        evaluated_groups = {group for _, _, group in evaluated}
        found = _some(task.training_docs()) if task.has_training_docs() else []
        training = [row for row in ((doc, *_hashes(task, doc)) for doc in found) if row[2] not in evaluated_groups]
        pool = [(_hashes(task, doc)[1], doc) for doc in task.fewshot_docs() or ()] if num_fewshot else []
    salt = f"lm-eval/{name}"
    times: Counter[str] = Counter()
    rows: list[Row] = []
    for part, shares in ((training, TRAINING), (evaluated, EVALUATED if training else None)):
        for doc, own, group in part:
            times[own] += 1
            split = sn.split_by_group(group, salt, shares) if shares else sn.split_by_group(group, salt)
            rows.append(Row(f"{own}-{times[own]}" if times[own] > 1 else own, group, split, doc))
    splits = {row.group: row.split for row in rows}
    shots = tuple((group, doc) for group, doc in pool if splits.get(group, "train") == "train")
    by_id = {row.id: row.doc for row in rows}
    return Documents(name, where, task, num_fewshot, leave_out, right, tuple(rows), shots, by_id)


def mean_chance(task: Any, where: str) -> float | None:
    """Return the accuracy of a guess among the choices, over the evaluated documents; None where none has choices."""
    with telling(where, *SHOWN):
        counts = [len(choices) for doc in task.eval_docs if (choices := task.doc_to_choice(doc))]
    return sum(1 / count for count in counts) / len(counts) if counts else None


def _some(docs: Any) -> Iterable[Any]:
    """Return the training documents, a seeded draw of them where there are very many."""
    if len(docs) <= MOST:
        return list(docs)
    return [docs[i] for i in sorted(random.Random(0).sample(range(len(docs)), MOST))]


def _hashes(task: Any, doc: Mapping[str, Any]) -> tuple[str, str]:
    """Return the hash of a document's question, choices and answer, and that of question and choices in any order."""
    question = task.doc_to_text(doc)
    choices = list(map(str, task.doc_to_choice(doc))) if task.config.doc_to_choice is not None else []
    whole = json.dumps([question, choices, task.doc_to_target(doc)], default=str)
    return _hash(whole), _hash(json.dumps([question, sorted(choices)], default=str))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _choices(task: Any, doc: Mapping[str, Any]) -> tuple[str, ...]:
    choices = tuple(task.doc_to_choice(doc))
    if len(choices) < 2 or not all(isinstance(one, str) and one for one in choices) or len(set(choices)) < len(choices):
        raise Unusable(f"its choices {list(choices)!r} must be two or more different texts")
    return choices


def _gold(given: Any, choices: Sequence[str]) -> int:
    """Return the number of the right choice, given as number or text."""
    if isinstance(given, list | tuple):
        if len(given) != 1:
            raise Unusable(f"it has {len(given)} right choices; exactly one can be right here")
        given = given[0]
    number = choices.index(given) if given in choices else given
    if not isinstance(number, int) or not 0 <= number < len(choices):
        raise Unusable(f"its answer {given!r} is none of the choices {list(choices)!r}")
    return number


def _gold_text(task: Any, doc: Mapping[str, Any]) -> str:
    """Return the expected text: the first where several are right."""
    gold = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        gold = task.doc_to_choice(doc)[gold]
    if isinstance(gold, list | tuple):
        gold = gold[0] if gold else ""
    return str(gold)


def _shown(doc: Mapping[str, Any]) -> str:
    text = json.dumps(doc, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
