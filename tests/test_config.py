from __future__ import annotations

from pathlib import Path
from typing import Any

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
    assert load_config(None) == demo


def test_the_paper_config_has_the_settings_of_the_method() -> None:
    paper = load_config("paper", registry=load_registry())
    assert paper.models == ["Qwen/Qwen1.5-1.8B"] and paper.seeds == [0, 1, 2] and paper.limit is None
    assert paper.prompt.model_dump() == {
        "num_virtual_tokens": 20,
        "prompt_tuning_init": "SAMPLE_VOCAB",
        "prompt_tuning_init_text": None,
        "placement": "append",
        "steps": 1000,
        "lr": 1e-3,
        "betas": [0.9, 0.999],
        "weight_decay": 0.01,
        "batch_size": 32,
        "eval_every": 50,
        "patience": 5,
    }
    assert paper.data.model_dump() == {"seed": 0, "train": 1000, "validation": 200, "discovery": 2000, "heldout": 1000}
    attribution = paper.attribution
    assert (attribution.position, attribution.site, attribution.statistic) == ("last", "product", "pearson")
    assert (attribution.top_k, attribution.thresholds, attribution.permutations) == (10, [0.43, 0.83], 200)
    assert attribution.nuisance == ["heuristics.prompt_length", "labels.gold_label"]
    assert paper.causal.enabled and paper.causal.random_sets == 99 and paper.causal.mode == "mean"
    assert paper.causal.k == paper.causal.across_k == [1, 2, 5, 10, 20, 50, 100]
    assert paper.causal.neutral_text == "english" and paper.model.chat_template == "auto"
    hubs = {name: options.get("hub") for name, options in paper.tasks.items()}
    assert hubs == {
        "arithmetic": "tasksource/bigbench",
        "arithmetic-open": "tasksource/bigbench",
        "hans": "jhu-cogsci/hans",
        "skillmix": None,
    }
    assert paper.tasks["hans"]["train"] == "mnli" and paper.tasks["skillmix"]["grader"] == "judge"


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
    assert faults(path) == [f"{path}:1: a config is a mapping of settings (tasks: [hans]), got ['hans']"]


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
        ("limit.x=1", "--set limit.x=1: limit: input should be a valid integer, got {x: 1}"),
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
    assert found.endswith("'TEXT' needs a text to begin with in prompt_tuning_init_text")


def test_an_entry_twice() -> None:
    (found,) = faults(None, seeds=[1, 1])
    assert found == "command line: seeds.1: 1 stands twice; each must be given once"


def test_settings_of_later_capabilities_are_accepted() -> None:
    config = load_config(None, ["causal.enabled=true", "causal.random_sets=99"])
    assert config.causal.enabled and config.causal.random_sets == 99  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks: hans", ":1: tasks: input should be a list of names, or a mapping from names to options, got 'hans'"),
        ("tasks: [1]", ":1: tasks: input should be a list of names, or a mapping from names to options, got [1]"),
        ("tasks: {1: null}", ":1: tasks.1: a name is text, got 1; quote it"),
        ("tasks: {hans: [1]}", ":1: tasks.hans: input should be a mapping, got [1]"),
        ("tasks: [hans, hans]", ":1: tasks.1: 'hans' stands twice; each must be given once"),
        ("tasks: [hans]\nmetrics: 3", ":2: metrics: input should be a valid list, got 3; write [3]"),
        ("tasks: [hans]\nmetrics: [[labels]]", ":2: metrics.0: input should be a valid string, got ['labels']"),
        ("tasks: [hans]\nseeds: []", ":2: seeds: input should have at least 1 of them, got []"),
        (
            f"tasks: [hans]\nseeds: [{2**60}]",
            f":2: seeds.0: input should be less than or equal to {2**53}, got {2**60}",
        ),
        ("tasks: [hans]\nseeds: [0, true]", ":2: seeds.1: input should be a valid integer, got true"),
        ("tasks: [hans]\nprompt: 3", ":2: prompt: input should be a mapping, got 3"),
        ("tasks: [hans]\nprompt: {lr: .inf}", ":2: prompt.lr: input should be a finite number, got .inf"),
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
    path = write(tmp_path, f"tasks: [hans]\nplugins: [{tmp_path / 'my.yaml'}, gone.py]\n")
    assert plugins_of(path) == [path]  # load_config tells that the other one is not there
    assert plugins_of(path, ["plugins=[gone.py, c]"]) == ["c"]
    assert plugins_of(path, ["plugins=["]) == [] and plugins_of("demo") == []


@pytest.mark.parametrize(("source", "meant"), [("demmo", "did you mean 'demo'? "), ("x" * 5000, "")])
def test_a_config_that_is_not_there(source: str, meant: str) -> None:
    shown = repr(source) if len(source) < 100 else "'" + "x" * 999 + "... (5,002 characters)"
    assert faults(source) == [f"no config file {shown}; {meant}give a YAML file, or a built-in one: demo, paper"]


def test_a_config_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path, "tasks: [hans]\n")
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(sn.ConfigError) as error:
        load_config(path)
    assert str(error.value) == f"{path}: the config cannot be read: Permission denied"


def test_a_file_name_that_no_file_can_have() -> None:
    long = "x" * 300
    assert faults(None, [f"models=[./{long}]", f"plugins=[{long}.py]", f"causal.neutral_text={long}"]) == [
        f"--set plugins=[{long}.py]: plugins.0: '{long}.py' cannot be the name of a file (File name too long)",
        f"--set models=[./{long}]: models.0: './{long}' cannot be the name of a file (File name too long)",
        f"--set causal.neutral_text={long}: causal.neutral_text: '{long}' cannot be the name of a file "
        "(File name too long)",
    ]


def test_a_file_name_with_spaces_and_many_faults_come_in_the_order_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "my own.yaml"
    path.write_text("limit: 0\ntasks: [hanz]\nmetrics: [labelz]\nseeds: [a]\nprompt: {lr: x}\n")
    assert [line.removeprefix(f"{path}:")[0] for line in faults(str(path))] == ["1", "2", "3", "4", "5"]


def test_a_choice_of_tasks_hides_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for options in ("0", "false", "''", "[]"):
        path.write_text(f"tasks: {{hans: {options}}}\n")
        with pytest.raises(sn.ConfigError) as error:
            load_config(str(path), tasks=["hans"])
        assert str(error.value) == f"{path}:1: tasks.hans: input should be a mapping, got {options}"
    path.write_text("tasks: {hans: }\n")
    assert load_config(str(path), tasks=["hans"]).tasks == {"hans": {}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("0", 0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("1.5e3", 1500.0),
        ("0.25", 0.25),
        ("00.5", 0.5),
        ("-.inf", float("-inf")),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("'010'", "010"),
        ("on", True),
        ("~", None),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    from skillneurons.config_source import read_value

    assert (read_value(text), type(read_value(text))) == (value, type(value))


def test_a_model_s_folder_is_looked_into(tmp_path: Path) -> None:
    import shutil

    from skillneurons.model_source import pocket_folder

    registry = load_registry()
    folder = tmp_path / "model"
    shutil.copytree(pocket_folder("pocket-small"), folder)
    assert load_config(models=[str(folder)], registry=registry).models == [str(folder)]
    (folder / "model.safetensors").unlink()
    with pytest.raises(sn.ConfigError) as error:
        load_config(models=[str(folder)], registry=registry)
    assert str(error.value) == (
        f"command line: models.0: model {str(folder)!r}: the folder has no *.safetensors weights; save_pretrained writes them"
    )
