from __future__ import annotations

from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.config import load_config, plugins_of
from skillneurons.registry import load_registry


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return str(path)


def faults(source: str | None, overrides: list[str] | None = None, **lists: object) -> list[str]:
    with pytest.raises(sn.ConfigError) as error:
        load_config(source, overrides or [], registry=load_registry(), **lists)  # type: ignore[arg-type]
    return str(error.value).splitlines()


TASKS = ["arithmetic", "arithmetic-open", "hans", "skillmix", "skillmix-text"]


def test_the_built_in_configs_are_valid() -> None:
    demo = load_config("demo", registry=load_registry())
    assert demo.models == ["pocket"] and list(demo.tasks) == TASKS
    paper = load_config("paper", registry=load_registry())
    assert paper.prompt.lr == 1e-3 and paper.prompt.betas == [0.9, 0.999] and paper.prompt.weight_decay == 0.01
    assert load_config(None) == demo


def test_every_fault_at_once_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "tasks:\n  hanz:\n  arithmetic:\n    digit: [1]\nprompt:\n  stepz: 3\n  lr: fast\nmetrics: [confidense]\nlimit: 0\n",
    )
    found = faults(path)
    assert found == [
        f"{path}:2: tasks.hanz: no task named 'hanz'; did you mean 'hans'? "
        "known: arithmetic, arithmetic-choice, arithmetic-open, hans, lm-eval, skillmix, skillmix-text",
        f"{path}:4: tasks.arithmetic.digit: unknown option of the task; did you mean 'digits'?",
        f"{path}:6: prompt.stepz: unknown setting; did you mean 'steps'?",
        f"{path}:7: prompt.lr: input should be a valid number, got 'fast'",
        f"{path}:8: metrics.0: no metric named 'confidense'; did you mean 'confidence'? "
        "known: confidence, heuristics, labels",
        f"{path}:9: limit: input should be greater than 0, got 0",
    ]


def test_a_doubled_key_names_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: [hans]\nprompt:\n  lr: 0.1\n  lr: 0.2\n")
    assert faults(path) == [f"{path}:4: prompt.lr: stands twice, first on line 3; keep one"]


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: [hans\nseeds: 3\n")
    assert faults(path)[0].startswith(f"{path}:2: not valid YAML: ")


def test_a_tag_never_builds_an_object(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: !!python/object/apply:os.system ['true']\n")
    assert "not valid YAML: could not determine a constructor" in faults(path)[0]


def test_a_list_is_no_config(tmp_path: Path) -> None:
    path = write(tmp_path, "- hans\n")
    assert faults(path) == [f"{path}:1: a config is a mapping of settings, got list"]


def test_a_missing_file() -> None:
    assert faults("nowhere.yaml") == ["no config file 'nowhere.yaml'; give a YAML file, or a built-in one: demo, paper"]


def test_set_and_lists_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks:\n  skillmix:\n    k: 3\n  hans:\n")
    config = load_config(path, ["prompt.steps=7", "tasks.skillmix.k=[1, 2]"], tasks=["skillmix"], seeds=[4, 5], limit=9)
    assert config.tasks == {"skillmix": {"k": [1, 2]}} and config.prompt.steps == 7
    assert config.seeds == [4, 5] and config.limit == 9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompt.stepz=3", "--set prompt.stepz=3: prompt.stepz: unknown setting; did you mean 'steps'?"),
        ("prompt.steps", "--set prompt.steps: write KEY=VALUE, for example prompt.steps=100"),
        ("tasks.hans.path=x", "--set tasks.hans.path=x: task 'hans' is not to run; chosen: skillmix"),
        ("limit.x=1", "--set limit.x=1: limit: input should be a valid integer, got {'x': 1}"),
        ("prompt.steps=many", "--set prompt.steps=many: prompt.steps: input should be a valid integer, "),
    ],
)
def test_a_bad_override_says_what_and_where(override: str, message: str) -> None:
    (found,) = faults("demo", [override], tasks=["skillmix"])
    assert found.startswith(message)


def test_names_on_the_command_line_are_placed_there() -> None:
    (found,) = faults(None, tasks=["hanz"])
    assert found.startswith("command line: tasks.hanz: no task named 'hanz'; did you mean 'hans'?")


def test_text_init_needs_a_text() -> None:
    (found,) = faults(None, ["prompt.prompt_tuning_init=TEXT"])
    assert found.endswith("prompt_tuning_init TEXT needs prompt_tuning_init_text")


def test_an_entry_twice() -> None:
    (found,) = faults(None, seeds=[1, 1])
    assert found == "command line: seeds: an entry stands twice; each must be given once"


def test_settings_of_later_capabilities_are_accepted() -> None:
    config = load_config(None, ["causal.enabled=true", "causal.random_sets=99"])
    assert config.causal.enabled and config.causal.random_sets == 99  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks: hans", ":1: tasks: input should be a list of names, or a mapping from names to options, got 'hans'"),
        ("tasks: [1]", ":1: tasks: input should be a list of names, or a mapping from names to options, got [1]"),
        ("tasks: {1: null}", ":1: tasks.1.[key]: input should be a valid string, got 1"),
        ("tasks: {hans: [1]}", ":1: tasks.hans: input should be a mapping, got [1]"),
        ("tasks: [hans, hans]", ":1: tasks: an entry stands twice; each must be given once"),
        ("tasks: [hans]\nmetrics: 3", ":2: metrics: input should be a valid list, got 3"),
        ("tasks: [hans]\nmetrics: [[labels]]", ":2: metrics.0: input should be a valid string, got ['labels']"),
        ("tasks: [hans]\nseeds: []", ":2: seeds: input should have at least 1 of them, got []"),
        (
            f"tasks: [hans]\nseeds: [{2**60}]",
            f":2: seeds.0: input should be less than or equal to {2**53}, got {2**60}",
        ),
        ("tasks: [hans]\nseeds: [0, true]", ":2: seeds.1: input should be a valid integer, got True"),
        ("tasks: [hans]\nprompt: 3", ":2: prompt: input should be a mapping, got 3"),
        ("tasks: [hans]\nprompt: {lr: .inf}", ":2: prompt.lr: input should be a finite number, got inf"),
        ("tasks: [hans]\ncausal: 3", ":2: causal: input should be a mapping, got 3"),
        ("tasks: [hans]\ndevice: gpu", ":2: device: input should be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("seeds: [0]", ": tasks: missing; name at least one"),
        ("", ": tasks: missing; name at least one"),
        ("a: &a [*a]", ":1: not valid YAML: an alias stands inside its own anchor"),
    ],
)
def test_a_value_of_the_wrong_form_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    assert faults(path) == [f"{path}{expected}"]


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3", "+1e-3"])
def test_a_small_number_may_be_written_with_an_exponent(text: str, tmp_path: Path) -> None:
    assert load_config(write(tmp_path, f"tasks: [hans]\nprompt:\n  lr: {text}\n")).prompt.lr == 0.001
    assert load_config("demo", [f"prompt.lr={text}"]).prompt.lr == 0.001


def test_a_bad_limit_of_the_command_line_is_placed_there() -> None:
    assert faults("demo", limit=0) == ["command line: limit: input should be greater than 0, got 0"]


def test_a_bad_name_of_the_command_line_is_not_placed_in_the_file() -> None:
    (found,) = faults("demo", metrics=["confidense"])
    assert found.startswith("command line: metrics.0: no metric named 'confidense'; did you mean 'confidence'?")


def test_an_option_of_a_task_with_dots_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: [my.task.v2, my]\n")
    config = load_config(path, ["tasks.my.task.v2.size=3", "tasks.my.size=4"])
    assert config.tasks == {"my.task.v2": {"size": 3}, "my": {"size": 4}}


def test_plugins_of_a_file_and_of_an_override(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks: [hans]\nplugins: [a.py]\n")
    assert plugins_of(path) == ["a.py"] and plugins_of(path, ["plugins=[b.py, c]"]) == ["b.py", "c"]
    assert plugins_of(path, ["plugins=["]) == [] and plugins_of("demo") == []
