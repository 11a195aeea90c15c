from __future__ import annotations

import random
import re
from collections import Counter

import pytest
import skillneurons as sn
from skillneurons.tasks import hans_grammar, lexicon
from skillneurons.tasks.hans_grammar import HansPair, fill, generate_hans, generate_subcase
from skillneurons.tasks.hans_subcases import HEURISTICS, SUBCASES, Subcase

ENTAILED = {
    "lexical_overlap": {
        *("le_relative_clause", "le_around_prepositional_phrase", "le_around_relative_clause"),
        *("le_conjunction", "le_passive"),
    },
    "subsequence": {
        *("se_conjunction", "se_adjective", "se_understood_object", "se_relative_clause_on_obj", "se_PP_on_obj"),
    },
    "constituent": {
        *("ce_embedded_under_since", "ce_after_since_clause", "ce_embedded_under_verb"),
        *("ce_conjunction", "ce_adverb"),
    },
}
NOT_ENTAILED = {
    "lexical_overlap": {
        *("ln_subject/object_swap", "ln_preposition", "ln_relative_clause", "ln_passive", "ln_conjunction"),
    },
    "subsequence": {
        *("sn_NP/S", "sn_PP_on_subject", "sn_relative_clause_on_subject", "sn_past_participle", "sn_NP/Z"),
    },
    "constituent": {
        *("cn_embedded_under_if", "cn_after_if_clause", "cn_embedded_under_verb", "cn_disjunction", "cn_adverb"),
    },
}
MULTIPLE = {
    "ln_preposition": 6,
    "ln_relative_clause": 12,
    "ln_passive": 2,
    "ln_conjunction": 4,
    "le_relative_clause": 4,
    "le_conjunction": 2,
    "le_passive": 2,
    "sn_past_participle": 2,
    "sn_NP/Z": 2,
    "se_conjunction": 2,
    "cn_disjunction": 2,
    "ce_conjunction": 2,
}


@pytest.fixture(scope="module")
def pairs() -> list[HansPair]:
    return generate_hans(60, seed=0)


def words(sentence: str) -> list[str]:
    assert sentence.endswith(" .")
    return sentence.lower()[:-2].split()


def is_stretch(short: list[str], long: list[str]) -> bool:
    return any(long[i : i + len(short)] == short for i in range(len(long)))


def lemma(noun: str) -> str:
    return next(singular for singular in lexicon.NOUNS if noun in (singular, lexicon.plural(singular)))


def test_the_thirty_subcases_their_heuristics_and_labels() -> None:
    for heuristic in HEURISTICS:
        of = {name: subcase for name, subcase in SUBCASES.items() if subcase.heuristic == heuristic}
        assert {name for name, s in of.items() if s.gold_label == "entailment"} == ENTAILED[heuristic]
        assert {name for name, s in of.items() if s.gold_label == "non-entailment"} == NOT_ENTAILED[heuristic]
    assert {name: len(s.templates) for name, s in SUBCASES.items() if len(s.templates) > 1} == MULTIPLE


def test_a_pair_carries_its_subcase_and_every_subcase_has_as_many(pairs: list[HansPair]) -> None:
    assert Counter(pair.subcase for pair in pairs) == dict.fromkeys(SUBCASES, 60)
    for pair in pairs:
        subcase = SUBCASES[pair.subcase]
        assert (pair.heuristic, pair.gold_label) == (subcase.heuristic, subcase.gold_label)
        assert re.fullmatch(rf"{re.escape(pair.subcase)}/\d+", pair.template) and pair.group == pair.template
        assert pair.pairID.startswith(f"{pair.template}/")
    assert len({pair.template for pair in pairs}) == 18 + sum(MULTIPLE.values())


def test_no_pair_comes_twice(pairs: list[HansPair]) -> None:
    assert len({(pair.sentence1, pair.sentence2) for pair in pairs}) == len(pairs)
    assert len({pair.pairID for pair in pairs}) == len(pairs)


def test_the_properties_of_the_heuristics(pairs: list[HansPair]) -> None:
    for pair in pairs:
        premise, hypothesis = words(pair.sentence1), words(pair.sentence2)
        assert set(hypothesis) <= set(premise), pair
        # every stretch overlaps, but what HANS calls lexical overlap is never a mere stretch
        assert is_stretch(hypothesis, premise) == (pair.heuristic != "lexical_overlap"), pair
        assert len(hypothesis) < len(premise) or pair.subcase == "ln_subject/object_swap", pair


def test_a_constituent_is_one_whole_clause() -> None:
    for subcase in SUBCASES.values():
        for template in subcase.templates:
            premise, hypothesis = template.split(" > ")
            assert (hypothesis in ("{S}", "{T}")) == (subcase.heuristic == "constituent")
            assert subcase.heuristic != "constituent" or hypothesis in premise


def test_text_has_the_authors_form(pairs: list[HansPair]) -> None:
    for pair in pairs:
        for sentence in (pair.sentence1, pair.sentence2):
            assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+| ,)* \.", sentence), sentence


def test_nouns_and_transitive_verbs_of_a_premise_are_all_different(pairs: list[HansPair]) -> None:
    plurals = [lexicon.plural(noun) for noun in lexicon.NOUNS]
    listed = ("sn_NP/S", "sn_past_participle", "cn_embedded_under_verb")  # these take a verb from a list of their own
    for pair in (*pairs, *(pair for name in listed for pair in generate_subcase(name, 400, 0))):
        premise = words(pair.sentence1)
        nouns = [lemma(word) for word in premise if word in lexicon.NOUNS or word in plurals]
        verbs = [word for word in premise if word in lexicon.TRANSITIVE]
        assert len(set(nouns)) == len(nouns) and len(set(verbs)) == len(verbs), pair


NOUN_PHRASE = r"(the \w+)"
WHO_DID_IT = {  # premise and the entailed form of its fact; the label says whether the hypothesis is that fact
    "ln_subject/object_swap": (rf"{NOUN_PHRASE} (\w+) {NOUN_PHRASE}", r"\1 \2 \3"),
    "ln_passive": (rf"{NOUN_PHRASE} (?:was|were) (\w+) by {NOUN_PHRASE}", r"\3 \2 \1"),
    "le_passive": (rf"{NOUN_PHRASE} (?:was|were) (\w+) by {NOUN_PHRASE}", r"\3 \2 \1"),
}


@pytest.mark.parametrize("name", WHO_DID_IT)
def test_labels_follow_from_who_did_it(name: str, pairs: list[HansPair]) -> None:
    pattern, fact = WHO_DID_IT[name]
    for pair in (pair for pair in pairs if pair.subcase == name):
        match = re.fullmatch(pattern, " ".join(words(pair.sentence1)))
        assert match is not None
        assert (match.expand(fact) == " ".join(words(pair.sentence2))) == (pair.gold_label == "entailment")


def test_passives_agree_and_use_no_new_word(pairs: list[HansPair]) -> None:
    for pair in (pair for pair in pairs if pair.subcase in ("ln_passive", "le_passive")):
        _, subject, be, verb, *_ = words(pair.sentence1)
        assert be == lexicon.was(subject) and verb in words(pair.sentence2) and verb != "saw"


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("cn_embedded_under_if", "if|unless|in case|whether or not"),
        ("cn_after_if_clause", "if|unless"),
        ("ce_embedded_under_since", "since|because|although|after|before|though|when|while"),
        ("ce_after_since_clause", "since|because|although|after|before|though|when|while|in case|whether or not"),
        ("cn_adverb", "probably|maybe|supposedly|hopefully"),
        ("ce_adverb", "clearly|obviously|certainly|definitely|of course|suddenly|without a doubt"),
        ("sn_NP/Z", "since|because|although|after|before|though|when|while"),
    ],
)
def test_the_word_that_decides_the_label(name: str, opener: str, pairs: list[HansPair]) -> None:
    for pair in (pair for pair in pairs if pair.subcase == name):
        assert re.match(rf"({opener}) the ", " ".join(words(pair.sentence1))), pair


@pytest.mark.parametrize(
    ("name", "verbs"),
    [("cn_embedded_under_verb", lexicon.CLAIMS), ("ce_embedded_under_verb", lexicon.FACTIVE)],
)
def test_only_factive_verbs_entail_their_clause(name: str, verbs: tuple[str, ...], pairs: list[HansPair]) -> None:
    assert not set(lexicon.CLAIMS) & set(lexicon.FACTIVE)
    for pair in (pair for pair in pairs if pair.subcase == name):
        assert words(pair.sentence1)[2] in verbs and words(pair.sentence1)[3] == "that"


def test_pairs_depend_on_the_seed_and_on_nothing_else(pairs: list[HansPair]) -> None:
    assert generate_hans(60, seed=0) == pairs
    assert generate_subcase("sn_NP/Z", 10, 0) == generate_subcase("sn_NP/Z", 40, 0)[:10]
    assert {pair.pairID for pair in generate_hans(60, seed=1)} != {pair.pairID for pair in pairs}
    first = generate_subcase("ln_passive", 1, 0)[0]
    assert first == HansPair(
        gold_label="non-entailment",
        sentence1="The athlete was encouraged by the actor .",
        sentence2="The athlete encouraged the actor .",
        pairID="ln_passive/1/6c26982ef1",
        heuristic="lexical_overlap",
        subcase="ln_passive",
        template="ln_passive/1",
    )


def test_a_slot_stands_for_the_same_words_on_both_sides() -> None:
    premise, hypothesis = fill("the {A} {v} the {B} > the {B} {v} the {A}", random.Random("slots"))
    a, verb, b = re.fullmatch(r"The (\w+) (\w+) the (\w+) \.", premise).groups()  # type: ignore[union-attr]
    assert hypothesis == f"The {b} {verb} the {a} ."


def test_asking_for_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Subcase("constituent", "entailment", ("{adj} judges ran > judges ran",))
    monkeypatch.setitem(hans_grammar.SUBCASES, "ce_few", few)
    assert len(generate_subcase("ce_few", 8, 0)) == 8
    with pytest.raises(sn.DataError) as error:
        generate_subcase("ce_few", 9, 0)
    assert str(error.value) == "hans: 9 pairs of 'ce_few' asked, but its grammar gave only 8; ask for fewer"
