from __future__ import annotations

from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.tasks import skillmix_grammar as grammar
from skillneurons.tasks.skillmix_catalogue import Skill, catalogue

HEADER = "category,skill,definition,example,comments,status,added by\n"


def test_the_built_in_files_are_the_public_tenth_in_the_order_of_the_grammar() -> None:
    known = catalogue()
    assert tuple(skill.name for skill in known.skills) == grammar.SKILLS and known.topics == tuple(grammar.TOPICS)
    assert known.embedded and all(skill.definition and skill.example and skill.category for skill in known.skills)
    assert [skill.column for skill in known.skills][:2] == ["self_serving_bias", "accident"]


def test_a_file_in_the_authors_columns(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text(
        HEADER
        + 'rhetorical,accident (fallacy), a rule misapplied ,"""Cut, cut."" said he",checked,,\n'
        + "x,gone,d,e,,remove,\nx,doubtful,d,e,,maybe,\nx,kept,d,e,,keep,\n"
    )
    known = catalogue(str(file))
    assert known.skills == (
        Skill("accident (fallacy)", "a rule misapplied", '"Cut, cut." said he', "rhetorical"),
        Skill("kept", "d", "e", "x"),
    )
    assert known.skills[0].column == "accident" and not known.embedded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skill,example\na,b\n", ":1: no column 'definition'; a skills CSV has at least: skill, definition, example"),
        (HEADER + "x,pun,,A sole.,,,\n", ":2: skill 'pun' has no definition; fill it in"),
        (
            HEADER + "x,pun,d,e,,,\nx,pun (word),d,e,,,\n",
            ":3: skill 'pun (word)' stands twice; names must differ in their letters",
        ),
        (HEADER + "x,Topic,d,e,,,\n", ":2: skill 'Topic' has the name of another point; give it another name"),
        (HEADER + "x,!,d,e,,,\n", ":2: skill '!' has no letter or digit; give it a name"),
        (HEADER + 'x,"pun"n,d,e,,,\n', ":2: not a CSV (',' expected after '\"'); quote fields that hold commas"),
        (HEADER, ": no skills; a skills CSV has one skill on each line after its header"),
        ("", ":1: no column 'skill'; a skills CSV has at least: skill, definition, example"),
    ],
)
def test_a_bad_skills_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.csv"
    file.write_text(text)
    with pytest.raises(sn.DataError) as error:
        catalogue(str(file))
    assert str(error.value) == f"{file}{message}"


def test_bad_topics_and_absent_files(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    for text, message in (
        ("\n \n", "no topics; a topics file has one topic on each line"),
        ("Tea\nIce\nTea\n", "topic 'Tea' stands twice; each must be given once"),
    ):
        file.write_text(text)
        catalogue.cache_clear()
        with pytest.raises(sn.DataError) as error:
            catalogue(None, str(file))
        assert str(error.value) == f"{file}: {message}"
    with pytest.raises(sn.DataError, match=r"skillmix.skills: cannot read '.*none.csv' \(No such file or directory\)"):
        catalogue(str(tmp_path / "none.csv"))
    file.write_bytes(b"\xff\xfe")
    catalogue.cache_clear()
    with pytest.raises(sn.DataError, match="t.txt: not UTF-8 text"):
        catalogue(None, str(file))
