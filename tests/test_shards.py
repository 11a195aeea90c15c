"""Passes of real models in 1, 2 and 4 shards against the single pass; runners that die; what cannot be merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
from far_runner import FarRunner
from skillneurons.attribution import attribution_of
from skillneurons.config import Config, load_config
from skillneurons.errors import ShardLost
from skillneurons.inference import InferenceSettings
from skillneurons.input_cache import InputCache
from skillneurons.inputs import encode_examples
from skillneurons.measurement import Measured, mean_activations, measure
from skillneurons.micro_batches import MicroBatches
from skillneurons.null import takes_sums
from skillneurons.partial import PartialCorrelationAccumulator
from skillneurons.plan import Unit, plan
from skillneurons.planting import plant_strengths
from skillneurons.prompt import initial_prompt
from skillneurons.registry import Registry, load_registry
from skillneurons.results import ResultsFolder
from skillneurons.shard_runner import UnitShardRunner
from skillneurons.sharded_passes import ShardedPasses, sharded_passes
from skillneurons.sharded_rows import ShardedRows
from skillneurons.shards import ShardRequest, run_sharded
from skillneurons.statistics import PearsonAccumulator, effect_of

M = 4
SHARDS = (1, 2, 4)

PLUGIN = """
import math
import pathlib
import skillneurons as sn

GRADED = pathlib.Path(__file__).with_suffix(".graded")


def load(split, *, limit=None, seed=0):
    start = {"train": 0, "validation": 1000, "discovery": 2000, "heldout": 3000}[split]
    lengths = (5, 1, 9, 3)
    return [
        sn.Example(f"{split}/{i}", f"{'1 ' * lengths[i % 4]}What is {start + i * i} + {i}?", str(start + i), group=f"{split}/{i // 2}")
        for i in range(limit or 40)
    ]


def make(odd=1):
    def grade(example, text, rubric, grading):
        with GRADED.open("a") as file:
            file.write(f"{example.id} {grading}\\n")
        return {item: float(sum(text.encode() + example.id.encode()) % 2 == odd) if "7" not in example.id else math.nan for item in rubric}
    return grade


def broken(example, output):
    if example.id.endswith("3"):
        raise ValueError(f"no {example.id}")
    return float(sum(output.text.encode()) % 5)


@sn.hookimpl
def register_tasks(register):
    register(sn.Task("counting", "1", load, kind="generation", max_new_tokens=6,
                     rubric=lambda example: {"odd": "Is it odd?"}, label_columns=("correct",),
                     marks=lambda example, text, points: {"correct": points["odd"]},
                     options={"grader": "odd", "grader_options": {}, "gradings": 2}))


@sn.hookimpl
def register_graders(register):
    register(sn.Grader("odd", make, options={"odd": 1}))


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("letters", lambda example, output: float(sum(output.text.encode()) % 17)))
    register(sn.Metric("broken", broken))
    register(sn.Metric("broken_too", broken))


class Unmergeable:
    def __init__(self, n_neurons, n_columns):
        self.shape = (n_columns, n_neurons)

    def update(self, activations, values):
        return self

    def result(self):
        import numpy as np
        return np.zeros(self.shape)


class Silent(sn.PearsonAccumulator):
    def merge(self, other):
        super().merge(other)


@sn.hookimpl
def register_attributions(register):
    register("silent", Silent)
    register("unmergeable", Unmergeable)
    register("unmergeable_made", lambda neurons, columns: Unmergeable(neurons, columns))
"""


class Work:
    """A planned unit on a model, and its passes: whole, or by runners."""

    def __init__(self, lm: sn.LanguageModel, folder: Path, task: str, metrics: Sequence[str], *settings: str) -> None:
        path = folder / "counts.py"
        path.write_text(PLUGIN)
        self.graded = path.with_suffix(".graded")
        self.registry: Registry = load_registry([str(path)])
        self.config: Config = load_config(
            overrides=["attribution.batch_size=8", f"prompt.num_virtual_tokens={M}", *settings],
            models=["pocket-small"],
            tasks=[task],
            metrics=metrics,
            seeds=[0],
            limit=41,
            registry=self.registry,
        )
        units: list[Unit] = plan(self.config, self.registry, ResultsFolder(folder / "runs"))
        (self.unit,) = units
        self.lm = lm
        self.metrics = {cell.metric.name: (cell.metric, cell.columns) for cell in self.unit.cells}
        self.columns = [name for _, names in self.metrics.values() for name in names]
        self.factory = self.registry.attribution(self.config.attribution.statistic)
        self.prompt = initial_prompt(lm, M, seed=1)

    def here(self, **options: Any) -> UnitShardRunner:
        return UnitShardRunner(self.config, self.registry, self.unit, self.lm, **options)

    def shards(self, n: int, runners: Sequence[Any] | None = None) -> ShardedPasses:
        here = self.here()
        return ShardedPasses(n, [here] if runners is None else runners, here)

    def encoded(self, split: Any, m: int) -> Any:
        return encode_examples(self.lm, self.unit.data.task, self.unit.data.splits[split], num_virtual_tokens=m)

    def whole(self, means: Any = None, partial: Any = None, position: str = "last", **options: Any) -> list[Measured]:
        """Return discovery without a prompt, discovery with one, and heldout with one, each in one pass."""
        found, inputs = [], InputCache(self.lm, room=M + 24)
        for split, prompt, keeps in (("discovery", None, False), ("discovery", self.prompt, True)):
            where = "input_last" if prompt is None else position
            found.append(self._measured(split, prompt, inputs, where, means, keeps, None, options))
        found.append(self._measured("heldout", self.prompt, None, position, means, True, partial, options))
        return found

    def _measured(
        self, split: Any, prompt: Any, inputs: Any, position: str, means: Any, keeps: bool, partial: Any, more: Any
    ) -> Measured:
        return measure(
            self.lm,
            self.unit.data.task,
            self.encoded(split, M if prompt else 0),
            self.metrics,
            prompt,
            position=position,
            accumulator=self.factory,
            baseline=means,
            keep_rows=keeps,
            partial=partial,
            inputs=inputs,
            fitting=MicroBatches(8),
            plant=more.get("plant") if keeps else None,
        )

    def sharded(
        self, passes: ShardedPasses, means: Any = None, partial: Any = None, position: str = "last"
    ) -> list[Measured]:
        """Return what ``whole`` does."""
        more: dict[str, Any] = {"means": means, "with_inputs": True}
        return [
            passes.measure("discovery", self.metrics, None, MicroBatches(8), position="input_last", **more),
            passes.measure(
                "discovery", self.metrics, self.prompt, MicroBatches(8), position=position, keep_rows=True, **more
            ),
            passes.measure(
                "heldout",
                self.metrics,
                self.prompt,
                MicroBatches(8),
                position=position,
                keep_rows=True,
                partial=partial,
                means=means,
            ),
        ]

    def partial(self) -> PartialCorrelationAccumulator:
        controls = [() if i == 0 else (0,) for i in range(len(self.columns))]
        return PartialCorrelationAccumulator(self.lm.n_neurons, controls)


@pytest.fixture(scope="module")
def pocket() -> sn.LanguageModel:
    return sn.load_model("pocket-small", device="cpu")


def assert_same(ours: Sequence[Measured], theirs: Sequence[Measured]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert [row.example.id for row in mine.encoded] == [row.example.id for row in other.encoded]
        assert list(map(repr, mine.outputs)) == list(map(repr, other.outputs))  # every digit, and NaN is NaN
        np.testing.assert_array_equal(mine.values, other.values)
        n = len(effect_of(mine.accumulator)) - len(other.failures)  # those that fail come last, of one column each
        np.testing.assert_allclose(
            effect_of(mine.accumulator)[:n], effect_of(other.accumulator)[:n], atol=1e-12, rtol=0
        )
        assert np.isfinite(effect_of(mine.accumulator)).any()
        assert {name: str(error) for name, error in mine.failures.items()} == {
            name: str(error) for name, error in other.failures.items()
        }
        if other.rows is not None:
            assert mine.rows is not None and mine.rows.shape == other.rows.shape
            for (at, block), (where, expected) in zip(mine.rows.blocks(700), other.rows.blocks(700), strict=True):
                assert at == where and block.tobytes() == expected.tobytes()
            some = np.array([5, 3, 2000])
            np.testing.assert_array_equal(mine.rows.of(some), other.rows.of(some))


def statistics_of(work: Work, measured: Sequence[Measured], baseline: Any = None) -> Any:
    splits = {"discovery": measured[1], "heldout": measured[2]}
    asked = InferenceSettings(permutations=39, bootstrap=30, thresholds=(0.2, 0.4))
    return attribution_of(work.lm, work.metrics, splits, work.factory, asked, baseline)


def assert_same_inference(ours: Any, theirs: Any) -> None:
    """Everything that is inferred from the kept rows, to the bit: the rows are the same."""
    assert list(ours.inference) == list(theirs.inference)
    for column, mine in ours.inference.items():
        other = theirs.inference[column]
        for name in ("chosen", "low", "high", "top_resamples"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
        assert mine.n_replicated == other.n_replicated and mine.replication_reason == other.replication_reason
        for name in ("scheme", "reason", "threshold", "n_fwer", "n_fdr", "above"):
            assert getattr(mine.null, name) == getattr(other.null, name)
        for name in ("p_adjusted", "p_raw", "largest"):
            np.testing.assert_array_equal(getattr(mine.null, name), getattr(other.null, name))


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("arithmetic", ["heuristics", "confidence"]),
        ("hans", ["labels", "confidence"]),
        ("counting", ["letters", "labels"]),
    ],
)
def test_shards_are_the_single_pass(pocket: sn.LanguageModel, tmp_path: Path, task: str, metrics: list[str]) -> None:
    """Open answers whose lengths run side by side, choices of one length, texts that a grader grades."""
    work = Work(pocket, tmp_path, task, metrics)
    expected_partial = work.partial()
    expected = work.whole(partial=expected_partial)
    inferred = statistics_of(work, expected)
    for n in SHARDS:
        partial = work.partial()
        found = work.sharded(work.shards(n), partial=partial)
        assert_same(found, expected)
        assert isinstance(found[1].rows, ShardedRows) and len(found[1].rows.shards) == n
        np.testing.assert_allclose(partial.result(), expected_partial.result(), atol=1e-12, rtol=0)
        ours = statistics_of(work, found)
        assert_same_inference(ours, inferred)
        for column, scores in ours.scores.items():
            np.testing.assert_array_max_ulp(scores, inferred.scores[column], maxulp=1)


def test_each_text_is_graded_once_by_the_shard_that_wrote_it(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "counting", ["labels"])
    passes = work.shards(4, [FarRunner(work.here()) for _ in range(3)])
    measured = passes.measure("heldout", work.metrics, work.prompt, MicroBatches(8), position="last")
    asked = work.graded.read_text().split("\n")[:-1]
    assert sorted(asked) == sorted(f"{row.example.id} {grading}" for row in measured.encoded for grading in range(2))
    assert np.isnan(measured.values[7]).all() and not np.isnan(measured.values[8]).any()


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize(
    ("statistic", "task", "metrics"),
    [
        ("auroc", "arithmetic", ["labels"]),
        ("spearman", "arithmetic", ["confidence"]),
        ("mean_difference", "arithmetic", ["labels"]),
        ("predictivity", "hans", ["labels"]),
        ("grad_x_activation", "counting", ["letters"]),
    ],
)
def test_other_statistics_in_shards(
    pocket: sn.LanguageModel, tmp_path: Path, statistic: str, task: str, metrics: list[str], n: int
) -> None:
    work = Work(pocket, tmp_path, task, metrics, f"attribution.statistic={statistic}")
    passes, means, ours = work.shards(n, [FarRunner(work.here(), registry=work.registry) for _ in range(2)]), None, None
    if statistic == "predictivity":
        means = mean_activations(pocket, work.encoded("train", M), work.prompt, fitting=MicroBatches(8))
        ours = passes.mean_activations("train", work.prompt, MicroBatches(8), position="last")
        np.testing.assert_allclose(ours, means, atol=1e-12 * np.abs(means).max(), rtol=0)
        ours = means
    expected, found = work.whole(means), work.sharded(passes, ours)
    assert_same(found, expected)
    assert_same_inference(statistics_of(work, found, means), statistics_of(work, expected, means))


def test_a_merge_that_returns_nothing_has_added(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "counting", ["letters"], "attribution.statistic=silent")
    found = work.shards(3).measure("discovery", work.metrics, None, MicroBatches(8), position="input_last")
    assert_same([found], [work._measured("discovery", None, None, "input_last", None, False, None, {})])


def test_every_prompt_position_and_planted_neurons(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["confidence"])
    plant = plant_strengths(pocket.n_layers, pocket.d_ff, (0.5, 0.9))
    here = work.here(plant=plant)
    found = work.sharded(ShardedPasses(3, [here], here), position="max")
    expected = work.whole(position="max", plant=plant)
    assert_same(found, expected)
    ours, theirs = statistics_of(work, found), statistics_of(work, expected)
    assert_same_inference(ours, theirs)
    for column, at in ours.positions.items():
        np.testing.assert_array_equal(at, theirs.positions[column])


def test_runners_of_other_processes_keep_their_rows_and_inputs(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["heuristics", "confidence"])
    expected = work.whole()
    far = [FarRunner(work.here()) for _ in range(2)]
    passes = work.shards(4, far)
    found = work.sharded(passes)
    assert_same(found, expected)
    assert [runner.asked.count("run") for runner in far] == [6, 6] and not passes.here._kept
    kept = [runner.own._inputs["discovery"].cache.stored["device"] for runner in far]
    assert sum(kept) == len(expected[0].encoded) and all(kept)  # each what it ran, and no more
    assert_same_inference(statistics_of(work, found), statistics_of(work, expected))
    assert all(len(runner.own._kept) == 4 for runner in far)
    del found, passes
    assert not any(runner.own._kept for runner in far)  # released with what read them


def test_the_sums_of_shards_give_the_null_of_their_rows(
    pocket: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["confidence"])
    inferred = statistics_of(work, work.whole())
    nulls = []
    for n in (1, 2, 4):
        far = [FarRunner(work.here()) for _ in range(2)]
        found = work.sharded(work.shards(n, far))
        assert isinstance(found[1].rows, ShardedRows)
        assert not takes_sums(found[1].rows, PearsonAccumulator.linear_form, 39, 5)  # 41 rows are less to move
        with monkeypatch.context() as patched:
            patched.setattr(ShardedRows, "bytes_as_rows", lambda rows: 10**12)
            ours = statistics_of(work, found)
        assert "permuted" in {name for runner in far for name in runner.asked}
        for column, mine in ours.inference.items():
            other = inferred.inference[column]
            assert (mine.null.threshold, mine.null.n_fwer) == (other.null.threshold, other.null.n_fwer)
            assert mine.n_replicated == other.n_replicated
            np.testing.assert_allclose(mine.null.largest, other.null.largest, atol=1e-6)
        nulls.append({column: known.null for column, known in ours.inference.items()})
    for again in nulls[1:]:
        for column, null in again.items():
            np.testing.assert_allclose(null.largest, nulls[0][column].largest, atol=1e-12)
            np.testing.assert_array_equal(null.p_adjusted, nulls[0][column].p_adjusted)


def test_a_metric_that_fails_is_that_of_the_single_pass(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "counting", ["letters", "broken", "broken_too"])
    expected = work.whole()
    assert set(expected[0].failures) == {"broken", "broken_too"}
    assert_same(work.sharded(work.shards(4)), expected)
    far = [FarRunner(work.here(), registry=work.registry) for _ in range(2)]
    found = work.sharded(work.shards(4, far))
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.values, other.values)
        for name, error in mine.failures.items():
            assert type(error).__name__ == "ToldElsewhere"
            for about in ("", "cell KEY"):
                assert work.registry.told(error, about) == work.registry.told(other.failures[name], about)


def test_a_shard_whose_runner_dies_is_run_again_by_another_or_here(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["confidence"])
    expected = work.whole()
    inferred = statistics_of(work, expected)
    for lives in (0, 3, 7):
        far = [FarRunner(work.here(), lives), FarRunner(work.here())]
        found = work.sharded(work.shards(4, far))
        assert_same(found, expected)
        assert_same_inference(statistics_of(work, found), inferred)
        assert far[0].lives == 0
    far = [FarRunner(work.here(), 5), FarRunner(work.here(), 7)]
    passes = work.shards(4, far)
    found = work.sharded(passes)
    assert_same(found, expected)
    assert passes.here._kept and [runner.lives for runner in far] == [0, 0]


def request(shard: int) -> ShardRequest:
    return ShardRequest("discovery", shard, 4, None, "append", "input_last", 8, 8)


class Scripted(FarRunner):
    """Raises what is written down for a shard."""

    def __init__(self, errors: Mapping[int, Exception]) -> None:
        self.errors, self.ran = errors, list[int]()

    def run(self, request: ShardRequest, progress: Callable[[int], None] | None = None) -> Any:
        self.ran.append(request.shard)
        if request.shard in self.errors:
            raise self.errors[request.shard]
        return f"part {request.shard}"


def test_the_error_of_the_first_shard_is_raised_whoever_is_first() -> None:
    one, two = Scripted({2: ValueError("third")}), Scripted({1: ValueError("second")})
    with pytest.raises(ValueError, match="^second$"):
        run_sharded([request(i) for i in range(4)], [one, two])
    assert (one.ran, two.ran) == ([0, 2], [1])
    lost = Scripted({0: ShardLost("gone")})
    with pytest.raises(ValueError, match="^second$"):  # once what was lost before it has been run
        run_sharded([request(i) for i in range(4)], [lost, two])
    with pytest.raises(ShardLost, match="^all 1 runners of shards are lost; run the same command again$"):
        run_sharded([request(0)], [lost])
    parts = run_sharded([request(i) for i in range(3)], [lost], Scripted({}))
    assert [one.part for one in parts] == ["part 0", "part 1", "part 2"]  # type: ignore[comparison-overlap]
    assert run_sharded([], [lost]) == []


def test_an_input_that_stands_twice_is_kept_where_it_first_ran(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["confidence"])
    examples = list(work.unit.data.splits["discovery"])
    same = [
        sn.Example(f"again{i}", examples[i].prompt, examples[i].target, examples[i].choices, fields=examples[i].fields)
        for i in (0, 5)
    ]
    splits = {**work.unit.data.splits, "discovery": [*examples, *same]}
    work.unit = sn_replace(work.unit, splits)
    expected = work.whole()
    far = [FarRunner(work.here()) for _ in range(4)]
    passes = work.shards(4, far)
    assert_same(work.sharded(passes), expected)
    batches = [len(runner.own._inputs["discovery"].tried) for runner in far]
    own = passes.here.share(request(0)).cut(4)
    groups = [sum(len({len(row.ids) for row in rows}) for rows in share.batches) for share in own]
    crossing = [have - mine for have, mine in zip(batches, groups, strict=True)]
    assert all(extra >= 0 for extra in crossing)
    fresh = work.here()  # has run nothing: what a worker is that takes over
    again = ShardedPasses(4, [fresh], fresh)
    found = again.measure(
        "discovery", work.metrics, work.prompt, MicroBatches(8), position="last", keep_rows=True, with_inputs=True
    )
    assert_same([found], [expected[1]])
    assert sum(fresh._inputs["discovery"].cache.stored.values()) == len({row.ids for row in found.encoded})


def sn_replace(unit: Unit, splits: Any) -> Unit:
    from dataclasses import replace

    return replace(unit, data=replace(unit.data, splits=splits))


def test_a_budget_that_holds_some_inputs_or_none_changes_nothing(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    expected = Work(pocket, tmp_path, "arithmetic", ["confidence"]).whole()
    for gigabytes in (0.0, 0.0004):
        settings = (f"cache.device_gb={gigabytes}", "cache.host_gb=0.0")
        work = Work(pocket, tmp_path, "arithmetic", ["confidence"], *settings)
        far = [FarRunner(work.here()) for _ in range(2)]
        assert_same(work.sharded(work.shards(4, far)), expected)
        assert_same(work.sharded(work.shards(4)), expected)
        stored = [runner.own._inputs["discovery"].cache.stored for runner in far]
        assert all((one["device"] > 0) == (gigabytes > 0) and one["again"] for one in stored)


def test_memory_that_runs_out_in_a_shard_is_counted(
    pocket: sn.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skillneurons import measurement

    work = Work(pocket, tmp_path, "arithmetic", ["confidence"])
    plain = measurement.answer

    def tight(lm: Any, task: Any, rows: Any, *more: Any, **options: Any) -> Any:
        if len(rows) > 4:
            raise MemoryError("out of memory")
        return plain(lm, task, rows, *more, **options)

    monkeypatch.setattr(measurement, "answer", tight)
    fitting = MicroBatches(8)
    found = work.shards(2).measure("discovery", work.metrics, None, fitting, position="input_last")
    assert len(found.outputs) == 41 and (fitting.size, fitting.limit, fitting.halved) == (4, 4, 2)


def test_more_shards_than_batches_are_as_many_as_batches(pocket: sn.LanguageModel, tmp_path: Path) -> None:
    work = Work(pocket, tmp_path, "arithmetic", ["letters"])
    passes = work.shards(100)
    steps: list[int] = []
    found = passes.measure(
        "discovery", work.metrics, None, MicroBatches(8), position="input_last", keep_rows=True, progress=steps.append
    )
    n_batches = len(passes.here.share(request(0)).batches)
    assert isinstance(found.rows, ShardedRows) and len(found.rows.shards) == n_batches < 41 and sum(steps) == 41
    assert sharded_passes(1, work.here) is None
    with pytest.raises(ShardLost, match="^nobody keeps rows under ticket 77 here; run the shard again$"):
        passes.here.block(77, 0, 1)


@pytest.mark.parametrize("statistic", ["unmergeable", "unmergeable_made"])
def test_a_statistic_without_merge_is_refused(pocket: sn.LanguageModel, tmp_path: Path, statistic: str) -> None:
    Work(pocket, tmp_path, "counting", ["letters"], f"attribution.statistic={statistic}")
    with pytest.raises(
        sn.UserError,
        match=f"^executor.shards 2: the sums of shards are merged, but the accumulator of statistic '{statistic}' has no merge; "
        r"give it merge\(other\), or set executor.shards to 1$",
    ):
        Work(pocket, tmp_path, "counting", ["letters"], f"attribution.statistic={statistic}", "executor.shards=2")
