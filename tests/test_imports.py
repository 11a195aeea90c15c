"""Who imports whom, read from the source; and what a light command must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RANKS = (
    {"errors", "plugin_calls", "plugin_hash", "plugin_record", "plugins_installed"},
    {"types", "hookspecs", "html_table", "arguments", "yaml_text", "interruption", "lock_owner"},
    {"atomic", "contradictions", "ranks"},
    {"planting", "neutral", "moments", "complaint", "run_files", "store_errors"},
    {"store_url", "lock_shelf"},
    {"store"},
    {"mirror"},
    {"finding"},
    {"form"},
    {"causal_form", "setting_types"},
    {"splits", "cell_form", "across_file", "config_source", "statistics", "settings"},
    {"plugin_checks", "plugin_failures", "plugin_loading", "plugin_reason"},
    {"cell_file"},
    {"registry", "results", "model_source", "config_overrides"},
    {"config_faults", "config_environment", "config_schema"},
    {"signed_report"},
    {"locks", "results_frame", "examples", "progress", "task_setup", "metric_row"},
    {"file_faults", "store_locks"},
    {"guarded_files"},
    {"pass_values"},
    {"pass_faults", "kept_faults", "staleness", "board_faults", "leftovers"},
    {"chart"},
    {"cell_examination"},
    {"rest_examination"},
    {"doctor"},
    {"mending", "doctor_text"},
    {"config", "predictions"},
    {"evaluation"},
    {"listing", "plan", "run_context", "model_shape", "token_lengths"},
    {"across_state", "cell_state", "forward_calls"},
    {"causal_calls", "machine_speed", "known_shapes"},
    {"memory_need"},
    {"estimate"},
    {"calibration"},
    {"dry_run"},
    {"feed_forward", "micro_batches", "neuron_split"},
    {"model"},
    {"exchange", "spool", "partial"},
    {"permutation_sums"},
    {"sharded_rows", "null_tally"},
    {"null_sums"},
    {"null", "intervals"},
    {"shortcuts", "paired", "pass_examples", "pass_scores"},
    {"prompt", "sites", "inputs", "narrowing", "expert_activations", "sequences"},
    {"activations"},
    {"device_sums"},
    {"prefix", "workspace", "shares"},
    {"input_cache"},
    {"generation", "gradients", "parity"},
    {"loading"},
    {"outputs"},
    {"answer_loss"},
    {"checkpoint"},
    {"tuning", "measurement", "predict", "interventions", "reference", "density"},
    {"figures"},
    {"changes", "inference", "effects", "controls", "output_vocabulary"},
    {"attribution", "replay", "token_activations", "correlation"},
    {"cell_columns", "passes", "finished_cell", "testbed", "gating", "cards"},
    {"ablation", "steering", "interaction"},
    {"causal", "causes", "screening"},
    {"neuron_card"},
    {"unit_prompt", "unit_causal"},
    {"shards"},
    {"shard_runner"},
    {"sharded_passes"},
    {"unit", "show", "across"},
    {"pairing", "neuron_view", "plot"},
    {"families", "comparison"},
    {"compare"},
    {"compare_text", "compare_plot"},
    {"turns", "unit_cells", "lockstep"},
    {"model_in_hand", "across_turn"},
    {"fingerprint", "worker_display", "schedule", "ray_address"},
    {"local_executor", "ray_cluster", "ray_shards", "ray_request"},
    {"ray_worker"},
    {"ray_crew"},
    {"ray_executor"},
    {"executor"},
    {"runner"},
    {"remade_request", "kept_pass", "cell_comparison"},
    {"figure_check", "prompt_check", "plausibility", "key_check"},
    {"activation_check", "example_check", "causal_check", "recomputation"},
    {"verify"},
    {"verification_text"},
    {"testing"},
    {"selftest"},
    {"plugin_commands", "plugin_new", "command_input"},
    {"board_command", "evaluation_commands", "verify_command"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
INSIDE = {*RANK, "plugins", "tasks", "leaderboard", "pocket"}
STORED = {"mirror", "store", "store_url", "signed_report"}
READ = {"leaderboard", "errors", "atomic", "results", "types", "cell_form", "across_file", "density"} | STORED
HEAVY = (
    "torch",
    "numpy",
    "transformers",
    "datasets",
    "pandas",
    "pydantic",
    "yaml",
    "rich",
    "scipy",
    "pyarrow",
    "matplotlib",
    "ray",
)


def imported(source: str) -> Iterator[tuple[str, bool]]:
    """Yield (module, whether for types only) of every import; ``from skillneurons import x`` gives both."""
    tree = ast.parse(source)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [str(node.module)]
            if node.module == "skillneurons":
                names = [f"skillneurons.{alias.name}" for alias in node.names]
        yield from ((name, id(node) in typing_only) for name in names)


def upward(name: str, source: str) -> list[str]:
    """Return what a module of the harness imports from its own rank upwards."""
    wrong = []
    for module, for_types in imported(source):
        parts = module.split(".")
        if parts[0] != "skillneurons" or len(parts) < 2 or for_types:
            continue
        if parts[1] in {"tasks", "plugins", "pocket"} or (parts[1] in RANK and RANK[parts[1]] > RANK[name]):
            wrong.append(module)
    return wrong


@pytest.mark.parametrize("path", sorted((ROOT / "harness").glob("*.py")), ids=lambda path: path.stem)
def test_the_harness_imports_downwards(path: Path) -> None:
    if path.stem == "__init__":
        return
    assert path.stem in RANK, f"give {path.stem} a place in RANKS"
    assert upward(path.stem, path.read_text()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "harness" / "testing").glob("*.py")), ids=lambda path: path.stem)
def test_the_contract_kit_imports_downwards(path: Path) -> None:
    assert upward("testing", path.read_text()) == []


def test_the_check_catches_an_import_upwards() -> None:
    assert upward("errors", "from skillneurons.runner import run") == ["skillneurons.runner"]
    assert upward("runner", "import skillneurons.tasks.hans") == ["skillneurons.tasks.hans"]
    assert upward("errors", "from skillneurons import registry") == ["skillneurons.registry"]
    assert upward("testing", "from skillneurons.cli import main") == ["skillneurons.cli"]
    assert upward("runner", "import skillneurons.testing.checks") == ["skillneurons.testing.checks"]


def cycle(sources: Mapping[str, str]) -> list[str]:
    """Return the modules of the harness that import each other in a circle, or nothing."""
    graph = {
        name: {m.split(".")[1] for m, for_types in imported(text) if m.startswith("skillneurons.") and not for_types}
        for name, text in sources.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle() -> None:
    assert cycle({path.stem: path.read_text() for path in (ROOT / "harness").glob("[!_]*.py")}) == []


def test_the_check_catches_a_circle() -> None:
    circle = {"types": "import skillneurons.errors", "errors": "def f():\n    from skillneurons.types import Task"}
    assert set(cycle(circle)) == {"types", "errors"}


def beyond_the_facade(folder: str, source: str) -> list[str]:
    """Return what a plugin imports of the package that is neither facade, statistics nor its sibling."""
    modules = [module.split(".") for module, _ in imported(source) if module.startswith("skillneurons.")]
    return [".".join(m) for m in modules if m[1] not in {folder, "statistics"} and (len(m) > 2 or m[1] in INSIDE)]


@pytest.mark.parametrize("path", [p for f in ("plugins", "tasks") for p in sorted((ROOT / f).glob("*.py"))], ids=str)
def test_plugins_import_the_facade_only(path: Path) -> None:
    assert beyond_the_facade(path.parent.name, path.read_text()) == []


def test_the_check_catches_a_plugin_that_looks_inside() -> None:
    source = "from skillneurons import Task, types\nimport skillneurons.plugins.labels\nimport skillneurons.statistics"
    assert beyond_the_facade("tasks", source) == ["skillneurons.types", "skillneurons.plugins.labels"]


def not_results(source: str) -> list[str]:
    """Return what a file of the leaderboard imports that it must not."""
    modules = [module.split(".") for module, _ in imported(source)]
    return [
        ".".join(m)
        for m in modules
        if m[0] in {"torch", "transformers"} or (m[0] == "skillneurons" and (len(m) < 2 or m[1] not in READ))
    ]


def test_the_leaderboard_reads_results_only() -> None:
    files = sorted((ROOT / "leaderboard").rglob("*.py"))
    assert {path.relative_to(ROOT).parts for path in files} > {("leaderboard", "site", "folder.py")}
    assert {path.name: not_results(path.read_text()) for path in files} == {path.name: [] for path in files}


def test_the_check_catches_a_leaderboard_that_runs() -> None:
    assert not_results("import torch.nn\nfrom skillneurons.runner import run") == ["torch.nn", "skillneurons.runner"]


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


HELP = "from skillneurons.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by(HELP) == set()


def test_the_help_test_can_fail() -> None:
    assert loaded_by(HELP + "\nimport numpy") == {"numpy"}


@pytest.mark.parametrize(
    "command", [["list", "tasks"], ["plugins", "list"], ["validate", "demo"], ["run", "demo", "--dry-run"]]
)
def test_light_commands_never_load_torch(command: list[str]) -> None:
    loaded = loaded_by(f"from skillneurons.cli import main\nmain({command!r})")
    assert not loaded & {"torch", "transformers", "datasets", "pandas"}


def test_the_facade_is_complete() -> None:
    import skillneurons as sn

    assert set(sn.__all__) == {*sn._EXPORTS, "__version__"}
    assert all(getattr(sn, name) is not None for name in sn.__all__)
    with pytest.raises(AttributeError, match="module 'skillneurons' has no attribute 'tune_promptt'"):
        sn.tune_promptt  # noqa: B018
