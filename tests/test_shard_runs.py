"""Whole runs with executor.shards, in this process and with runners of others: the cells of one pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
from far_runner import FarRunner
from safetensors.numpy import load_file
from skillneurons import runner as running
from skillneurons.cli import main
from skillneurons.config import load_config
from skillneurons.plan import Unit
from skillneurons.registry import load_registry
from skillneurons.run_context import RunContext
from skillneurons.shard_runner import UnitShardRunner

SMALL = ["--limit", "40", "--set", "prompt.steps=2", "--set", "prompt.num_virtual_tokens=3", "--device", "cpu"]
SMALL += ["--set", "attribution.permutations=39", "--set", "attribution.bootstrap=40", "--set", "causal.random_sets=2"]
SMALL += [
    "--set",
    "attribution.batch_size=8",
    "--set",
    "causal.k=[2]",
    "--set",
    "causal.cards=1",
    "--set",
    "causal.examples=16",
]


def run(out: Path, shards: int, *arguments: str) -> dict[str, Any]:
    assert (
        main(["run", "-m", "pocket-small", "-o", str(out), *SMALL, "--set", f"executor.shards={shards}", *arguments])
        == 0
    )
    return {path.name: json.loads(path.read_text()) for path in sorted((out / "cells").glob("*[0-9a-f].json"))}


def numbers(found: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        for name, part in found.items():
            yield from numbers(part, f"{place}.{name}")
    elif isinstance(found, list):
        for i, part in enumerate(found):
            yield from numbers(part, f"{place}[{i}]")
    else:
        yield place, found


def assert_same_cells(ours: Path, theirs: Path, cells: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same keys, and every figure to 1e-12; all but partial r, whose sums are never rounded to float32, to the digit."""
    assert list(cells) == list(expected) and cells
    for name, cell in cells.items():
        for (place, mine), (where, other) in zip(numbers(cell), numbers(expected[name]), strict=True):
            assert place == where
            if place.endswith("partial_r") and other is not None:
                assert mine == pytest.approx(other, abs=1e-12)
            else:
                assert mine == other, f"{name}{place}"
        one, two = (load_file(out / "passes" / cell["pass"] / "scores.safetensors") for out in (ours, theirs))
        for column, scores in two.items():
            np.testing.assert_array_max_ulp(one[column], scores, maxulp=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "arithmetic", "-M", "heuristics", "--seed", "0", "--seed", "1"],
        ["-t", "hans", "-M", "labels", "--set", "attribution.statistic=predictivity"],
        ["-t", "skillmix", "-M", "labels", "--set", "causal.enabled=false", "--set", "tasks.skillmix.grader=rules"],
        [
            "-t",
            "arithmetic",
            "-M",
            "labels",
            "--set",
            "attribution.position=input_last",
            "--set",
            "causal.enabled=false",
        ],
    ],
    ids=["seeds", "means", "texts", "no-prompt"],
)
def test_cells_are_those_of_one_pass(tmp_path: Path, arguments: list[str]) -> None:
    expected = run(tmp_path / "1", 1, *arguments)
    for n in (2, 4):
        found = run(tmp_path / str(n), n, *arguments)
        assert_same_cells(tmp_path / str(n), tmp_path / "1", found, expected)


def test_a_run_with_runners_elsewhere_of_which_one_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["-t", "arithmetic", "-M", "labels", "--set", "causal.enabled=false", "--seed", "0", "--seed", "1"]
    expected = run(tmp_path / "1", 1, *arguments)
    far: list[FarRunner] = []
    config = load_config(
        None,
        models=["pocket-small"],
        tasks=["arithmetic"],
        metrics=["labels"],
        limit=40,
        overrides=[one for one in [*SMALL, *arguments] if "=" in one] + ["executor.shards=3"],
    )

    class WithRunners(RunContext):
        def __init__(self, *given: Any, **named: Any) -> None:
            def runners(unit: Unit, lm: sn.LanguageModel) -> Sequence[FarRunner]:
                lives = (9, 10**9)
                own = [FarRunner(UnitShardRunner(config, load_registry(), unit, lm), n) for n in lives]
                far.extend(own)
                return own

            super().__init__(*given, **named, runners=runners)

    monkeypatch.setattr(running, "RunContext", WithRunners)
    found = run(tmp_path / "far", 3, *arguments)
    assert_same_cells(tmp_path / "far", tmp_path / "1", found, expected)
    assert len(far) == 2 and far[0].lives == 0 and far[1].asked.count("run") >= 12  # the same ones for both seeds


def test_a_statistic_without_merge_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "no_merge.py"
    plugin.write_text(
        "import numpy as np\nimport skillneurons as sn\n\n\nclass NoMerge:\n    def __init__(self, n, columns):\n"
        "        self.shape = (columns, n)\n\n    def update(self, activations, values):\n        return self\n\n"
        "    def result(self):\n        return np.zeros(self.shape)\n\n\n@sn.hookimpl\ndef register_attributions(register):\n"
        "    register('no_merge', NoMerge)\n"
    )
    command = [
        "run",
        "-p",
        str(plugin),
        "-m",
        "pocket-small",
        "-t",
        "arithmetic",
        "-M",
        "labels",
        "-o",
        str(tmp_path / "runs"),
    ]
    command += ["--set", "attribution.statistic=no_merge", "--set", "executor.shards=2"]
    assert main(command) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(
            "executor.shards 2: the sums of shards are merged, but the accumulator of statistic 'no_merge' has no merge; "
            "give it merge(other), or set executor.shards to 1"
        )
    )
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_fails_fails_its_cell_alone_with_the_error_of_one_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "breaks.py"
    plugin.write_text(
        "import skillneurons as sn\n\n\ndef breaks(example, output):\n    if len(example.prompt) % 3 == 0:\n"
        "        raise ValueError(example.id)\n    return 1.0\n\n\n@sn.hookimpl\ndef register_metrics(register):\n"
        "    register(sn.Metric('breaks', breaks))\n"
    )
    arguments = ["-p", str(plugin), "-t", "arithmetic", "-M", "breaks", "-M", "labels", "--set", "causal.enabled=false"]
    cells: list[dict[str, Any]] = []
    for n in (1, 2, 4):
        out = tmp_path / str(n)
        command = ["run", "-m", "pocket-small", "-o", str(out), *SMALL, "--set", f"executor.shards={n}", *arguments]
        assert main(command) == 1
        cells.append({p.name: json.loads(p.read_text()) for p in sorted((out / "cells").glob("*[0-9a-f].json"))})
    errors = [[cell["error"] for cell in found.values()] for found in cells]
    assert errors[0] == errors[1] == errors[2] and sum(error is not None for error in errors[0]) == 1
    assert "plugin breaks" in next(error for error in errors[0] if error)["message"]


def test_the_pass_of_one_shard_is_run_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Callable[..., Any]:
        raise AssertionError("no shards were asked for")

    monkeypatch.setattr("skillneurons.unit.UnitShardRunner", never)
    run(tmp_path / "1", 1, "-t", "arithmetic", "-M", "labels", "--set", "causal.enabled=false")
    with pytest.raises(AssertionError, match="exit"):
        _failing(tmp_path / "2")


def _failing(out: Path) -> None:
    command = ["run", "-m", "pocket-small", "-o", str(out), *SMALL, "-t", "arithmetic", "-M", "labels"]
    assert main([*command, "--set", "executor.shards=2", "--set", "causal.enabled=false"]) == 0, "exit"
