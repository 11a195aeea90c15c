"""A small grammar that writes, and recognises, short texts that show Skill-Mix skills.

The ten skills and ten topics are the public tenth of Skill-Mix (Yu et al. 2023, arXiv 2310.17567).
Each skill has three forms with slots for a topic's words. A text is a list of sentences; a sentence
is one form, or two joined by ", and " where the second is of a *light* skill that fits beside the
first. Within the limit of max(1, k - 1) sentences not every set of skills fits, so the reference
writer leaves the last skills out where it must: its texts show most of what is asked, not all.

Because each form is a fixed frame around topic words, a rule decides exactly which skills a text
shows; that holds for text of this grammar only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

FORMS: dict[str, tuple[str, ...]] = {
    "self serving bias": (
        "the {agent} calls every success skill and every failure bad luck",
        "when it works the {agent} takes the credit , when it fails the {agent} blames the {thing}",
        "the {agent} says that wins are talent and losses are the weather",
    ),
    "accident": (
        "a {thing} must never be moved , so it may not be moved even in a fire",
        "the rule says to {act} daily , so the {agent} must {act} even when ill",
        "sharing a {thing} is good , so it is good to share it with a thief",
    ),
    "complex question": (
        "when did the {agent} stop ruining the {thing} ?",
        "why does the {agent} still hide the broken {thing} ?",
        "has the {agent} given up cheating with the {thing} ?",
    ),
    "red herring": (
        "anyway the soup at lunch was lovely",
        "speaking of which , my cousin has a new boat",
        "but never mind that , look at the pretty clouds",
    ),
    "metaphor": (
        "the {thing} is a river of patience",
        "the {place} is a sleeping giant",
        "time is the needle that guides the {thing}",
    ),
    "spatial reasoning": (
        "with the {thing} left of the {tool} the {tool} is on the right",
        "the {thing} is under the {tool} so the {tool} is above it",
        "facing north at the {place} the {agent} has the sun of dawn on the right",
    ),
    "modus ponens": (
        "if the {thing} breaks the {agent} stops , and it breaks , so the {agent} stops",
        "whoever has a {tool} can {act} , this {agent} has a {tool} , so this {agent} can {act}",
        "if it rains the {place} closes , it rains , therefore the {place} closes",
    ),
    "statistical syllogism": (
        "nearly every {agent} owns a {tool} , so this one surely owns a {tool}",
        "nine of ten visits to the {place} end well , so this one will likely end well",
        "most who {act} are calm , so the {agent} is probably calm",
    ),
    "emotional self regulation": (
        "the {agent} breathes slowly and lets the anger go",
        "the {agent} counts to ten before speaking",
        "feeling fear the {agent} waits until the hands are steady",
    ),
    "folk physics": (
        "the dropped {thing} falls to the ground",
        "the {tool} rolls down the slope and slows in the mud",
        "the heavy {thing} sinks while the dry leaf floats",
    ),
}
SKILLS = tuple(FORMS)
LIGHT = ("red herring", "metaphor", "spatial reasoning", "emotional self regulation", "folk physics")
ALONE = ("complex question", "modus ponens", "accident")

TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "Sewing": {
        "agent": ("tailor", "seamstress"),
        "thing": ("thread", "hem"),
        "tool": ("thimble", "bobbin"),
        "place": ("sewing room",),
        "act": ("sew",),
    },
    "Dueling": {
        "agent": ("duelist", "second"),
        "thing": ("sword", "glove"),
        "tool": ("pistol", "rapier"),
        "place": ("dueling field",),
        "act": ("duel",),
    },
    "The Ottoman Empire": {
        "agent": ("sultan", "vizier"),
        "thing": ("carpet", "treaty"),
        "tool": ("seal", "galley"),
        "place": ("palace",),
        "act": ("rule",),
    },
    "Urbanism": {
        "agent": ("planner", "mayor"),
        "thing": ("street", "bridge"),
        "tool": ("tram", "crane"),
        "place": ("city square",),
        "act": ("commute",),
    },
    "Beekeeping": {
        "agent": ("beekeeper", "swarm catcher"),
        "thing": ("hive", "honeycomb"),
        "tool": ("smoker", "veil"),
        "place": ("apiary",),
        "act": ("keep bees",),
    },
    "Survivalism": {
        "agent": ("survivalist", "scout"),
        "thing": ("shelter", "water jar"),
        "tool": ("compass", "flint"),
        "place": ("base camp",),
        "act": ("forage",),
    },
    "Guerilla warfare": {
        "agent": ("rebel", "partisan"),
        "thing": ("ambush", "convoy"),
        "tool": ("radio", "rifle"),
        "place": ("jungle camp",),
        "act": ("raid",),
    },
    "Triathlons": {
        "agent": ("triathlete", "coach"),
        "thing": ("bicycle", "medal"),
        "tool": ("wetsuit", "helmet"),
        "place": ("race course",),
        "act": ("train",),
    },
    "Gardening": {
        "agent": ("gardener", "neighbor"),
        "thing": ("rose", "hedge"),
        "tool": ("spade", "rake"),
        "place": ("greenhouse",),
        "act": ("weed",),
    },
    "Knots": {
        "agent": ("sailor", "climber"),
        "thing": ("rope", "bowline"),
        "tool": ("cleat", "splicing tool"),
        "place": ("harbor",),
        "act": ("tie knots",),
    },
}
SLOT = re.compile(r"\{(\w+)\}")


def sentence_limit(k: int) -> int:
    """Return the number of sentences a text that shows ``k`` skills may have."""
    return max(1, k - 1)


def plan(skills: Sequence[str]) -> list[list[str]]:
    """Lay the asked skills out over the allowed sentences; what does not fit is left out.

    Skills are placed in the order asked: each opens a sentence while there is room; a light skill
    may also join the first sentence that holds one skill which need not stand alone.
    """
    limit = sentence_limit(len(skills))
    light_last = sorted(skills, key=lambda skill: skill in LIGHT)
    sentences: list[list[str]] = []
    for skill in light_last:
        host = next((s for s in sentences if len(s) == 1 and s[0] not in ALONE), None)
        if skill in LIGHT and host is not None and (len(sentences) == limit or len(skills) > limit):
            host.append(skill)
        elif len(sentences) < limit:
            sentences.append([skill])
    return sentences


def write(skills: Sequence[str], topic: str, choose: Sequence[int]) -> str:
    """Write the reference text; ``choose`` gives one number per skill and slot word, used in turn.

    Sentences begin with a capital and end with " ." or " ?", words are separated by single spaces.
    """
    numbers = iter(choose)
    words = {slot: options[next(numbers) % len(options)] for slot, options in TOPICS[topic].items()}
    sentences = []
    for group in plan(skills):
        parts = [FORMS[skill][next(numbers) % len(FORMS[skill])].format(**words) for skill in group]
        text = " , and ".join(parts)
        sentences.append(text[0].upper() + text[1:] + ("" if text.endswith("?") else " ."))
    return " ".join(sentences)


@lru_cache(maxsize=1)
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    slots = {
        slot: "|".join(re.escape(w) for topic in TOPICS.values() for w in topic[slot])
        for slot in next(iter(TOPICS.values()))
    }

    def compiled(form: str) -> re.Pattern[str]:
        pieces = SLOT.split(form)
        body = "".join(f"(?:{slots[piece]})" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
        return re.compile(rf"(?<![\w]){body}(?![\w])", re.IGNORECASE)

    return {skill: tuple(compiled(form) for form in forms) for skill, forms in FORMS.items()}


def shows(text: str, skill: str) -> bool:
    """Tell whether a text shows a skill (exact on text of this grammar)."""
    return any(pattern.search(text) for pattern in _patterns()[skill])


def mentions(text: str, topic: str) -> bool:
    """Tell whether a text uses a word of the topic."""
    words = [topic, *(word for options in TOPICS[topic].values() for word in options)]
    return any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words)


def split_sentences(text: str) -> list[str]:
    """Split a text after each full stop or question mark; a rest without one counts as a sentence."""
    return [s for s in re.split(r"(?<=[.?!])\s+", text.strip()) if s]


def makes_sense(text: str) -> bool:
    """Tell whether every sentence is complete and made of the grammar's forms, joined by ", and"."""
    sentences = split_sentences(text)
    return bool(sentences) and all(_is_sentence(sentence) for sentence in sentences)


def _is_sentence(sentence: str) -> bool:
    if not re.search(r" ?[.?]$", sentence):
        return False
    body = re.sub(r" \.$", "", sentence)
    return any(first.fullmatch(body) or _joined(first, body) for forms in _patterns().values() for first in forms)


def _joined(first: re.Pattern[str], body: str) -> bool:
    match = first.match(body)
    if match is None or not body[match.end() :].startswith(" , and "):
        return False
    rest = body[match.end() + len(" , and ") :]
    return any(form.fullmatch(rest) for skill in LIGHT for form in _patterns()[skill])
