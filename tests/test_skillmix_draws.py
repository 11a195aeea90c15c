from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import skillneurons as sn
from skillneurons.tasks import skillmix_draws
from skillneurons.tasks.skillmix_catalogue import Catalogue, Skill, catalogue
from skillneurons.tasks.skillmix_draws import draws, group_of
from skillneurons.types import SPLITS

MANY = Catalogue(tuple(Skill(f"skill {i}", "d", "e") for i in range(60)), tuple(f"T{i}" for i in range(50)), False)


def drawn(split: str, sizes: list[int], n: int | None, known: Catalogue | None = None, seed: int = 0) -> list:
    return list(islice(draws(split, sizes, known or catalogue(), random.Random(seed)), n))


def test_the_four_splits_hold_every_combination_once_before_any_comes_again() -> None:
    first: Counter[str] = Counter()
    for split in SPLITS:
        found = drawn(split, [2], None)
        groups = [group_of(skills, topic) for skills, topic in found]
        n = len(set(groups))
        assert len(set(groups[:n])) == n and len(found) == 2 * n  # then each once more, in its other order
        assert len(set(found)) == len(found)
        first.update(set(groups))
    assert len(first) == 45 * 10 and set(first.values()) == {1}


def test_a_limit_holds_as_many_of_each_k() -> None:
    sizes = Counter(len(skills) for skills, _ in drawn("discovery", [2, 3, 4], 99))
    assert sizes == {2: 33, 3: 33, 4: 33}
    few = Counter(len(skills) for skills, _ in drawn("heldout", [1, 2], 120))
    ones = sum(
        sn.split_by_group(group_of((s.name,), t), "skillmix") == "heldout"
        for s in catalogue().skills
        for t in catalogue().topics
    )
    assert few[1] == ones and few[2] == 120 - ones  # one skill has one order only: the other k makes up for it


def test_the_order_of_skills_is_drawn_and_seeded() -> None:
    found = drawn("train", [3], 200)
    assert found == drawn("train", [3], 200) != drawn("train", [3], 200, seed=1)
    assert any(list(skills) != sorted(skills) for skills, _ in found)


def test_too_many_to_list_are_drawn_at_random(monkeypatch) -> None:
    monkeypatch.setattr(skillmix_draws.itertools, "combinations", None)  # listing them would take for ever
    found = drawn("heldout", [5], 300, MANY)
    assert len(set(found)) == 300
    assert all(sn.split_by_group(group_of(*one), "skillmix") == "heldout" for one in found)
    assert found == drawn("heldout", [5], 300, MANY)


def test_a_used_up_split_ends(monkeypatch) -> None:
    monkeypatch.setattr(skillmix_draws, "MOST", 0)
    monkeypatch.setattr(skillmix_draws, "PATIENCE", 2000)
    small = Catalogue(catalogue().skills[:3], catalogue().topics[:3], True)
    found = drawn("train", [2], None, small)
    assert found and len(found) == len(set(found)) <= 18
