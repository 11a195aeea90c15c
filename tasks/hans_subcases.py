"""The thirty HANS subcases and their sentence templates (McCoy, Pavlick, Linzen 2019, arXiv 1902.01007).

A template is "premise > hypothesis". A slot stands for the same words on both sides:

- ``{A} {B} {C}``: nouns, singular or plural, all different; ``{SG}`` and ``{PL}`` fix the number;
- ``{v} {w}``: transitive verbs, different; ``{ed}``: a participle that is also a past tense;
- ``{x}``: a whole predicate ("danced", "saw the judge"); ``{S} {T}``: whole clauses;
- ``{p}``: a preposition; ``{r}``: who or that; ``{rc}``: a whole relative clause; ``{adj}``, ``{place}``;
- ``{since} {sure} {fact}``: words under which the next clause holds; ``{if} {unsure} {claim}``: under which it may
  not; ``{unless}``: the main clause may not hold either; ``{anyway}``: the main clause holds whatever the first does;
- ``{heard}``: takes a noun or a clause; ``{paid}``: may lack its object; ``{done}``: past tense or reduced
  relative; ``{won} {prize}``: a verb that may drop its object, and an object that fits.

The label follows from the construction alone, because nouns and verbs of one pair are all different.
The hypothesis of a ``constituent`` template is a single clause slot: a complete constituent of the premise.
"""

from __future__ import annotations

from dataclasses import dataclass

HEURISTICS = ("lexical_overlap", "subsequence", "constituent")
LABELS = ("entailment", "non-entailment")


@dataclass(frozen=True, slots=True)
class Subcase:
    """One construction: its heuristic, its label and its templates, numbered from 1."""

    heuristic: str
    gold_label: str
    templates: tuple[str, ...]


def _family(heuristic: str, entailed: bool, subcases: dict[str, tuple[str, ...]]) -> dict[str, Subcase]:
    label = LABELS[0 if entailed else 1]
    return {name: Subcase(heuristic, label, templates) for name, templates in subcases.items()}


LEXICAL_NOT_ENTAILED: dict[str, tuple[str, ...]] = {
    "ln_subject/object_swap": ("the {A} {v} the {B} > the {B} {v} the {A}",),
    "ln_preposition": (
        "the {A} {p} the {B} {v} the {C} > the {B} {v} the {A}",
        "the {A} {p} the {B} {v} the {C} > the {C} {v} the {A}",
        "the {A} {p} the {B} {v} the {C} > the {C} {v} the {B}",
        "the {A} {v} the {B} {p} the {C} > the {B} {v} the {A}",
        "the {A} {v} the {B} {p} the {C} > the {B} {v} the {C}",
        "the {A} {v} the {B} {p} the {C} > the {C} {v} the {A}",
    ),
    "ln_relative_clause": (
        "the {A} {r} the {B} {w} {v} the {C} > the {B} {v} the {A}",
        "the {A} {r} the {B} {w} {v} the {C} > the {C} {v} the {A}",
        "the {A} {r} the {B} {w} {v} the {C} > the {C} {v} the {B}",
        "the {A} {r} {w} the {B} {v} the {C} > the {B} {v} the {A}",
        "the {A} {r} {w} the {B} {v} the {C} > the {C} {v} the {A}",
        "the {A} {r} {w} the {B} {v} the {C} > the {C} {v} the {B}",
        "the {A} {v} the {B} {r} {w} the {C} > the {B} {v} the {A}",
        "the {A} {v} the {B} {r} {w} the {C} > the {B} {v} the {C}",
        "the {A} {v} the {B} {r} {w} the {C} > the {C} {v} the {A}",
        "the {A} {v} the {B} {r} the {C} {w} > the {B} {v} the {A}",
        "the {A} {v} the {B} {r} the {C} {w} > the {B} {v} the {C}",
        "the {A} {v} the {B} {r} the {C} {w} > the {C} {v} the {A}",
    ),
    "ln_passive": (
        "the {SG} was {ed} by the {B} > the {SG} {ed} the {B}",
        "the {PL} were {ed} by the {B} > the {PL} {ed} the {B}",
    ),
    "ln_conjunction": (
        "the {A} and the {B} {v} the {C} > the {A} {v} the {B}",
        "the {A} and the {B} {v} the {C} > the {B} {v} the {A}",
        "the {A} {v} the {B} and the {C} > the {B} {v} the {C}",
        "the {A} {v} the {B} and the {C} > the {C} {v} the {B}",
    ),
}
LEXICAL_ENTAILED: dict[str, tuple[str, ...]] = {
    "le_relative_clause": (
        "the {A} {r} the {B} {w} {v} the {C} > the {B} {w} the {A}",
        "the {A} {r} {w} the {B} {v} the {C} > the {A} {w} the {B}",
        "the {A} {v} the {B} {r} {w} the {C} > the {B} {w} the {C}",
        "the {A} {v} the {B} {r} the {C} {w} > the {C} {w} the {B}",
    ),
    "le_around_prepositional_phrase": ("the {A} {p} the {B} {v} the {C} > the {A} {v} the {C}",),
    "le_around_relative_clause": ("the {A} {rc} {v} the {B} > the {A} {v} the {B}",),
    "le_conjunction": (
        "the {A} and the {B} {v} the {C} > the {A} {v} the {C}",
        "the {A} {v} the {B} and the {C} > the {A} {v} the {C}",
    ),
    "le_passive": (
        "the {SG} was {ed} by the {B} > the {B} {ed} the {SG}",
        "the {PL} were {ed} by the {B} > the {B} {ed} the {PL}",
    ),
}
SUBSEQUENCE_NOT_ENTAILED: dict[str, tuple[str, ...]] = {
    "sn_NP/S": ("the {A} {heard} the {B} {x} > the {A} {heard} the {B}",),
    "sn_PP_on_subject": ("the {A} {p} the {B} {x} > the {B} {x}",),
    "sn_relative_clause_on_subject": ("the {A} {r} {v} the {B} {x} > the {B} {x}",),
    "sn_past_participle": (
        "the {A} {done} in the {place} {x} > the {A} {done} in the {place}",
        "the {A} {v} the {B} {done} in the {place} > the {B} {done} in the {place}",
    ),
    "sn_NP/Z": (
        "{since} the {A} {paid} the {B} {x} > the {A} {paid} the {B}",
        "{since} the {A} fought the {B} {x} > the {A} fought the {B}",
    ),
}
SUBSEQUENCE_ENTAILED: dict[str, tuple[str, ...]] = {
    "se_conjunction": (
        "the {A} and the {B} {x} > the {B} {x}",
        "the {A} {v} the {B} and the {C} > the {A} {v} the {B}",
    ),
    "se_adjective": ("{adj} {PL} {x} > {PL} {x}",),
    "se_understood_object": ("the {A} {won} the {prize} > the {A} {won}",),
    "se_relative_clause_on_obj": ("the {A} {v} the {B} {rc} > the {A} {v} the {B}",),
    "se_PP_on_obj": ("the {A} {v} the {B} {p} the {C} > the {A} {v} the {B}",),
}
CONSTITUENT_NOT_ENTAILED: dict[str, tuple[str, ...]] = {
    "cn_embedded_under_if": ("{if} {S} , {T} > {S}",),
    "cn_after_if_clause": ("{unless} {S} , {T} > {T}",),
    "cn_embedded_under_verb": ("the {A} {claim} that {S} > {S}",),
    "cn_disjunction": ("{S} , or {T} > {S}", "{S} , or {T} > {T}"),
    "cn_adverb": ("{unsure} {S} > {S}",),
}
CONSTITUENT_ENTAILED: dict[str, tuple[str, ...]] = {
    "ce_embedded_under_since": ("{since} {S} , {T} > {S}",),
    "ce_after_since_clause": ("{anyway} {S} , {T} > {T}",),
    "ce_embedded_under_verb": ("the {A} {fact} that {S} > {S}",),
    "ce_conjunction": ("{S} , and {T} > {S}", "{S} , and {T} > {T}"),
    "ce_adverb": ("{sure} {S} > {S}",),
}

SUBCASES: dict[str, Subcase] = {
    **_family("lexical_overlap", False, LEXICAL_NOT_ENTAILED),
    **_family("lexical_overlap", True, LEXICAL_ENTAILED),
    **_family("subsequence", False, SUBSEQUENCE_NOT_ENTAILED),
    **_family("subsequence", True, SUBSEQUENCE_ENTAILED),
    **_family("constituent", False, CONSTITUENT_NOT_ENTAILED),
    **_family("constituent", True, CONSTITUENT_ENTAILED),
}
