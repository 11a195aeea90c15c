"""The plain words that the generated NLI and HANS sentences are made of.

Nouns are professions with a regular plural, verbs are in the past tense, and every word that the HANS
evaluation set uses is here, so a tokenizer trained on such text knows it. ``OUTSIDE_HANS`` are nouns that
HANS does not use: every generated NLI premise has one, so no NLI pair is a HANS pair. The order of a list is part of
the data: a seeded draw picks by position, so new words go to the end of a new version, not in between.
"""

from __future__ import annotations

NOUNS = (
    *("president", "artist", "athlete", "scientist", "student", "senator", "doctor", "professor"),
    *("tourist", "manager", "author", "banker", "judge", "lawyer", "actor", "secretary"),
)
OUTSIDE_HANS = (  # no HANS sentence has one of these, so a premise that has one is in no HANS pair
    *("baker", "farmer", "nurse", "teacher", "pilot", "singer"),
    *("dancer", "painter", "soldier", "miner", "driver", "waiter"),
)
TRANSITIVE = (
    *("admired", "supported", "advised", "encouraged", "saw", "thanked", "helped", "contacted"),
    *("called", "mentioned", "stopped", "believed", "recommended", "introduced", "recognized", "avoided"),
)
INTRANSITIVE = ("danced", "slept", "waited", "shouted", "ran", "resigned", "performed", "arrived")
PARTICIPLES = {"saw": "seen"}  # the only transitive verb whose participle differs from its past tense
PREPOSITIONS = ("next to", "by", "behind", "in front of", "near")
RELATIVES = ("who", "that")
ADJECTIVES = ("popular", "famous", "angry", "serious", "important", "young", "happy", "helpful")
PLACES = ("library", "museum", "office", "laboratory", "school", "garden")

OBJECTS = {  # verbs that may drop their object, with objects that fit
    "won": ("contest", "election", "award", "prize", "battle"),
    "wrote": ("report", "story", "poem", "novel", "book", "letter", "column", "play", "speech"),
    "read": ("report", "story", "poem", "novel", "book", "letter", "column", "play"),
    "explored": ("town", "valley", "region", "country", "neighborhood", "garden", "island", "desert", "forest"),
    "ate": ("sandwich", "ice cream", "fruit", "corn", "salad"),
    "left": ("town", "valley", "region", "country", "garden", "island", "tournament"),
}
OPTIONAL_OBJECT = ("studied", "investigated", "presented", "paid", "fought", "moved", "hid", "left")
NP_OR_CLAUSE = ("believed", "heard", "knew")  # "heard the actor" and "heard the actor danced"
MAY_LACK_OBJECT = ("hid", "moved", "paid", "presented", "stopped", "studied")  # "after the actor paid the judge ran"
REDUCED = ("studied", "investigated", "presented", "paid", "helped")  # "the actor paid in the office" has two readings

FACTIVE = ("knew", "learned", "forgot", "remembered")
NON_FACTIVE = ("said", "hoped", "claimed", "assumed", "thought", "believed", "heard")
CLAIMS = ("claimed", "believed", "hoped", "assumed", "said", "thought")
SURE = ("clearly", "obviously", "certainly", "definitely", "of course", "suddenly", "without a doubt")
UNSURE = ("probably", "maybe", "supposedly", "hopefully")
SINCE = ("since", "because", "although", "after", "before", "though", "when", "while")
IF = ("if", "unless", "in case", "whether or not")

SYNONYMS = {
    "thanked": "expressed gratitude to",
    "helped": "gave help to",
    "avoided": "kept away from",
    "saw": "looked at",
    "contacted": "got in touch with",
    "danced": "moved to music",
    "slept": "was asleep",
    "shouted": "was loud",
    "ran": "was running",
    "resigned": "quit",
}


def plural(noun: str) -> str:
    """Return the plural of a noun of this lexicon."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def is_plural(noun: str) -> bool:
    """Tell whether a noun of this lexicon stands in its plural."""
    return noun.endswith("s")


def was(noun: str) -> str:
    """Return the form of "to be" that a noun takes in the past tense."""
    return "were" if is_plural(noun) else "was"


def participle(verb: str) -> str:
    """Return the past participle of a transitive verb."""
    return PARTICIPLES.get(verb, verb)


def sentence(words: str) -> str:
    """Return a clause as a sentence in the text form of HANS: a capital, and " ." at its end."""
    return f"{words[0].upper()}{words[1:]} ."
