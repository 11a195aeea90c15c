"""The sentence grammar behind the generated NLI: thirteen kinds of premise and the traps.

A builder returns a premise, a hypothesis that it entails and one that it does not, each a clause without
capital and full stop. The entailed one mostly drops parts of the premise, sometimes paraphrases it; the
other brings a word that the premise does not have. ``trap`` is the exception: every word of its
hypothesis is in the premise, which does not entail it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from skillneurons.tasks.lexicon import (
    ADJECTIVES,
    FACTIVE,
    IF,
    INTRANSITIVE,
    NON_FACTIVE,
    NOUNS,
    OBJECTS,
    OPTIONAL_OBJECT,
    OUTSIDE_HANS,
    PLACES,
    PREPOSITIONS,
    RELATIVES,
    SINCE,
    SURE,
    SYNONYMS,
    TRANSITIVE,
    UNSURE,
    is_plural,
    participle,
    plural,
    was,
)


class Sentences:
    """Draw the parts of sentences from one seeded stream."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def noun(self, *used: str) -> str:
        """Return a noun phrase without article whose noun is not among the used phrases' nouns."""
        nouns = self.rng.choice((NOUNS, OUTSIDE_HANS))
        noun = self.rng.choice([n for n in nouns if n not in used and plural(n) not in used])
        return self.rng.choice((noun, plural(noun)))

    def plural(self, *used: str) -> str:
        """Return a plural noun that is not among the used ones, in either number."""
        return plural(self.rng.choice([n for n in (*NOUNS, *OUTSIDE_HANS) if not {n, plural(n)} & set(used)]))

    def verb(self, *used: str) -> str:
        return self.rng.choice([v for v in TRANSITIVE if v not in used])

    def action(self, *used: str) -> str:
        return self.rng.choice([v for v in INTRANSITIVE if v not in used])

    def clause(self, *used: str) -> tuple[str, str, str]:
        """Return (subject, predicate text, verb) of a plain clause over nouns not used yet."""
        subject = self.noun(*used)
        kind = self.rng.random()
        if kind < 0.3:
            verb = self.action()
            return subject, verb, verb
        if kind < 0.4:
            verb = self.rng.choice(list(OBJECTS))
            return subject, f"{verb} the {self.rng.choice(OBJECTS[verb])}", verb
        if kind < 0.5:
            verb = self.rng.choice(OPTIONAL_OBJECT)
            return subject, f"{verb} in the {self.rng.choice(PLACES)}", verb
        verb = self.verb()
        return subject, f"{verb} the {self.noun(subject, *used)}", verb


def last(predicate: str) -> str:
    """Return the last word of a predicate: its noun, where it has one."""
    return predicate.rsplit(maxsplit=1)[-1]


Pair = tuple[str, str, str]  # premise, entailed hypothesis, a hypothesis of other words


def _plain(s: Sentences) -> Pair:
    a = s.noun()
    b = s.noun(a)
    verb = s.verb()
    premise = f"the {a} {verb} the {b}"
    other = s.rng.choice(
        (
            f"the {a} {s.verb(verb)} the {b}",
            f"the {a} {verb} the {s.noun(a, b)}",
            f"the {s.noun(a, b)} {verb} the {b}",
            f"the {a} {s.action()}",
        )
    )
    entailed = s.rng.choice(
        (
            premise,
            f"the {a} {SYNONYMS.get(verb, verb)} the {b}",
            f"the {b} {was(b)} {participle(verb)}",
        )
    )
    return premise, entailed, other


def _passive(s: Sentences) -> Pair:
    a = s.noun()
    b = s.noun(a)
    verb = s.verb()
    be = was(a)
    premise = f"the {a} {be} {participle(verb)} by the {b}"
    entailed = s.rng.choice((f"the {b} {verb} the {a}", f"the {a} {be} {participle(verb)}"))
    other = s.rng.choice(
        (f"the {b} {s.verb(verb)} the {a}", f"the {a} {be} {participle(s.verb(verb))}", f"the {b} {s.action()}")
    )
    return premise, entailed, other


def _prepositional(s: Sentences) -> Pair:
    a = s.noun()
    b = s.noun(a)
    preposition = s.rng.choice(PREPOSITIONS)
    if s.rng.random() < 0.5:
        verb = s.action()
        premise = f"the {a} {preposition} the {b} {verb}"
        return premise, f"the {a} {verb}", s.rng.choice((f"the {a} {s.action(verb)}", f"the {s.noun(a, b)} {verb}"))
    c = s.noun(a, b)
    verb = s.verb()
    premise = s.rng.choice(
        (f"the {a} {preposition} the {c} {verb} the {b}", f"the {a} {verb} the {b} {preposition} the {c}")
    )
    other = s.rng.choice(
        (f"the {a} {s.verb(verb)} the {b}", f"the {a} {verb} the {s.noun(a, b, c)}", f"the {c} {s.action()}")
    )
    return premise, f"the {a} {verb} the {b}", other


def _relative(s: Sentences) -> Pair:
    a, verb, relative = s.noun(), s.verb(), s.rng.choice(RELATIVES)
    b = s.noun(a)
    c = s.noun(a, b)
    inner = s.verb(verb)
    if s.rng.random() < 0.5:
        modifier, fact = f"{relative} {inner} the {c}", f"the {a} {inner} the {c}"
    else:
        modifier, fact = f"{relative} the {c} {inner}", f"the {c} {inner} the {a}"
    premise = f"the {a} {modifier} {verb} the {b}"
    entailed = s.rng.choice((f"the {a} {verb} the {b}", fact))
    other = s.rng.choice(
        (
            f"the {a} {s.verb(verb, inner)} the {b}",
            f"the {a} {verb} the {s.noun(a, b, c)}",
            f"the {s.noun(a, b, c)} {inner} the {c}",
        )
    )
    return premise, entailed, other


def _conjunction(s: Sentences) -> Pair:
    a = s.noun()
    b = s.noun(a)
    c = s.noun(a, b)
    verb = s.verb()
    if s.rng.random() < 0.5:
        premise = f"the {a} and the {b} {verb} the {c}"
        entailed = f"the {s.rng.choice((a, b))} {verb} the {c}"
    else:
        premise = f"the {c} {verb} the {a} and the {b}"
        entailed = f"the {c} {verb} the {s.rng.choice((a, b))}"
    other = s.rng.choice(
        (entailed.replace(verb, s.verb(verb)), f"the {s.noun(a, b, c)} {verb} the {a}", f"the {a} {s.action()}")
    )
    return premise, entailed, other


def _adjective(s: Sentences) -> Pair:
    a, adjective = s.noun(), s.rng.choice(ADJECTIVES)
    subject, predicate, verb = s.clause(a)
    end = predicate if s.rng.random() < 0.5 else f"{s.verb()} the {subject}"
    other_adjective = s.rng.choice([x for x in ADJECTIVES if x != adjective])
    other = s.rng.choice(
        (f"the {other_adjective} {a} {end}", f"the {a} {s.action(verb)}", f"the {s.noun(a, subject, last(end))} {end}")
    )
    return f"the {adjective} {a} {end}", f"the {a} {end}", other


def _adverb(s: Sentences) -> Pair:
    subject, predicate, verb = s.clause()
    word = s.rng.choice(SURE)
    other = s.rng.choice(
        (
            f"the {subject} {s.action(verb)}",
            f"the {s.noun(subject, last(predicate))} {predicate}",
            f"the {subject} did not do it",
        )
    )
    return f"{word} the {subject} {predicate}", f"the {subject} {predicate}", other


def _embedded(s: Sentences) -> Pair:
    a = s.noun()
    subject, predicate, verb = s.clause(a)
    other = s.rng.choice(
        (
            f"the {subject} {s.action(verb)}",
            f"the {s.noun(a, subject, last(predicate))} {predicate}",
            f"the {a} never {verb} it",
        )
    )
    return f"the {a} {s.rng.choice(FACTIVE)} that the {subject} {predicate}", f"the {subject} {predicate}", other


def _subordinate(s: Sentences) -> Pair:
    first = s.clause()
    second = s.clause(first[0], last(first[1]))
    one, two = f"the {first[0]} {first[1]}", f"the {second[0]} {second[1]}"
    word = s.rng.choice((*SINCE, "and", "and"))
    premise = f"{one} , and {two}" if word == "and" else s.rng.choice((f"{word} {one} , {two}", f"{two} {word} {one}"))
    entailed = s.rng.choice((one, two))
    used = (first[0], second[0], last(first[1]), last(second[1]))
    other = s.rng.choice(
        (
            f"the {first[0]} {s.action(first[2], second[2])}",
            f"the {s.noun(*used)} {first[1]}",
            f"the {second[0]} did not do so",
        )
    )
    return premise, entailed, other


def _bare_plural(s: Sentences) -> Pair:
    noun = s.plural()
    adjective, other_adjective = s.rng.sample(ADJECTIVES, 2)
    _, predicate, verb = s.clause(noun)
    other = s.rng.choice(
        (
            f"{noun} {s.action(verb)}",
            f"{s.plural(noun, last(predicate))} {predicate}",
            f"{other_adjective} {noun} {predicate}",
        )
    )
    return f"{adjective} {noun} {predicate}", f"{noun} {predicate}", other


def _object_relative(s: Sentences) -> Pair:
    a, verb, relative = s.noun(), s.verb(), s.rng.choice(RELATIVES)
    b = s.noun(a)
    c = s.noun(a, b)
    inner = s.verb(verb)
    if s.rng.random() < 0.5:
        modifier, fact = f"{relative} {inner} the {c}", f"the {b} {inner} the {c}"
    else:
        modifier, fact = f"{relative} the {c} {inner}", f"the {c} {inner} the {b}"
    other = s.rng.choice(
        (f"the {a} {s.verb(verb, inner)} the {b}", f"the {s.noun(a, b, c)} {verb} the {b}", f"the {b} {s.action()}")
    )
    return f"the {a} {verb} the {b} {modifier}", s.rng.choice((f"the {a} {verb} the {b}", fact)), other


def _intransitive(s: Sentences) -> Pair:
    a, verb = s.noun(), s.action()
    premise = f"the {a} {verb}"
    entailed = s.rng.choice((premise, f"the {a} {SYNONYMS.get(verb, verb)}" if not is_plural(a) else premise))
    return premise, entailed, s.rng.choice((f"the {a} {s.action(verb)}", f"the {s.noun(a)} {verb}"))


def _disjunction(s: Sentences) -> Pair:
    """Neither part of "S , or T" follows; what follows here is the same disjunction turned round."""
    first = s.clause()
    second = s.clause(first[0], last(first[1]))
    one, two = f"the {first[0]} {first[1]}", f"the {second[0]} {second[1]}"
    premise = f"{one} , or {two}"
    other = s.rng.choice(
        (
            f"the {first[0]} {s.action(first[2], second[2])}",
            f"the {s.noun(first[0], second[0], last(first[1]))} {first[1]}",
        )
    )
    return premise, s.rng.choice((premise, f"{two} , or {one}")), other


def trap(s: Sentences) -> tuple[str, str]:
    """Return a premise and a hypothesis of its words that it does not entail (rare on purpose)."""
    subject, predicate, _ = s.clause()
    clause = f"the {subject} {predicate}"
    kind = s.rng.random()
    if kind < 0.4:
        return f"{s.rng.choice(UNSURE)} {clause}", clause
    if kind < 0.7:
        return f"the {s.noun(subject)} {s.rng.choice(NON_FACTIVE)} that {clause}", clause
    other = s.clause(subject)
    return f"{s.rng.choice(IF)} {clause} , the {other[0]} {other[1]}", clause


BUILDERS: tuple[Callable[[Sentences], Pair], ...] = (
    _plain,
    _passive,
    _prepositional,
    _relative,
    _conjunction,
    _adjective,
    _adverb,
    _embedded,
    _subordinate,
    _bare_plural,
    _object_relative,
    _intransitive,
    _disjunction,
)
