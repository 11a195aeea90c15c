"""Estimates of time and memory: sizes worked out by hand, forward passes counted in a real run, speeds from finished cells."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES
from skillneurons import causal_calls, forward_calls, memory_need
from skillneurons.calibration import calibrated
from skillneurons.causal_calls import across_calls, replayed, unit_calls
from skillneurons.config import Config, load_config
from skillneurons.dry_run import dry_run
from skillneurons.errors import ModelError, UserError
from skillneurons.estimate import between, choose_speed, model_at_hand, rows_by_split, workload
from skillneurons.forward_calls import LEAST, LIKELY, MOST, Call, Workload, tokens_of, tuning_calls
from skillneurons.known_shapes import NOT_RESOLVED, planned_revision
from skillneurons.machine_speed import STATED, Devices, Speed, known_gpu, measured_speed, stated_speed
from skillneurons.memory_need import memory_need as need_of
from skillneurons.model_shape import ModelShape, read_shape, shape_of
from skillneurons.plan import plan
from skillneurons.registry import load_registry
from skillneurons.results import ResultsFolder
from skillneurons.token_lengths import Row, counter_of, rows_of
from skillneurons.types import Example, Split, Task

QWEN15 = {  # hidden size, layers, heads, key-value heads, d_ff, vocabulary, tied; parameters
    "0.5B": ((1024, 24, 16, 16, 2816, 151936, True), 463_987_712),
    "1.8B": ((2048, 24, 16, 16, 5504, 151936, False), 1_836_828_672),
    "4B": ((2560, 40, 20, 20, 6912, 151936, False), 3_950_369_280),
    "7B": ((4096, 32, 32, 32, 11008, 151936, False), 7_721_324_544),
    "14B": ((5120, 40, 40, 40, 13696, 152064, False), 14_167_290_880),
    "32B": ((5120, 64, 40, 8, 27392, 152064, False), 32_512_218_112),
    "72B": ((8192, 80, 64, 64, 24576, 152064, False), 72_287_920_128),
}


def qwen15(size: str) -> dict[str, Any]:
    d, layers, heads, groups, d_ff, vocabulary, tied = QWEN15[size][0]
    return {
        "model_type": "qwen2",
        "hidden_size": d,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": d_ff,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 32768,
        "sliding_window": 32768,
        "use_sliding_window": False,
    }


@pytest.mark.parametrize("size", QWEN15)
def test_the_parameters_of_every_size_of_qwen15(size: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(qwen15(size)))
    assert read_shape(tmp_path, size).parameters == QWEN15[size][1]


def test_the_sizes_of_the_papers_model_by_hand() -> None:
    shape = shape_of(qwen15("1.8B"), "1.8B")
    attention, feed_forward = 4 * 2048 * 2048, 3 * 2048 * 5504
    layer = attention + 3 * 2048 + feed_forward + 2 * 2048  # with the biases of q, k, v and two norms
    assert shape.parameters == 24 * layer + 2 * 151936 * 2048 + 2048
    assert shape.layer_weights == attention + feed_forward
    assert shape.kv_bytes("bfloat16") == 2 * 24 * 2048 * 2 == 196_608
    assert shape.weight_bytes("bfloat16") == 2 * shape.parameters
    assert shape.weight_bytes("bfloat16", "4bit") == 24 * shape.layer_weights // 2 + 2 * (
        shape.parameters - 24 * shape.layer_weights
    )
    assert shape.n_neurons == 24 * 5504 and shape.window is None


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"falcon"}))
def test_parameters_of_every_family_are_those_that_torch_counts(family: str, tmp_path: Path) -> None:
    import torch
    import transformers

    name, sizes = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(vocab_size=1536, **sizes)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if family == "olmoe":  # its experts are as wide as intermediate_size says
        sizes = {key: value for key, value in sizes.items() if key != "moe_intermediate_size"}
        assert shape_of({"model_type": "olmoe", "vocab_size": 1536, **sizes}, family).parameters == pytest.approx(
            counted, rel=0.02
        )
        return
    assert read_shape(tmp_path, family).parameters == pytest.approx(counted, rel=0.02)


def test_a_configuration_without_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        shape_of({"hidden_size": 8}, "mine")
    assert str(caught.value) == "model 'mine': its config.json says no num_hidden_layers, so its size is not known"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError) as caught:
        read_shape(tmp_path, "mine")
    assert str(caught.value) == "model 'mine': its config.json holds no mapping; save the model again"


def test_tokens_are_those_of_the_tokenizer_or_a_quarter_of_the_characters(tmp_path: Path) -> None:
    task = Task("t", "1", lambda split: [], kind="choice")
    example = Example("a", "What is 12 plus 7?", "19", ("19", "123456789"))
    plain, told = counter_of(tmp_path)
    assert told == "four characters a token"
    assert rows_of(task, [example], plain, template=False, room=100) == [Row(5, 1, (1, 3))]
    assert rows_of(task, [example], plain, template=True, room=9) == [Row(9, 1, (1, 3))]
    from skillneurons.model_source import pocket_folder

    exact, told = counter_of(pocket_folder())
    assert told == "the model's tokenizer"
    assert rows_of(task, [example], exact, template=False, room=100)[0].choices == (2, 9)  # digit by digit
    written = replace(task, kind="generation", follow_up=lambda one, text: "Shorter!" if one.id == "a" else None)
    assert rows_of(written, [example], plain, template=False, room=100) == [Row(5, 2, (1, 3), 2)]


def load_of(
    rows: Mapping[Split, Sequence[Row]], *settings: str, kind: Any = "choice", kv: int = 0, tested: Sequence[int] = (1,)
) -> Workload:
    config = load_config(None, ["prompt.num_virtual_tokens=5", *settings], tasks=["arithmetic"])
    task = Task("t", "1", lambda split: [], kind=kind, max_new_tokens=8)
    return Workload(config, task, rows, tested, True, False, kv, 100, False)


SHORT, LONG = Row(4, 1, (1, 1)), Row(6, 3, (3, 1))


def test_the_passes_of_tuning_by_hand() -> None:
    rows: dict[Split, list[Row]] = {"train": [SHORT, LONG], "validation": [SHORT], "discovery": [], "heldout": []}
    load = load_of(rows, "prompt.steps=10", "prompt.eval_every=5", "prompt.batch_size=1")
    assert tuning_calls(load, LIKELY) == Counter(
        {
            Call(1, 5, 4, 1, True): 5,  # prompt and all but the last token of the answer, behind the kept input
            Call(1, 5 + 2, 6, 3, True): 5,
            Call(1, 5, 4, 1): 3,  # at 0, 5 and 10
        }
    )
    stopped = load_of(rows, "prompt.steps=10", "prompt.eval_every=5", "prompt.batch_size=2", "prompt.patience=1")
    assert tuning_calls(stopped, LEAST) == Counter({Call(2, 7, 6, 3, True): 5, Call(1, 5, 4, 1): 2})


def test_inputs_that_find_no_room_run_again() -> None:
    rows: dict[Split, list[Row]] = {"train": [SHORT, LONG], "validation": [], "discovery": [], "heldout": []}
    room = ["cache.device_gb=0.00000001", "cache.host_gb=0.0"]  # 5 bytes for tuning: the short one
    load = load_of(rows, "prompt.steps=2", "prompt.batch_size=1", *room, kv=1)
    assert tuning_calls(load, LIKELY) == Counter(
        {Call(1, 5, 4, 1, True): 1, Call(1, 6, 0, 0): 1, Call(1, 7, 6, 3, True): 1}
    )


def test_a_replay_by_hand() -> None:
    load = load_of({"train": [], "validation": [], "discovery": [], "heldout": []}, "attribution.batch_size=1")
    assert replayed(load, [SHORT, LONG], 6, LIKELY) == Counter(
        {
            Call(1, 4, 0): 1,
            Call(4, 5, 4): 1,  # four changes side by side, then two
            Call(2, 5, 4): 1,
            Call(1, 6, 0): 1,
            Call(4, 5, 6): 1,
            Call(4, 2, 11, 2): 1,  # the choice of three tokens
            Call(2, 5, 6): 1,
            Call(2, 2, 11, 2): 1,
        }
    )
    everywhere = load_of(load.rows, "attribution.batch_size=1", "causal.positions=everywhere")
    assert replayed(everywhere, [SHORT], 4, LIKELY) == Counter({Call(4, 9, 0): 1})


def test_what_is_copied_from_heavy_modules_is_the_same_there() -> None:
    from skillneurons import across, cards, causal, passes, reference, replay, spool
    from skillneurons.loading import load_model

    assert causal_calls.CHANGES_AT_ONCE == replay.AT_ONCE and causal_calls.LOGITS == replay.LOGITS
    assert causal_calls.CARD_EXAMPLES == 2 * cards.EXAMPLES
    assert causal_calls.TABLE_K == causal.TABLE_K == across.TABLE_K
    assert sum(alpha != 0 for alpha in causal.SINGLE_ALPHAS) == causal_calls.SINGLE_PUSHES
    assert memory_need.DONORS == reference.DONORS and memory_need.STRONGEST == passes.STRONGEST
    assert memory_need.ROWS_IN_MEMORY == spool.IN_MEMORY
    assert load_model("pocket", device="cpu").tokens_at_once == forward_calls.TOKENS_AT_ONCE


def planned(config: Config) -> tuple[list[Workload], ModelShape]:
    registry = load_registry()
    units = plan(config, registry, ResultsFolder(Path(config.output)))
    model = model_at_hand(config, units[0].model, units[0].revision)
    return [
        workload(
            config,
            registry,
            model,
            unit.data,
            rows_by_split(config, model, unit.data),
            unit.cells,
            gpu=False,
            shared=True,
            tuned=False,
        )
        for unit in units
    ], model.shape


SMALL = ["prompt.steps=20", "prompt.eval_every=10", "causal.examples=24", "causal.generated=12", "causal.random_sets=3"]


@pytest.mark.parametrize(
    ("tasks", "settings"),
    [
        (["arithmetic", "hans"], []),
        (
            ["arithmetic"],
            ["attribution.batch_size=3", "causal.enabled=false", "cache.device_gb=0.0", "cache.host_gb=0.0"],
        ),
        (["arithmetic"], ["attribution.position=input_last", "causal.enabled=false"]),
        (["hans"], ["causal.positions=everywhere"]),
        (["arithmetic"], ["attribution.statistic=grad_x_activation", "causal.enabled=false"]),
    ],
)
def test_forward_tokens_are_those_of_a_run(
    tasks: list[str],
    settings: list[str],
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config(
        None,
        [*SMALL, *settings],
        models=[str(model_folder("qwen2"))],
        tasks=tasks,
        metrics=["confidence", "labels"],
        limit=24,
        device="cpu",
        output=str(tmp_path),
    )
    loads, _ = planned(config)
    calls = sum((sum(unit_calls(load, LIKELY).values(), Counter()) for load in loads), Counter())
    calls += across_calls(loads, LIKELY) if config.causal.enabled else Counter()
    assert tokens_of(calls) == pytest.approx(run_and_count(config, monkeypatch), rel=0.1)


def test_forward_tokens_of_written_texts_lie_between_the_least_and_the_most(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(
        None,
        [*SMALL, "prompt.patience=9"],
        models=[str(model_folder("qwen2"))],
        tasks=["arithmetic-open"],
        metrics=["confidence"],
        limit=24,
        device="cpu",
        output=str(tmp_path),
    )
    (load,), _ = planned(config)
    least, most = (tokens_of(sum(unit_calls(load, one).values(), Counter())) for one in (LEAST, MOST))
    assert least <= run_and_count(config, monkeypatch) <= 1.1 * most and most <= 2 * least


def run_and_count(config: Config, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a config and return the tokens that its model ran forward after it was loaded."""
    from skillneurons import loading
    from skillneurons.runner import run_config

    counted, load_model = [0], loading.load_model

    def counting(*arguments: Any, **settings: Any) -> Any:
        lm = load_model(*arguments, **settings)

        def count(module: Any, args: Any, kwargs: Any) -> None:
            given = kwargs.get("input_ids")
            given = kwargs["inputs_embeds"] if given is None else given
            counted[0] += given.shape[0] * given.shape[1]

        lm.model.register_forward_pre_hook(count, with_kwargs=True)
        return lm

    monkeypatch.setattr(loading, "load_model", counting)
    outcome = run_config(config, load_registry(), progress=False)
    assert not outcome.failed
    return counted[0]


SHAPE = ModelShape(
    d_model=4,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_size=2,
    d_ff=8,
    d_ff_run=8,
    vocabulary=10,
    gated=True,
    tied=True,
    small=0,
    context_length=64,
)


def test_the_time_of_a_pass_by_hand() -> None:
    layer = 2 * 4 * 2 * (2 + 1) + 3 * 4 * 8  # 144 weights
    assert SHAPE.layer_weights == layer
    speed = Speed("", flops=1e3, bandwidth=1e30, overhead=1.0)
    call = Call(rows=2, tokens=3, past=4, logits=1)
    operations = 2 * 6 * layer * 2 + 4 * 6 * (4 + 1.5) * 4 * 2 + 2 * 2 * 40
    assert speed.seconds(Counter({call: 1}), SHAPE, "float32") == pytest.approx(operations / 1e3 + 3)
    again = Counter({call._replace(gradient=True): 5})
    assert speed.seconds(again, SHAPE, "float32") == pytest.approx(10 * (operations / 1e3 + 3))
    moving = replace(speed, flops=1e30, bandwidth=10.0, overhead=0.0)
    moved = 3 * 2 * 7 * SHAPE.kv_bytes("float32") + 24 * 2 * 10
    weights = 4 * (2 * layer + 40)
    assert moving.seconds(Counter({call: 1}), SHAPE, "float32") == pytest.approx((weights + moved) / 10)


def test_memory_by_hand() -> None:
    rows: dict[Split, list[Row]] = {
        "train": [SHORT] * 3,
        "validation": [SHORT],
        "discovery": [SHORT] * 5,
        "heldout": [SHORT] * 2,
    }
    load = load_of(rows, "causal.enabled=false", kv=SHAPE.kv_bytes("float32"), tested=())
    calls = Counter({Call(2, 5, 4, 1): 1, Call(1, 4, 0, 0): 9})
    kv = SHAPE.kv_bytes("float32")
    assert kv == 2 * 2 * 1 * 2 * 4
    device = 4 * SHAPE.parameters + 4 * (4 + 7) * kv
    device += 1.25 * 2 * 9 * kv + 4 * 10 * (6 * 4 + 3 * 8) + 4 * 6 * 2 * 10
    host = 4 * 7 * 16 + 8 * 16 * (3 + 3) * 6 + 4 * 16 * 3 * 8
    found = need_of(load, SHAPE, calls, columns=3)
    assert found.host == device + host + memory_need.INTERPRETER and found.device == 0
    on_gpu = need_of(replace(load, gpu=True), SHAPE, calls, columns=3)
    sums = 8 * 16 * (3 + 3) * 6  # are on the GPU then
    assert on_gpu.device == device + sums + memory_need.CONTEXT_GPU
    assert on_gpu.host == host - sums + memory_need.INTERPRETER_GPU
    assert found.disk == 2 * 4 * 16 * 3 + 3 * memory_need.CELL_JSON + 3 * 10 * 4 * 7 + 4 * 5 * 4 and found.spool == 0


def test_memory_of_two_devices_by_hand() -> None:
    rows: dict[Split, list[Row]] = {"train": [], "validation": [], "discovery": [SHORT] * 5, "heldout": [SHORT] * 2}
    load = replace(load_of(rows, "causal.enabled=false", kv=SHAPE.kv_bytes("float32"), tested=()), gpu=True)
    calls, kv = Counter({Call(2, 5, 4, 1): 1}), SHAPE.kv_bytes("float32")
    sums = 8 * 16 * (3 + 3)
    logits, kept, cache = 4 * 6 * 2 * 10, 4 * 7 * kv, 1.25 * 2 * 9 * kv
    layer = 4 * SHAPE.layer_weights
    by_layers = need_of(load, SHAPE, calls, 3, 0, Devices(2))
    assert by_layers.device == pytest.approx(
        (2 * SHAPE.parameters + layer) + kept / 2 + cache / 2 + 4 * 10 * (6 * 4 + 3 * 8) + logits + sums / 2 + 600e6
    )
    split = replace(SHAPE, n_kv_heads=2)
    both = need_of(replace(load, kv=split.kv_bytes("float32")), split, calls, 3, 0, Devices(2, split=True))
    assert both.device == pytest.approx(
        2 * split.parameters + kept + cache + 4 * 10 * (6 * 4 + 3 * 8 / 2) + logits + sums * 6 + 600e6
    )
    assert both.device == both.by_devices["split 2"] and by_layers.device == by_layers.by_devices["layers 2"]
    assert "split 2" not in by_layers.by_devices and "split 3" not in both.by_devices  # heads that cannot be dealt out
    need = replace(by_layers, by_devices={"layers 1": 9.0, "layers 2": 5.0, "layers 4": 3.0, "split 1": 9.0})
    assert [need.fewest(room, split=False) for room in (9.0, 6.0, 4.0, 2.0)] == [1, 2, 4, None]
    assert need.fewest(8.0, split=True) is None


def test_several_devices_of_a_kind() -> None:
    one, in_turn = stated_speed("h100", "bfloat16"), stated_speed("8xH100", "bfloat16")
    split = stated_speed("8xh100", "bfloat16", split=True)
    assert (in_turn.devices, split.devices) == (Devices(8), Devices(8, split=True))
    assert in_turn.flops == one.flops and split.flops == pytest.approx(one.flops * (1 + 7 * 0.6))
    assert in_turn.device_bytes == split.device_bytes == one.device_bytes
    rates = "h100 as its maker states it (989 TFLOP/s of bfloat16, 3350 GB/s), 40% of it used"
    assert in_turn.told == f"8 x {rates}; one after another (model.device_map): no quicker than one"
    assert split.told == f"8 x {rates}; every layer split over them (model.tp_plan): each more adds 60% of one"
    assert stated_speed("1xh100", "bfloat16", split=True) == one
    with pytest.raises(UserError) as caught:
        stated_speed("100xh100", "bfloat16")
    assert str(caught.value) == "machine '100xh100': a model can be spread over 1 to 64 devices, as in 8xh100"


@pytest.mark.parametrize("size", [*QWEN15, "110B", "MoE-A2.7B"])
def test_sizes_of_qwen15_are_known_without_its_files(size: str) -> None:
    config = load_config(None, ["model.dtype=bfloat16"])
    for name in (f"Qwen/Qwen1.5-{size}", f"Qwen/Qwen1.5-{size}-Chat"):
        assert planned_revision(name) == (name, NOT_RESOLVED) and planned_revision(name, "abc") == (name, "abc")
        model = model_at_hand(config, name, NOT_RESOLVED)
        published = {"110B": 111.2e9, "MoE-A2.7B": 14.3e9}.get(size) or QWEN15[size][1]
        assert model.shape.parameters == pytest.approx(published, rel=2e-3)
        assert not model.here and model.counted == "four characters a token"
        assert model.template == name.endswith("Chat")
    with pytest.raises(ModelError, match="'Qwen/Qwen1.5-3B': no such folder, and the hub gives no model of that id"):
        planned_revision("Qwen/Qwen1.5-3B")


@pytest.mark.parametrize("size", QWEN15)
def test_time_and_memory_grow_with_the_model(size: str) -> None:
    shape = shape_of(qwen15(size), size)
    rows: dict[Split, list[Row]] = {
        split: [Row(40, 1, (1, 1))] * 20 for split in ("train", "validation", "discovery", "heldout")
    }
    load = replace(load_of(rows, "model.dtype=bfloat16", kv=shape.kv_bytes("bfloat16")), gpu=True)
    calls = sum(unit_calls(load, LIKELY).values(), Counter())
    speed = stated_speed("h100", "bfloat16")
    weights = 2 * QWEN15[size][1]
    need = need_of(load, shape, calls, columns=3)
    assert weights < need.device < 1.3 * weights + 8e9
    operations = 2 * tokens_of(calls) * shape.n_layers * shape.layer_weights
    assert speed.seconds(calls, shape, "bfloat16") > operations / (989e12 * 0.4)
    assert (need.device > STATED["h100"].memory * 1e9) == (size == "72B")


def test_a_range_joins_what_is_not_known() -> None:
    exact = Speed("", 1.0, 1.0, 0.0, spread=1.0)
    assert between(1.0, 2.0, 6.0, exact) == pytest.approx((1, 2, 6))
    assert between(2.0, 2.0, 2.0, replace(exact, spread=1.5)) == pytest.approx((2 / 1.5, 2, 3))
    assert between(1.0, 2.0, 6.0, replace(exact, spread=1.5, calibrated=True)) == pytest.approx((2 / 1.5, 2, 3))
    assert between(0.0, 0.0, 0.0, exact) == (0, 0, 0)


def test_this_machine_is_measured_in_sane_bounds() -> None:
    speed = measured_speed("float32")
    assert 1e8 < speed.flops < 1e15 and 1e8 < speed.bandwidth < 1e13 and 0 < speed.overhead < 0.1
    assert "slower" not in speed.told and "bfloat16 on a CPU may be slower" in measured_speed("bfloat16").told


def test_gpus_are_known_by_what_their_driver_calls_them() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": "h100",
        "Tesla T4": "t4",
        "NVIDIA L40S": "l40s",
        "NVIDIA L4": "l4",
        "Quadro": None,
    }
    assert {name: known_gpu(name) for name in names} == names
    assert known_gpu("NVIDIA GeForce RTX 4090") == "rtx4090"


def test_a_gpu_that_is_asked_for_and_not_seen_is_stated_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillneurons.estimate.gpus_here", list)
    config = load_config(None, ["model.dtype=bfloat16"], device="cuda")
    told = "a100 as its maker states it (312 TFLOP/s of bfloat16, 2039 GB/s), 40% of it used"
    assert choose_speed(config).told == f"no GPU of a known rate is seen here; {told}"
    assert choose_speed(config.model_copy(update={"device": "cpu"})).gpu is False


def test_finished_cells_of_this_machine_say_how_fast_it_is(tmp_path: Path) -> None:
    from test_dry_run import RECORD, config_of, finished, first

    config = config_of(tmp_path, "prompt.steps=10")
    older = finished(config)
    unit, folder = first(config)
    registry, model = load_registry(), model_at_hand(config, unit.model, unit.revision)
    tasks = {"arithmetic": (unit.data, {"pocket": rows_by_split(config, model, unit.data)})}
    plain = Speed("plain", flops=1e9, bandwidth=1e10, overhead=1e-3)

    def speed(**record: Any) -> Speed:
        (folder.cells / f"{older.key}.run.json").write_text(json.dumps({**RECORD, **record}))
        return calibrated(plain, config, registry, folder, {"pocket": model}, tasks, [older])

    assert speed() is plain  # another host
    assert speed(host=platform.node(), device="cuda:0") is plain
    once, twice = (speed(host=platform.node(), seconds=seconds) for seconds in (20.0, 40.0))
    assert twice.factor == pytest.approx(2 * once.factor)
    assert once.told == "1 finished cell of this folder, measured on this machine"
    for seconds in (float("inf"), float("nan"), True, "20", -1, 0, 10**400):
        assert speed(host=platform.node(), seconds=seconds) is plain
    for kind in ("resumed_tuning", "waiting"):
        assert speed(host=platform.node(), seconds=20.0, seconds_of={kind: 1.0}) is plain
    tuned = speed(host=platform.node(), seconds=20.0, seconds_of={"tuning": 9.0})
    saved = speed(host=platform.node(), seconds=20.0, seconds_of={"tuning": 0.0})
    assert tuned.factor == once.factor < saved.factor  # less was done in the same time
    for n in ({}, {**older.n, "heldout": 0}):
        assert calibrated(plain, config, registry, folder, {"pocket": model}, tasks, [replace(older, n=n)]) is plain
    (folder.cells / f"{older.key}.run.json").write_text("{")
    assert calibrated(plain, config, registry, folder, {"pocket": model}, tasks, [older]) is plain


def test_a_metric_that_came_later_found_its_prompt_tuned(tmp_path: Path) -> None:
    from test_dry_run import RECORD, config_of, finished, first

    config = config_of(tmp_path, "prompt.steps=10")
    older = finished(config)
    later = finished(config_of(tmp_path, "prompt.steps=10", metrics=["labels"]))
    unit, folder = first(config)
    registry, model = load_registry(), model_at_hand(config, unit.model, unit.revision)
    tasks = {"arithmetic": (unit.data, {"pocket": rows_by_split(config, model, unit.data)})}
    plain = Speed("plain", flops=1e9, bandwidth=1e10, overhead=1e-3)

    def speed(*cells: Any, **record: Any) -> Speed:
        return calibrated(plain, config, registry, folder, {"pocket": model}, tasks, cells)

    def write(cell: Any, **record: Any) -> None:
        path = folder.cells / f"{cell.key}.run.json"
        path.write_text(json.dumps({**RECORD, "host": platform.node(), "seconds": 20.0, **record}))

    write(older)
    write(later, started="2026-01-02T00:00:00Z", seconds_of={"tuning": 0.0})
    known = speed(older, later)
    write(later, started="2026-01-02T00:00:00Z", seconds_of={"passes": 1.0})
    assert speed(older, later) == known  # told from the order where the record does not say it
    assert speed(later).factor < known.factor  # alone it would have tuned it


def test_what_seeds_share_is_paid_once_and_a_tuned_prompt_not_again(tmp_path: Path) -> None:
    from test_dry_run import config_of, first

    config = config_of(tmp_path, "causal.enabled=false")
    (load,), _ = planned(config)
    whole = unit_calls(load, LIKELY)
    assert set(whole) == {"inputs", "tuning", "passes"}
    later = unit_calls(replace(load, shared=False), LIKELY)
    assert set(later) == {"tuning", "passes"} and tokens_of(later["passes"]) < tokens_of(whole["passes"])
    assert set(unit_calls(replace(load, tuned=True), LIKELY)) == {"passes"}
    unit, folder = first(config)
    before = dry_run(config, load_registry()).parts["pocket", "arithmetic"][1].tokens
    (folder.prompts / str(unit.prompt_key)).mkdir(parents=True)
    after = dry_run(config, load_registry()).parts["pocket", "arithmetic"][1].tokens
    assert before - after == tokens_of(whole["inputs"]) + tokens_of(whole["tuning"])


@pytest.mark.parametrize(
    ("settings", "devices"),
    [([], Devices()), (["model.device_map=auto"], Devices(4)), (["model.tp_plan=auto"], Devices(4, split=True))],
)
def test_a_model_that_is_spread_has_all_gpus_of_this_machine(
    settings: list[str], devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skillneurons.estimate.gpus_here", lambda: ["NVIDIA H100 80GB HBM3"] * 4)
    monkeypatch.setattr("skillneurons.estimate._torch_for_cpu", lambda: False)
    speed = choose_speed(load_config(None, ["model.dtype=bfloat16", *settings]))
    assert speed.devices == devices and "h100 as its maker states it" in speed.told
