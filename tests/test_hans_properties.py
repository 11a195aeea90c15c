from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.tasks.hans_grammar import HansPair, generate_hans
from skillneurons.tasks.hans_properties import (
    clauses,
    is_constituent,
    is_lexical_overlap,
    is_subsequence,
    phrases,
    properties,
    words,
)
from skillneurons.tasks.hans_source import read_pairs
from skillneurons.tasks.hans_subcases import HEURISTICS

ORIGINAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hans_eval_3000.tsv"
PARSE = "(ROOT (S (NP (DT The) (NN actor)) (VP (VBD knew) (SBAR (IN that) (S (NP (DT the) (NN judge)) (VP (VBD ran))))) (. .)))"


@pytest.mark.parametrize(
    ("premise", "hypothesis", "has"),
    [
        ("The judge saw the actor .", "The actor saw the judge .", (True, False, False)),
        ("The judge saw the actor .", "The judge saw .", (True, True, False)),
        ("The judge saw the actor .", "The judge saw the actor .", (True, True, True)),
        ("The judge saw the actor .", "The judge met the actor .", (False, False, False)),
        ("The judge was seen by the actor .", "The actor saw the judge .", (False, False, False)),
        ("The judge by the actor ran .", "The actor ran .", (True, True, False)),
        ("After the judge ran , the actor slept .", "The judge ran .", (True, True, True)),
        ("After the judge ran , the actor slept .", "The actor slept .", (True, True, True)),
        ("After the judge hid the actor slept .", "The judge hid the actor .", (True, True, False)),
        ("The judge ran , and the actor slept .", "The actor slept .", (True, True, True)),
        ("The judge ran , or the actor slept .", "The judge ran .", (True, True, True)),
        ("Whether or not the judge ran , the actor slept .", "The judge ran .", (True, True, True)),
        ("Of course the judge ran .", "The judge ran .", (True, True, True)),
        ("The actor knew that the judge ran .", "The judge ran .", (True, True, True)),
        ("The actor that the judge saw ran .", "The judge saw .", (True, True, False)),
        ("The actor slept because the judge ran .", "The judge ran .", (True, True, True)),
        ("The actor slept .", ".", (False, False, False)),
    ],
)
def test_the_three_properties(premise: str, hypothesis: str, has: tuple[bool, bool, bool]) -> None:
    assert is_lexical_overlap(premise, hypothesis) == has[0]
    assert is_subsequence(premise, hypothesis) == has[1]
    assert is_constituent(premise, hypothesis) == has[2]


def test_words_and_clauses() -> None:
    assert words("Don't stop , the well-known judge !") == ["don't", "stop", "the", "well-known", "judge"]
    assert clauses("If the judge ran , the actor said that the author slept .") == [
        ["if", "the", "judge", "ran", "the", "actor", "said", "that", "the", "author", "slept"],
        ["the", "judge", "ran"],
        ["the", "actor", "said", "that", "the", "author", "slept"],
        ["the", "author", "slept"],
        ["the", "author", "slept"],
    ]


def test_a_parse_decides_where_there_is_one() -> None:
    assert [(label, " ".join(part)) for label, part in phrases(PARSE)][-6:] == [
        ("S", "the judge ran"),
        ("SBAR", "that the judge ran"),
        ("VP", "knew that the judge ran"),
        (".", ""),
        ("S", "the actor knew that the judge ran"),
        ("ROOT", "the actor knew that the judge ran"),
    ]
    premise = "The actor knew that the judge ran ."
    assert is_constituent(premise, "The judge ran .", PARSE)
    assert not is_constituent(premise, "The judge .", PARSE)  # a noun phrase is no clause
    assert not is_constituent(premise, "The judge ran .", PARSE.replace("(S (NP (DT the)", "(X (NP (DT the)"))
    assert not is_constituent("The actor slept .", "The judge ran .", PARSE)  # never without its words in the premise


@pytest.mark.parametrize("parse", ["(S (NP judges)", "(S judges))", "judges ran", ")", "judges (S ran)"])
def test_what_is_not_a_parse(parse: str) -> None:
    with pytest.raises(sn.DataError) as error:
        phrases(parse)
    assert str(error.value) == (
        f"hans: not a parse in brackets: {parse!r}; needed is (S (NP (NNS judges)) (VP (VBD ran)))"
    )


def holds(pairs: list[HansPair]) -> dict[str, int]:
    """Check the nesting and what each heuristic promises; count the pairs that have each property."""
    count: Counter[str] = Counter()
    for pair in pairs:
        has = properties(pair)
        assert has["subsequence"] or not has["constituent"], pair
        assert has["lexical_overlap"] or not has["subsequence"], pair
        nested = HEURISTICS.index(pair.heuristic)  # the pair has its heuristic's property and those before it, no more
        assert list(has.values()) == [place <= nested for place in range(3)], pair
        count.update(name for name, value in has.items() if value)
    return dict(count)


def test_every_generated_pair_has_its_property_and_no_stronger_one() -> None:
    assert holds(generate_hans(100, 0)) == {"lexical_overlap": 3000, "subsequence": 2000, "constituent": 1000}


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the sample of the original HANS pairs is not at {ORIGINAL}")
def test_every_original_pair_has_its_property_and_no_stronger_one() -> None:
    pairs = read_pairs(ORIGINAL)
    assert all(pair.parse.startswith("(ROOT ") for pair in pairs)
    assert holds(pairs) == {"lexical_overlap": 3000, "subsequence": 2000, "constituent": 1000}
    for pair in pairs:  # parses and clause boundaries agree
        assert is_constituent(pair.sentence1, pair.sentence2) == properties(pair)["constituent"], pair
    as_any_subtree = Counter(
        pair.subcase
        for pair in pairs
        if pair.heuristic != "constituent" and words(pair.sentence2) in [part for _, part in phrases(pair.parse)]
    )
    assert as_any_subtree == {"sn_past_participle": 100}  # a noun phrase there: "the manager [paid in the school]"
