"""What models have in common, what they have not, and what each is called."""

from __future__ import annotations

import pytest
from model_pairs import cell
from skillneurons.errors import UserError
from skillneurons.leaderboard.models import Identity, find_model, identity, labels_of, model_labels
from skillneurons.leaderboard.shared import shared


def test_a_model_is_called_as_shortly_as_it_can_be() -> None:
    cells = [
        cell("a"),
        cell("b", model={"name": "b", "revision": "r1", "dtype": "float32"}),
        cell("b", model={"name": "b", "revision": "r2x", "dtype": "float32"}),
        cell("b", model={"name": "b", "revision": "r2x", "dtype": "bfloat16"}),
    ]
    labels = model_labels(cells)
    assert list(labels.values()) == ["a", "b@r1", "b@r2x:bfloat16", "b@r2x:float32"]
    assert find_model("a", labels)[0] == "a" and find_model("b@r1", labels)[1] == "r1"
    assert find_model("b@r2x:bfloat16", labels)[2] == "bfloat16"
    with pytest.raises(UserError, match="^'b' is 3 models here; name one of: b@r1, b@r2x:bfloat16, b@r2x:float32$"):
        find_model("b", labels)
    with pytest.raises(UserError, match="^no model named 'c'; known: a, b@r1, b@r2x:bfloat16, b@r2x:float32$"):
        find_model("c", labels)


def of(name: str, revision: str = "r1", dtype: str = "float32") -> Identity:
    return identity(cell(name, model={"name": name, "revision": revision, "dtype": dtype}))


def test_no_two_models_are_called_alike() -> None:
    models = [of("m"), of("m", "r2"), of("m@r1", "r9")]
    labels = labels_of(models)
    assert list(labels.values()) == ["m@r1:float32:default", "m@r2", "m@r1@r9:float32:default"]
    with pytest.raises(
        UserError, match="^'m@r1' is 2 models here; name one of: m@r1:float32:default, m@r1@r9:float32:"
    ):
        find_model("m@r1", labels)
    assert find_model("m@r1@r9:float32:default", labels) == models[2]


def test_models_that_even_all_parts_do_not_tell_apart_are_numbered() -> None:
    labels = labels_of([of("m", "r1@x"), of("m", "r2"), of("m@r1", "x"), of("m@r1", "y")])
    assert list(labels.values()) == ["m@r1@x:float32:default", "m@r2", "m@r1@x:float32:default (2)", "m@r1@y"]


def test_what_reaches_one_model_alone_is_named() -> None:
    second = {**cell().task, "version": "2"}
    hans = {**cell().task, "name": "hans"}
    cells = [cell("a"), cell("b"), cell("a", key="x", task=second), cell("a", key="y", task=hans)]
    found, refused = shared(cells)
    assert [one.task for one in found] == ["sums"]
    assert refused == [
        "hans sure: finished by a alone",
        "sums sure: finished by a alone with task.version=2",
    ]


def test_other_settings_are_never_set_beside_each_other() -> None:
    other = {**cell().config, "prompt": {"steps": 9}}
    found, refused = shared([cell("a"), cell("b", config=other)])
    assert found == []
    assert refused == ["sums sure: run under different settings: a with prompt.steps=3; b with prompt.steps=9"]
    task = {"name": "sums", "version": "1", "source_hash": "s", "data_hash": "0123456789"}
    _, refused = shared([cell("a"), cell("b", task=task)])
    assert refused == [
        "sums sure: run under different settings: a with task.data_hash=d; b with task.data_hash=01234567"
    ]


def test_the_same_seed_twice_is_named() -> None:
    found, refused = shared([cell("a"), cell("a", key="again"), cell("b")])
    assert found == []
    assert refused == ["sums sure: seed 0 of a is there 2 times (again, sums-sure-s0-a); delete all but one"]
