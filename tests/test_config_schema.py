"""The JSON Schema of configs: valid itself, takes every good config, refuses every bad one whose fault is one of form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from skillneurons.cli import main
from skillneurons.config import BUILT_IN, built_in_config, load_config
from skillneurons.config_schema import config_schema
from skillneurons.config_source import read_yaml
from skillneurons.errors import ConfigError
from skillneurons.registry import load_registry

HERE = Path(__file__).parent
SCHEMA = config_schema(load_registry())
CHECK = jsonschema.Draft202012Validator(SCHEMA)

GOOD = (
    "tasks: [hans]",
    "\ufefftasks: [hans]",
    "tasks: {hans: , skillmix: {k: [1, 2], grader: judge, grader_options: {model: pocket}}}",
    "tasks: {arithmetic/2_digit_addition: {path: data.json}}",
    "tasks: [hans]\nlimit: null\ndevice: cuda:1\nmodel: {chat_template: on, quantization: 4bit, revision: main}",
    "tasks: [hans]\nattribution: {batch_size: 8, thresholds: [], nuisance: [], position: input_last}\nprompt: {placement: prepend}",
    "tasks: [hans]\nattribution: {batch_size: auto}\ncausal: {columns: [labels.gold_label], steering: [-1, 2.5]}",
    "tasks: [hans]\ncausal: {columns: all, k: [10], cards: 0}\nprompt: {lr: 1, steps: 0, betas: [0, 0.5]}",
    "tasks: [hans]\nprompt: {prompt_tuning_init: TEXT, prompt_tuning_init_text: Answer yes or no.}",
    "tasks: [hans]\nprompt:\n  <<: {steps: 3, lr: 1e-3}\n  lr: 0.5",
)

BEYOND_A_SCHEMA = {  # faults of names, files, of two values together, and of what JSON has no word for
    "doubled-at-top",
    "doubled-task",
    "model-device-map",
    "model-max-memory-alone",
    "model-tp-plan-and-device",
    "model-tp-plan-and-device-map",
    "models-no-model",
    "models-no-folder",
    "task-family",
    "task-part-no-name",
    "task-unknown",
    "task-unknown-part",
    "task-unknown-far",
    "grader-unknown",
    "grader-option-unknown",
    "metric-unknown",
    "plugins-gone",
    "prompt-in-front",
    "prompt-in-front-at-max",
    "prompt-text-missing",
    "prompt-text-blank",
    "prompt-text-unused",
    "prompt-not-finite",
    "attribution-statistic",
    "attribution-nuisance",
    "causal-columns-names",
    "causal-neutral-text",
}


def parsed() -> dict[str, Any]:
    """Return the value of every config of the corpus that is YAML with names for keys."""
    found = {}
    for path in sorted((HERE / "bad_configs").glob("*.yaml")):
        try:
            found[path.stem.partition("-")[2]] = read_yaml(path)[0]
        except ConfigError:
            continue  # not YAML, or no mapping: nothing that a schema sees
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema" and "$id" not in SCHEMA


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_configs_are_valid(name: str) -> None:
    assert list(CHECK.iter_errors(read_yaml(built_in_config(name))[0])) == []


@pytest.mark.parametrize("text", GOOD)
def test_a_good_config_is_valid_for_both(text: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(text, encoding="utf-8")
    load_config(str(path), registry=load_registry())
    assert [error.message for error in CHECK.iter_errors(read_yaml(path)[0])] == []


@pytest.mark.parametrize(("name", "value"), parsed().items(), ids=lambda part: part if isinstance(part, str) else "")
def test_a_bad_form_is_refused_and_nothing_else(name: str, value: dict[str, Any]) -> None:
    named = all(
        isinstance(key, str) for section in [value, *value.values()] if isinstance(section, dict) for key in section
    )
    refused = not named or not CHECK.is_valid(value)  # JSON has no other keys
    assert refused == (name not in BEYOND_A_SCHEMA)


def test_what_a_schema_cannot_see_is_in_the_corpus() -> None:
    assert set(parsed()) >= BEYOND_A_SCHEMA


def test_every_setting_has_its_line_and_default() -> None:
    def settings(schema: dict[str, Any], path: str) -> list[str]:
        bare = []
        for name, one in schema["properties"].items():
            if not one.get("description") or ("default" not in one and name != "tasks"):
                bare.append(f"{path}{name}")
            if "$ref" in one:
                bare += settings(SCHEMA["$defs"][one["$ref"].rpartition("/")[2]], f"{path}{name}.")
        return bare

    assert settings(SCHEMA, "") == []
    assert SCHEMA["$defs"]["PromptSettings"]["properties"]["steps"] == {
        "default": 500,
        "description": "Steps of tuning at most; 0 keeps the prompt as it begins.",
        "maximum": 2**53,
        "minimum": 0,
        "type": "integer",
    }


def test_the_command_prints_it_with_the_tasks_of_a_plugin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["validate", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import skillneurons as sn\n\n\n@sn.hookimpl\ndef register_tasks(register):\n"
        "    register(sn.Task('mine', '1', lambda split, *, limit=None, seed=0, size=3: [], options={'size': 3}))\n"
    )
    assert main(["validate", "--schema", "-p", str(plugin)]) == 0
    check = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    assert check.is_valid({"tasks": {"mine": {"size": 4}}}) and not check.is_valid({"tasks": {"mine": {"siez": 4}}})


@pytest.mark.parametrize("config", [{"device": "cuda:1"}, {"models": ["pocket"]}, {"model": {"revision": "main"}}])
def test_a_newline_at_the_end_is_no_part_of_a_name(config: dict[str, Any]) -> None:
    def ended(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: ended(one) for key, one in value.items()}
        return [ended(one) for one in value] if isinstance(value, list) else f"{value}\n"

    assert list(CHECK.iter_errors({"tasks": ["hans"]} | config)) == []
    assert len(list(CHECK.iter_errors({"tasks": ["hans"]} | ended(config)))) == 1


def test_a_task_that_stands_for_others_is_not_offered() -> None:
    offered = SCHEMA["properties"]["tasks"]["anyOf"][0]["items"]["anyOf"][0]["enum"]
    assert "hans" in offered and "lm-eval" not in offered
