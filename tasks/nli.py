"""Generated NLI in which lexical overlap nearly always means entailment, as in MNLI.

A premise is a sentence of ``nli_grammar``: plain, passive, with an adjective, a prepositional phrase, a
relative clause, a conjunction or disjunction, an adverb, an embedded or a subordinate clause. Entailed hypotheses
mostly drop parts of the premise (every word of them is in the premise), some paraphrase it. The others
bring a word that the premise does not have: another noun, verb or adjective, a negation. Only ``TRAPS``
of all pairs (a sixteenth of those with full overlap) are not entailed although every word overlaps: they
hedge ("probably", "said that", "if"), and three of the HANS subcases (``cn_adverb``,
``cn_embedded_under_verb``, ``cn_embedded_under_if``) do so too. A model that learns from these pairs
learns "overlap means entailed", which the other HANS subcases then catch out.

Every premise has a noun that HANS never uses (``OUTSIDE_HANS``), so no pair is a HANS pair.

Text form as in HANS: a space before "." and ",". Targets are "yes" (entailed) and "no".
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import skillneurons as sn
from skillneurons.tasks.lexicon import OUTSIDE_HANS, plural, sentence
from skillneurons.tasks.nli_grammar import BUILDERS, Sentences, trap

TRAPS = 0.03  # share of all pairs
CHOICES = ("yes", "no")
GOLD = ("entailment", "non-entailment")
_OUTSIDE = frozenset((*OUTSIDE_HANS, *map(plural, OUTSIDE_HANS)))


def nli_prompt(premise: str, hypothesis: str) -> str:
    """Return the text a model reads for a pair; HANS uses the same form."""
    return f"Premise: {premise} Hypothesis: {hypothesis} Entailed?"


def nli_stream(seed: int | str) -> Iterator[sn.Example]:
    """Yield pairs for ever, entailed and not in turn; ``seed`` names the stream."""
    rng = random.Random(f"nli/{seed}")
    s = Sentences(rng)
    for i in itertools.count():
        answer = i % 2  # 0: entailed
        trapped = bool(answer) and rng.random() < 2 * TRAPS
        while True:
            if trapped:
                premise, hypothesis = trap(s)
            else:
                premise, *hypotheses = rng.choice(BUILDERS)(s)
                hypothesis = hypotheses[answer]
            if not _OUTSIDE.isdisjoint(premise.split()):
                break
        first, second = sentence(premise), sentence(hypothesis)
        yield sn.Example(
            id=f"nli/{seed}/{i}",
            prompt=nli_prompt(first, second),
            target=CHOICES[answer],
            choices=CHOICES,
            group=f"nli: {first}",
            fields={"premise": first, "hypothesis": second, "gold_label": GOLD[answer]},
        )


def generate_nli(n: int, seed: int | str, start: int = 0) -> list[sn.Example]:
    """Generate the pairs ``start`` to ``start + n`` of the stream that ``seed`` names; half are entailed.

    ``id`` is the place in the stream, so the same pair has the same id wherever the window begins.
    ``group`` is the premise: pairs of one premise stay together. A pair may come twice in a long stream.
    """
    return list(itertools.islice(nli_stream(seed), start, start + n))
