"""The three heuristics of HANS as properties of a pair, checked on its words (McCoy et al. 2019, section 3).

Lexical overlap: every word of the hypothesis is in the premise. Subsequence: the hypothesis is a contiguous
stretch of the premise. Constituent: it is a complete clause of the premise. Each implies the one before it.
Letter case and punctuation do not count; a hypothesis without words has none of the three.

A clause is read from the premise's parse where there is one (the authors' column ``sentence1_parse``: a subtree
labelled S), else from its clause boundaries: a comma, a subordinator or a sentence adverb, "that" after a verb of
saying or knowing. The boundaries are those of HANS and of the generated NLI, not of English at large. Any
subtree, not only S, would also take in ``sn_past_participle``, whose hypothesis has the words of a noun phrase
("the manager paid in the school") and is not a clause of the premise.
"""

from __future__ import annotations

import re

import skillneurons as sn
from skillneurons.tasks.hans_grammar import HansPair
from skillneurons.tasks.hans_subcases import HEURISTICS
from skillneurons.tasks.lexicon import CLAIMS, FACTIVE, IF, NON_FACTIVE, SINCE, SURE, UNSURE

WORD = re.compile(r"\w+(?:['-]\w+)*")
OPENERS = "|".join(sorted({*SINCE, *IF, *SURE, *UNSURE}, key=lambda words: (-len(words), words)))
BOUNDARY = re.compile(rf",(?: (?:and|or)\b)?|\b(?:{OPENERS})\b")
SAID_THAT = re.compile(rf"\b(?:{'|'.join((*FACTIVE, *NON_FACTIVE, *CLAIMS))}) that\b")
BRACKET = re.compile(r"[()]|[^\s()]+")
CLAUSE = "S"


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return WORD.findall(text.lower())


def is_lexical_overlap(premise: str, hypothesis: str) -> bool:
    """Tell whether every word of the hypothesis is in the premise."""
    found = words(hypothesis)
    return bool(found) and set(found) <= set(words(premise))


def is_subsequence(premise: str, hypothesis: str) -> bool:
    """Tell whether the words of the hypothesis stand in the premise one after the other."""
    long, short = words(premise), words(hypothesis)
    return bool(short) and any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


def is_constituent(premise: str, hypothesis: str, parse: str | None = None) -> bool:
    """Tell whether the hypothesis is a complete clause of the premise, by its ``parse`` where one is given."""
    if not is_subsequence(premise, hypothesis):
        return False
    return words(hypothesis) in (
        [part for label, part in phrases(parse) if label == CLAUSE] if parse else clauses(premise)
    )


def properties(pair: HansPair) -> dict[str, bool]:
    """Return which of the three properties a pair has, by the heuristics' names."""
    premise, hypothesis = pair.sentence1, pair.sentence2
    has = (
        is_lexical_overlap(premise, hypothesis),
        is_subsequence(premise, hypothesis),
        is_constituent(premise, hypothesis, pair.parse or None),
    )
    return dict(zip(HEURISTICS, has, strict=True))


def clauses(premise: str) -> list[list[str]]:
    """Return the words of the whole premise and of every stretch between clause boundaries."""
    text = premise.lower()
    stretches = [text, *BOUNDARY.split(text)]
    embedded = [stretch[match.end() :] for stretch in stretches for match in SAID_THAT.finditer(stretch)]
    return [found for found in map(words, (*stretches, *embedded)) if found]


def phrases(parse: str) -> list[tuple[str, list[str]]]:
    """Return label and words of every subtree of a parse in brackets; DataError where they do not match."""
    found: list[tuple[str, list[str]]] = []
    open_phrases: list[tuple[str, int]] = []
    leaves: list[str] = []
    before = ""
    for mark in BRACKET.findall(parse):
        if mark != "(" and not open_phrases:
            raise _no_tree(parse)
        if mark == ")":
            label, start = open_phrases.pop()
            found.append((label, words(" ".join(leaves[start:]))))
        elif mark == "(":
            open_phrases.append(("", len(leaves)))
        elif before == "(":
            open_phrases[-1] = (mark, len(leaves))
        else:
            leaves.append(mark)
        before = mark
    if open_phrases or not found:
        raise _no_tree(parse)
    return found


def _no_tree(parse: str) -> sn.DataError:
    return sn.DataError(
        f"hans: not a parse in brackets: {parse[:80]!r}; needed is (S (NP (NNS judges)) (VP (VBD ran)))"
    )
