"""Generate HANS pairs: fill the slots of each subcase's templates with words of the lexicon.

Every subcase draws from its own seeded stream and takes its templates in turn, so the first n pairs of a
subcase are the same however many are asked for, and no pair comes twice. ``pairID`` is the template and
a hash of the two sentences: it does not depend on the seed.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import skillneurons as sn
from skillneurons.tasks import lexicon
from skillneurons.tasks.hans_subcases import SUBCASES

SLOT = re.compile(r"\{(\w+)\}")
MANY_TRIES = 1000


@dataclass(frozen=True, slots=True)
class HansPair:
    """One row of HANS; the fields are the columns of the authors' file.

    Of its parses only that of the premise, where there is one; two pairs that differ in it alone are equal.
    """

    gold_label: str
    sentence1: str
    sentence2: str
    pairID: str
    heuristic: str
    subcase: str
    template: str
    parse: str = field(default="", compare=False, repr=False)

    @property
    def group(self) -> str:
        """Return the template with its subcase: what a split by template keeps together."""
        return self.template if self.template.startswith(f"{self.subcase}/") else f"{self.subcase}/{self.template}"


class Filling:
    """Draw the words of one pair; no noun and no transitive verb comes twice."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.slots: dict[str, str] = {}
        self.nouns = rng.sample(lexicon.NOUNS, len(lexicon.NOUNS))
        self.verbs = rng.sample(lexicon.TRANSITIVE, len(lexicon.TRANSITIVE))
        self.actions = rng.sample(lexicon.INTRANSITIVE, len(lexicon.INTRANSITIVE))

    def singular(self) -> str:
        return self.nouns.pop()

    def plural(self) -> str:
        return lexicon.plural(self.nouns.pop())

    def noun(self) -> str:
        return self.rng.choice((self.singular, self.plural))()

    def verb(self) -> str:
        return self.verbs.pop()

    def participle(self) -> str:
        return self.rng.choice([verb for verb in self.verbs if lexicon.participle(verb) == verb])

    def predicate(self) -> str:
        return self.actions.pop() if self.rng.random() < 0.5 else f"{self.verb()} the {self.noun()}"

    def clause(self) -> str:
        return f"the {self.noun()} {self.predicate()}"

    def relative_clause(self) -> str:
        relative = self.rng.choice(lexicon.RELATIVES)
        if self.rng.random() < 0.3:
            return f"{relative} the {self.noun()} {self.verb()}"
        return f"{relative} {self.predicate()}"

    def dropping_verb(self) -> str:
        return self.rng.choice((*lexicon.OBJECTS, "paid"))

    def dropped_object(self) -> str:
        return self.rng.choice(lexicon.OBJECTS.get(self.slots["won"]) or (self.noun(),))

    def word(self, words: Sequence[str]) -> str:
        """Draw a word of a list that no slot holds yet; a verb among them is then used up."""
        word = self.rng.choice([word for word in words if word not in self.slots.values()])
        self.verbs = [verb for verb in self.verbs if verb != word]
        return word


WORDS: dict[str, Sequence[str]] = {
    "p": lexicon.PREPOSITIONS,
    "r": lexicon.RELATIVES,
    "adj": lexicon.ADJECTIVES,
    "place": lexicon.PLACES,
    "since": lexicon.SINCE,
    "if": lexicon.IF,
    "unless": ("if", "unless"),
    "anyway": (*lexicon.SINCE, "in case", "whether or not"),
    "sure": lexicon.SURE,
    "unsure": lexicon.UNSURE,
    "fact": lexicon.FACTIVE,
    "claim": lexicon.CLAIMS,
    "heard": lexicon.NP_OR_CLAUSE,
    "paid": lexicon.MAY_LACK_OBJECT,
    "done": lexicon.REDUCED,
}
PARTS: dict[str, Callable[[Filling], str]] = {
    **dict.fromkeys("ABC", Filling.noun),
    **dict.fromkeys("vw", Filling.verb),
    **dict.fromkeys("ST", Filling.clause),
    "SG": Filling.singular,
    "PL": Filling.plural,
    "ed": Filling.participle,
    "x": Filling.predicate,
    "rc": Filling.relative_clause,
    "won": Filling.dropping_verb,
    "prize": Filling.dropped_object,
}


def fill(template: str, rng: random.Random) -> tuple[str, str]:
    """Return premise and hypothesis of a template as sentences, its slots filled from ``rng``."""
    filling = Filling(rng)
    for slot in dict.fromkeys(SLOT.findall(template)):
        filling.slots[slot] = PARTS[slot](filling) if slot in PARTS else filling.word(WORDS[slot])
    premise, hypothesis = template.format_map(filling.slots).split(" > ")
    return lexicon.sentence(premise), lexicon.sentence(hypothesis)


def generate_subcase(name: str, n: int, seed: int | str) -> list[HansPair]:
    """Generate ``n`` different pairs of one subcase; DataError where the grammar has not so many."""
    subcase = SUBCASES[name]
    rng = random.Random(f"hans/{seed}/{name}")
    pairs: dict[tuple[str, str], HansPair] = {}
    for i in range(n):
        number = i % len(subcase.templates)
        texts = (fill(subcase.templates[number], rng) for _ in range(MANY_TRIES))
        fresh = next((text for text in texts if text not in pairs), None)
        if fresh is None:
            raise sn.DataError(f"hans: {n} pairs of {name!r} asked, but its grammar gave only {i}; ask for fewer")
        template = f"{name}/{number + 1}"
        digest = hashlib.blake2b("\n".join(fresh).encode(), digest_size=5).hexdigest()
        pairs[fresh] = HansPair(subcase.gold_label, *fresh, f"{template}/{digest}", subcase.heuristic, name, template)
    return list(pairs.values())


def generate_hans(per_subcase: int, seed: int | str) -> list[HansPair]:
    """Generate ``per_subcase`` pairs of each of the 30 subcases, subcase after subcase."""
    return [pair for name in SUBCASES for pair in generate_subcase(name, per_subcase, seed)]
