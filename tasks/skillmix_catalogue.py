"""The skills and topics of Skill-Mix: the public tenth, or a user's own files in the authors' form.

Skills: a CSV with the columns ``category, skill, definition, example`` (more columns are welcome; rows whose
``status`` is "remove", "in review" or "maybe" are left out, as the authors do). Topics: a text file with one
topic on each line. The built-in files hold the names of the public tenth (Yu et al. 2023, arXiv 2310.17567)
with definitions and examples in our own words.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import skillneurons as sn

BUILT_IN = Path(__file__).parent
COLUMNS = ("skill", "definition", "example")
RESERVED = ("topic", "sense")  # items of the rubric
LEFT_OUT = ("remove", "in review", "maybe")


@dataclass(frozen=True, slots=True)
class Skill:
    """A language skill: its name, what it is, and a text that shows it."""

    name: str
    definition: str
    example: str
    category: str = ""

    @property
    def short(self) -> str:
        """Return the name without what stands in brackets: ``accident`` of ``accident (fallacy)``."""
        return self.name.split("(")[0].strip()

    @property
    def column(self) -> str:
        """Return the name as a column: small letters, digits and underscores."""
        return re.sub(r"[^a-z0-9]+", "_", self.short.lower()).strip("_")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Skills and topics in their order; ``embedded`` where the built-in grammar can write about all of them."""

    skills: tuple[Skill, ...]
    topics: tuple[str, ...]
    embedded: bool

    def skill(self, name: str) -> Skill:
        """Return the skill of a full name."""
        return next(skill for skill in self.skills if skill.name == name)


@lru_cache(maxsize=8)
def catalogue(skills: str | None = None, topics: str | None = None) -> Catalogue:
    """Read skills and topics (paths; None: the built-in ones); DataError with file and line where one is wrong."""
    return Catalogue(
        _read_skills(Path(skills) if skills else BUILT_IN / "skills.csv"),
        _read_topics(Path(topics) if topics else BUILT_IN / "topics.txt"),
        embedded=skills is None and topics is None,
    )


def _read_skills(file: Path) -> tuple[Skill, ...]:
    reader = csv.DictReader(io.StringIO(_text("skills", file), newline=""), strict=True)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise sn.DataError(f"{file}:1: no column {missing[0]!r}; a skills CSV has at least: {', '.join(COLUMNS)}")
    skills: list[Skill] = []
    try:
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if (row.get("status") or "").strip() in LEFT_OUT:
                continue
            values = {column: (row[column] or "").strip() for column in COLUMNS}
            empty = [column for column, value in values.items() if not value]
            if empty:
                raise sn.DataError(f"{where}: skill {values['skill']!r} has no {empty[0]}; fill it in")
            skills.append(
                Skill(values["skill"], values["definition"], values["example"], (row.get("category") or "").strip())
            )
            if not skills[-1].column:
                raise sn.DataError(f"{where}: skill {values['skill']!r} has no letter or digit; give it a name")
            if skills[-1].column in RESERVED:
                raise sn.DataError(
                    f"{where}: skill {values['skill']!r} has the name of another point; give it another name"
                )
            if skills[-1].column in {skill.column for skill in skills[:-1]}:
                raise sn.DataError(
                    f"{where}: skill {values['skill']!r} stands twice; names must differ in their letters"
                )
    except csv.Error as error:
        raise sn.DataError(
            f"{file}:{reader.reader.line_num}: not a CSV ({error}); quote fields that hold commas"
        ) from error
    if not skills:
        raise sn.DataError(f"{file}: no skills; a skills CSV has one skill on each line after its header")
    return tuple(skills)


def _read_topics(file: Path) -> tuple[str, ...]:
    topics: Sequence[str] = [line.strip() for line in _text("topics", file).splitlines() if line.strip()]
    if not topics:
        raise sn.DataError(f"{file}: no topics; a topics file has one topic on each line")
    twice = [topic for i, topic in enumerate(topics) if topic in topics[:i]]
    if twice:
        raise sn.DataError(f"{file}: topic {twice[0]!r} stands twice; each must be given once")
    return tuple(topics)


def _text(option: str, file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise sn.DataError(f"{file}: not UTF-8 text ({error.reason}, byte {error.start})") from error
    except OSError as error:
        raise sn.DataError(
            f"skillmix.{option}: cannot read {str(file)!r} ({error.strerror}); give a file in the authors' form"
        ) from error
