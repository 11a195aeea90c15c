"""The settings themselves: each says what it is, and values that cannot go together are refused however they are given."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError
from skillneurons.contradictions import contradictions
from skillneurons.settings import DEFAULTS, Config, Section, all_settings


def without_a_line(model: type[BaseModel]) -> list[str]:
    """Return the settings without a description, or with one that is no single short sentence."""
    return [
        key
        for key, field in all_settings(model)
        if not (text := field.description or "").endswith(".") or "\n" in text or not 10 < len(text) < 130
    ]


def test_every_setting_has_a_description() -> None:
    names = [key for key, _ in all_settings()]
    assert {"tasks", "prompt", "prompt.lr", "causal.across_k", "cache.host_gb"} < set(names) and len(names) > 60
    assert without_a_line(Config) == []


def test_the_check_catches_a_setting_without_one() -> None:
    class Inner(Section):
        bare: int = 3

    class Outer(Section):
        inner: Inner = Field(default=Inner(), description="A section of one.")
        long: int = Field(default=3, description="Two\nlines.")

    assert without_a_line(Outer) == ["inner.bare", "long"]


def test_a_whole_number_is_the_same_number() -> None:
    whole = Config.model_validate(
        {"tasks": ["hans"], "prompt": {"lr": 1, "betas": [0, 0]}, "causal": {"steering": [-4]}}
    )
    assert whole == Config.model_validate(
        {"tasks": {"hans": {}}, "prompt": {"lr": 1.0, "betas": [0.0, 0.0]}, "causal": {"steering": [-4.0]}}
    )
    assert all(type(value) is float for value in (whole.prompt.lr, *whole.prompt.betas, *whole.causal.steering))


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, []),
        ({"prompt": {"placement": "prepend"}}, ["prompt.placement"]),
        ({"prompt": {"placement": "prepend"}, "attribution": {"position": "input_last"}}, []),
        ({"prompt": {"placement": "prepend"}, "attribution": {"position": 3}}, []),
        ({"prompt": {"prompt_tuning_init": "TEXT"}}, ["prompt.prompt_tuning_init"]),
        ({"prompt": {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Yes?"}}, []),
        (
            {"prompt": {"prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": "Yes?"}},
            ["prompt.prompt_tuning_init_text"],
        ),
        ({"device": "cuda", "model": {"device_map": "auto"}}, ["model.device_map"]),
        ({"device": "auto", "model": {"device_map": "auto"}}, []),
        ({"device": "cpu", "model": {"device_map": {"model": 0}}}, ["model.device_map"]),
        ({"model": {"device_map": "auto", "max_memory": {"0": "20GiB"}}}, []),
        ({"model": {"device_map": {"model": 0}, "max_memory": {"0": "20GiB"}}}, ["model.max_memory"]),
        ({"model": {"max_memory": {"0": "20GiB"}}}, ["model.max_memory"]),
        ({"model": {"tp_plan": "auto"}}, []),
        ({"device": "cuda", "model": {"tp_plan": "auto"}}, ["model.tp_plan"]),
        ({"model": {"tp_plan": "auto", "device_map": "auto", "quantization": "4bit"}}, ["model.tp_plan"] * 2),
        ({"prompt": 3, "model": [], "device": None}, []),
    ],
)
def test_what_cannot_go_together(values: dict[str, object], keys: list[str]) -> None:
    assert [key for key, _ in contradictions(values, DEFAULTS)] == keys


def test_where_weights_lie_is_written_by_module_and_by_number() -> None:
    model = {"device_map": {"model.layers.0": 0, "lm_head": "cpu"}}
    assert Config.model_validate({"tasks": ["hans"], "model": model}).model.device_map == model["device_map"]
    spread = {"device_map": "auto", "max_memory": {0: "20GiB", "cpu": "60GiB"}}
    found = Config.model_validate({"tasks": ["hans"], "model": spread}).model
    assert found.max_memory == {"0": "20GiB", "cpu": "60GiB"}
    for wrong in ({"device_map": {}}, {"device_map": {"model": -1}}, {"max_memory": {0: 20}}, {"tp_plan": "colwise"}):
        with pytest.raises(ValidationError):
            Config.model_validate({"tasks": ["hans"], "model": wrong})


def test_where_weights_lie_is_part_of_no_key() -> None:
    from skillneurons.plan import settings_of

    plain = settings_of(Config.model_validate({"tasks": ["hans"]}))
    for model in ({"device_map": {"model": 0}}, {"device_map": "auto", "max_memory": {0: "9GiB"}}, {"tp_plan": "auto"}):
        assert settings_of(Config.model_validate({"tasks": ["hans"], "model": model})) == plain


def test_a_config_made_by_hand_is_checked_too() -> None:
    with pytest.raises(
        ValidationError, match="prompt.placement: 'prepend' does not go with attribution.position 'last'"
    ):
        Config.model_validate({"tasks": ["hans"], "prompt": {"placement": "prepend"}})
