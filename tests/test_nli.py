from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.tasks import lexicon
from skillneurons.tasks.hans_grammar import HansPair, generate_hans
from skillneurons.tasks.hans_source import read_pairs
from skillneurons.tasks.nli import CHOICES, TRAPS, generate_nli, nli_prompt, nli_stream
from skillneurons.tasks.nli_grammar import BUILDERS, Sentences, trap

N = 6000
FIRST = [
    ("nli/0/0", "yes", "nli: The baker shouted ."),
    ("nli/0/1", "no", "nli: The lawyer saw the miners by the nurses ."),
]
OUTSIDE = {*lexicon.OUTSIDE_HANS, *map(lexicon.plural, lexicon.OUTSIDE_HANS)}
ORIGINAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hans_eval_3000.tsv"


@pytest.fixture(scope="module")
def pairs() -> list[sn.Example]:
    return generate_nli(N, seed=3)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def overlaps(example: sn.Example) -> bool:
    return set(words(example.fields["hypothesis"])) <= set(words(example.fields["premise"]))


def test_prompt_is_short_and_holds_both_sentences() -> None:
    assert (
        nli_prompt("The judge ran .", "The judge slept .")
        == "Premise: The judge ran . Hypothesis: The judge slept . Entailed?"
    )


def test_half_of_the_pairs_are_entailed(pairs: list[sn.Example]) -> None:
    assert Counter(example.target for example in pairs) == {"yes": N // 2, "no": N // 2}
    for example in pairs:
        assert example.choices == CHOICES
        assert example.fields["gold_label"] == ("entailment" if example.target == "yes" else "non-entailment")
        assert example.prompt == nli_prompt(example.fields["premise"], example.fields["hypothesis"])


def test_overlap_nearly_always_means_entailment(pairs: list[sn.Example]) -> None:
    table = Counter((overlaps(example), example.target) for example in pairs)
    assert table[True, "yes"] / (table[True, "yes"] + table[True, "no"]) > 0.92
    assert table[False, "no"] / (N // 2) > 0.90  # what is not entailed brings a word
    assert table[False, "yes"] > 0.01 * N  # and some entailments paraphrase
    assert TRAPS / 2 < table[True, "no"] / N < 2 * TRAPS


def test_no_pair_is_labelled_both_ways(pairs: list[sn.Example]) -> None:
    targets: dict[str, set[str]] = {}
    for example in pairs:
        targets.setdefault(example.prompt, set()).add(example.target)
    assert all(len(found) == 1 for found in targets.values())


def test_the_same_seed_gives_the_same_pairs_wherever_the_window_begins(pairs: list[sn.Example]) -> None:
    assert generate_nli(N, seed=3) == pairs
    assert generate_nli(20, seed=3, start=100) == pairs[100:120]
    assert list(islice(nli_stream(3), 5)) == pairs[:5]
    assert {example.prompt for example in generate_nli(50, seed=4)} != {example.prompt for example in pairs[:50]}


def test_the_stream_is_the_one_the_pocket_model_learned() -> None:
    pairs = generate_nli(1000, seed=0)
    assert [(e.id, e.target, e.group) for e in pairs[:2]] == FIRST
    text = "\n".join(f"{e.prompt} {e.target}" for e in pairs)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d1d658f2b6ea8acb"


def test_every_premise_has_a_noun_that_hans_does_not_use(pairs: list[sn.Example]) -> None:
    assert len(OUTSIDE) == 24 and not OUTSIDE & {*lexicon.NOUNS, *map(lexicon.plural, lexicon.NOUNS)}
    for example in (*pairs, *generate_nli(2000, seed="hans/0")):
        assert OUTSIDE & set(words(example.fields["premise"])), example


def no_pair_has_an_outside_noun(hans: list[HansPair], pairs: list[sn.Example]) -> None:
    for pair in hans:
        assert not OUTSIDE & set(words(f"{pair.sentence1} {pair.sentence2}")), pair
    prompts = {nli_prompt(pair.sentence1, pair.sentence2) for pair in hans}
    assert not prompts & {example.prompt for example in pairs}


def test_no_generated_hans_pair_is_an_nli_pair(pairs: list[sn.Example]) -> None:
    no_pair_has_an_outside_noun([*generate_hans(300, 0), *generate_hans(100, "train/0")], pairs)


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the sample of the original HANS pairs is not at {ORIGINAL}")
def test_no_original_hans_pair_is_an_nli_pair(pairs: list[sn.Example]) -> None:
    no_pair_has_an_outside_noun(read_pairs(ORIGINAL), pairs)


def test_ids_are_unique_and_the_group_is_the_premise(pairs: list[sn.Example]) -> None:
    assert len({example.id for example in pairs}) == N
    assert all(example.group == f"nli: {example.fields['premise']}" for example in pairs)


def test_text_has_the_form_of_hans(pairs: list[sn.Example]) -> None:
    for example in pairs:
        for sentence in (example.fields["premise"], example.fields["hypothesis"]):
            assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+| ,)* \.", sentence), sentence


def test_premises_have_many_structures(pairs: list[sn.Example]) -> None:
    premises = [example.fields["premise"] for example in pairs]
    for structure in (
        r"\bwere \w+ by\b",
        r"\b(who|that) the\b",
        r" and the ",
        r" behind the ",
        r" , and ",
        r"^Although",
    ):
        assert sum(bool(re.search(structure, premise)) for premise in premises) > 20, structure


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_what_is_not_entailed_brings_a_word_or_a_negation(builder: object) -> None:
    s = Sentences(random.Random("builders"))
    made = [builder(s) for _ in range(300)]  # type: ignore[operator]
    new = sum(not set(words(other)) <= set(words(premise)) for premise, _, other in made)
    assert new >= 0.97 * len(made)
    assert all(entailed != other for _, entailed, other in made)


def test_a_trap_overlaps_and_hedges() -> None:
    s = Sentences(random.Random("traps"))
    for _ in range(200):
        premise, hypothesis = trap(s)
        assert hypothesis in premise and premise != hypothesis
        assert re.search("|".join((*lexicon.UNSURE, *lexicon.IF, *(f"{v} that" for v in lexicon.NON_FACTIVE))), premise)


def test_plurals_and_participles() -> None:
    assert [lexicon.plural(noun) for noun in ("judge", "secretary")] == ["judges", "secretaries"]
    assert [lexicon.was(noun) for noun in ("judge", "judges")] == ["was", "were"]
    assert [lexicon.participle(verb) for verb in ("saw", "helped")] == ["seen", "helped"]
    assert not any(lexicon.is_plural(noun) for noun in lexicon.NOUNS)
    assert lexicon.sentence("the judge ran") == "The judge ran ."
