"""The pass against activations gathered by an independent plain loop: no batching, no padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.attribution import top_neurons
from skillneurons.inputs import encode_examples
from skillneurons.measurement import accuracy, measure
from skillneurons.metric_row import metric_row
from skillneurons.prompt import initial_prompt

CONFIDENT = sn.Metric("p_yes", lambda example, output: math.exp(output.choice_log_probs[0]))  # type: ignore[index]
EVEN = sn.Metric("labels", lambda example, output: {"even": example.labels["even"]}, ("even",))
METRICS = {m.name: (m, m.columns_for(sn.Task("parity", "1", parity_examples))) for m in (CONFIDENT, EVEN)}


def module_names(lm: sn.LanguageModel) -> list[str]:
    stem = {"GPT2LMHeadModel": "transformer.h.{}.mlp.c_proj"}.get(lm.architecture, "model.layers.{}.mlp.down_proj")
    return [stem.format(layer) for layer in range(lm.n_layers)]


def plain_activations(lm: sn.LanguageModel, prompts: list[str], virtual: torch.Tensor) -> np.ndarray:
    """Return (examples, neurons) read at the last virtual token, one example and one pass at a time."""
    rows = []
    modules = dict(lm.model.named_modules())
    for prompt in prompts:
        seen: dict[str, torch.Tensor] = {}
        handles = [
            modules[name].register_forward_hook(lambda m, args, out, name=name: seen.update({name: args[0]}))
            for name in module_names(lm)
        ]
        with torch.no_grad():
            ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
            lm.model(inputs_embeds=torch.cat([lm.model.get_input_embeddings()(ids), virtual[None]], dim=1))
        for handle in handles:
            handle.remove()
        rows.append(torch.cat([seen[name][0, -1] for name in module_names(lm)]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_equal_corrcoef_on_a_plain_loop(tiny: sn.LanguageModel, parity: sn.Task, batch_size: int) -> None:
    examples = parity_examples("discovery", 40)
    prompt = initial_prompt(tiny, 5, seed=3)
    encoded = encode_examples(tiny, parity, examples, num_virtual_tokens=5)
    assert len({len(row.ids) for row in encoded}) > 2  # lengths differ, so batching reorders the rows
    measured = measure(tiny, parity, encoded, METRICS, prompt, batch_size=batch_size)
    a = plain_activations(tiny, [example.prompt for example in examples], prompt.embeddings)
    r = measured.accumulator.result()
    for c in range(2):
        for n in range(0, tiny.n_neurons, 5):
            assert r[c, n] == pytest.approx(np.corrcoef(a[:, n], measured.values[:, c])[0, 1], abs=1e-5)


def test_rows_and_metrics_never_slip(tiny: sn.LanguageModel, parity: sn.Task) -> None:
    """A metric equal to one neuron of a plain loop must reach r = 1 at that neuron, after bucketing."""
    examples = parity_examples("discovery", 40)
    prompt = initial_prompt(tiny, 5, seed=3)
    a = plain_activations(tiny, [example.prompt for example in examples], prompt.embeddings)
    neuron = tiny.d_ff + 7
    planted = {example.id: float(a[i, neuron]) for i, example in enumerate(examples)}
    metric = sn.Metric("planted", lambda example, output: planted[example.id])
    encoded = encode_examples(tiny, parity, examples, num_virtual_tokens=5)
    measured = measure(tiny, parity, encoded, {"planted": (metric, ("planted",))}, prompt, batch_size=6)
    r = measured.accumulator.result()[0]
    assert r[neuron] == pytest.approx(1.0, abs=1e-6) and np.nanargmax(np.abs(r)) == neuron


def test_a_recorded_row_times_the_output_weights_is_the_block_output(tiny: sn.LanguageModel) -> None:
    from skillneurons.activations import ActivationRecorder

    projection: Any = tiny.projections[1]
    outputs = []
    handle = projection.register_forward_hook(lambda m, args, out: outputs.append(out[0, -1]))
    with ActivationRecorder(tiny) as recorder, torch.no_grad():
        tiny.model(torch.tensor([[5, 6, 7]]))
        row = recorder.take()[0].reshape(tiny.n_layers, tiny.d_ff)[1]
    handle.remove()
    weight = projection.weight.T if isinstance(projection, torch.nn.Linear) else projection.weight
    bias = projection.bias if projection.bias is not None else 0.0
    torch.testing.assert_close(row @ weight + bias, outputs[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batching_and_padding_change_nothing(
    tiny: sn.LanguageModel, parity: sn.Task, batch_size: int, bucket: bool
) -> None:
    """Rotary positions (Qwen2, Llama) and learned ones (GPT-2); inputs of one length together, or padded on the left."""
    encoded = encode_examples(tiny, parity, parity_examples("discovery", 40), num_virtual_tokens=5)
    prompt = initial_prompt(tiny, 5, seed=3)
    plain, other = (
        measure(tiny, parity, encoded, METRICS, prompt, batch_size=size, bucket=b)
        for size, b in ((1, True), (batch_size, bucket))
    )
    np.testing.assert_allclose(other.values, plain.values, atol=1e-5)
    np.testing.assert_allclose(other.accumulator.result(), plain.accumulator.result(), atol=1e-5)
    scored = [output.choice_log_probs for output in plain.outputs]
    np.testing.assert_allclose([output.choice_log_probs for output in other.outputs], scored, atol=1e-4)


def test_answers_of_several_tokens_are_scored_alike_where_inputs_are_padded(tiny: sn.LanguageModel) -> None:
    choices = ("yes, it is even", "no")
    examples = [
        sn.Example(f"{n}", f"Is {n} even?" + " Well?" * (n % 3), choices[n % 2], choices=choices) for n in range(12)
    ]
    task = sn.Task("long", "1", lambda split: examples)
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=3)
    assert max(len(choice) for choice in encoded[0].choices or ()) > 2
    prompt = initial_prompt(tiny, 3, seed=1)
    both = [measure(tiny, task, encoded, {}, prompt, accumulator=None, bucket=bucket) for bucket in (True, False)]
    one, two = ([output.choice_log_probs for output in measured.outputs] for measured in both)
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_position_max_reads_each_prompt_token(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    examples = parity_examples("discovery", 40)
    prompt = initial_prompt(qwen, 3, seed=3)
    found = sn.attribute(
        qwen,
        parity,
        metrics=[EVEN],
        prompt=prompt,
        position="max",
        discovery=40,
        heldout=30,
        permutations=19,
        bootstrap=20,
    )
    each = []
    for m in (1, 2, 3):
        a = plain_activations(qwen, [example.prompt for example in examples], prompt.embeddings[:m])
        each.append([np.corrcoef(a[:, n], [e.labels["even"] for e in examples])[0, 1] for n in range(qwen.n_neurons)])
    strongest = np.abs(np.array(each)).argmax(axis=0)
    r = np.array(each)[strongest, np.arange(qwen.n_neurons)]
    np.testing.assert_array_equal(found.positions["labels.even"].ravel(), strongest)
    np.testing.assert_allclose(found.scores["labels.even"].ravel(), r, atol=1e-5)
    assert len(set(strongest.tolist())) == 3
    held = parity_examples("heldout", 30)
    at = int(strongest[7]) + 1
    a = plain_activations(qwen, [example.prompt for example in held], prompt.embeddings[:at])[:, 7]
    assert found.heldout["labels.even"].ravel()[7] == pytest.approx(
        np.corrcoef(a, [example.labels["even"] for example in held])[0, 1], abs=1e-5
    )


def test_site_gate_is_the_activation_function_of_the_gate(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    from skillneurons.activations import ActivationRecorder

    seen: list[torch.Tensor] = []
    mlp = qwen.model.model.layers[1].mlp
    handle = mlp.gate_proj.register_forward_hook(lambda m, args, out: seen.append(out[0, -1]))
    with ActivationRecorder(qwen, site="gate") as recorder, torch.no_grad():
        qwen.model(torch.tensor([[5, 6, 7]]))
        row = recorder.take()[0].reshape(qwen.n_layers, qwen.d_ff)[1]
    handle.remove()
    torch.testing.assert_close(row, torch.nn.functional.silu(seen[0]))
    assert not mlp.act_fn._forward_hooks


def test_a_plain_block_has_no_gate(model_folder: Any) -> None:
    lm = sn.load_model(str(model_folder("gpt2")), device="cpu")
    with pytest.raises(
        sn.ModelError, match="layer 0 has no gate of its own .*so attribution.site 'gate' does not exist"
    ):
        sn.attribute(lm, sn.get_task("arithmetic"), site="gate", discovery=30, heldout=30)
    with pytest.raises(sn.UserError, match="attribution.site 'up': must be one of product, gate"):
        sn.attribute(lm, sn.get_task("arithmetic"), site="up", discovery=30, heldout=30)


@pytest.mark.parametrize("position", ["last", "mean"])
def test_activation_times_gradient_is_the_slope_of_the_log_probability(
    tiny: sn.LanguageModel, parity: sn.Task, position: str
) -> None:
    """Against a finite difference: one neuron's activation is scaled by a hook, the target's log-probability read."""
    from skillneurons.gradients import activation_times_gradient
    from skillneurons.measurement import recorder_for

    rows = encode_examples(tiny, parity, parity_examples("discovery", 40), num_virtual_tokens=3)
    rows = [row for row in rows if len(row.ids) == len(rows[0].ids)][:3]
    prompt = initial_prompt(tiny, 3, seed=3)
    with recorder_for(tiny, prompt, position, "product") as recorder:
        found = activation_times_gradient(tiny, rows, prompt, recorder).reshape(len(rows), tiny.n_layers, tiny.d_ff)
    layer, neuron = 1, 11

    def log_prob(factor: float) -> torch.Tensor:
        def scale(module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            a = args[0].clone()
            end = len(rows[0].ids) + 3
            a[:, end - (3 if position == "mean" else 1) : end, neuron] *= factor
            return (a,)

        handle = tiny.projections[layer].register_forward_pre_hook(scale)
        ids = torch.tensor([row.ids for row in rows])
        target = torch.tensor([row.target for row in rows])
        virtual = prompt.embeddings.expand(len(rows), -1, -1)
        embedded = torch.cat([tiny.embed(ids), virtual, tiny.embed(target[:, :-1])], dim=1)
        with torch.no_grad():
            logits = tiny.model(inputs_embeds=embedded).logits.double().log_softmax(-1)
        handle.remove()
        return logits[:, -target.shape[1] :].gather(2, target[..., None])[..., 0].sum(1)

    slope = (log_prob(1.01) - log_prob(0.99)) / 0.02  # d log p / d factor at 1 is a * gradient
    expected = slope / 3 if position == "mean" else slope
    torch.testing.assert_close(found[:, layer, neuron].double(), expected, atol=2e-4, rtol=2e-2)


@pytest.mark.parametrize("statistic", ["mean_difference", "predictivity", "auroc", "spearman", "grad_x_activation"])
def test_every_statistic_goes_through_the_whole_attribution(
    qwen: sn.LanguageModel, parity: sn.Task, statistic: str
) -> None:
    found = sn.attribute(
        qwen,
        parity,
        metrics=[EVEN],
        prompt=initial_prompt(qwen, 2),
        statistic=statistic,
        discovery=40,
        heldout=40,
        permutations=19,
        bootstrap=20,
    )
    known = found.inference["labels.even"]
    top = found.top(5, "labels.even")
    assert np.isfinite(found.scores["labels.even"]).all() and len(top) == 5
    if statistic == "grad_x_activation":
        assert known.null.reason == "this statistic has no linear form, so its permutations cannot be computed"
    else:
        assert known.null.n_permutations == 19 and top["p_adjusted"].between(0, 1).all()
        low, high, held = top["ci_low"], top["ci_high"], top["r_heldout"]
        assert (low <= high).all() and held.between(low - 0.3, high + 0.3).all()


def test_planted_neurons_come_back_as_they_were_planted(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    from skillneurons.planting import plant_strengths

    plant = plant_strengths(qwen.n_layers, qwen.d_ff, (0.5, 1.0), seed=4)
    metric = sn.Metric("planted", lambda example, output: plant.metric(example.id))
    examples = parity_examples("discovery", 40)
    encoded = encode_examples(qwen, parity, examples, num_virtual_tokens=2)
    measured = measure(
        qwen, parity, encoded, {"planted": (metric, ("planted",))}, initial_prompt(qwen, 2), plant=plant, batch_size=6
    )
    names = [example.id for example in examples]
    z, a = [plant.metric(name) for name in names], plant.activations(names)
    expected = [np.corrcoef(z, a[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(measured.accumulator.result()[0, plant.neurons], expected, atol=1e-6)
    assert expected[2] == pytest.approx(1) and expected[3] == pytest.approx(-1) and expected[0] > 0 > expected[1]


def test_mean_position_averages_the_prompt_tokens(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    from skillneurons.activations import ActivationRecorder

    with ActivationRecorder(qwen, last_positions=2) as recorder, torch.no_grad():
        qwen.model(torch.tensor([[5, 6, 7]]))
        mean = recorder.take()
    rows = []
    for length in (2, 3):
        with ActivationRecorder(qwen) as recorder, torch.no_grad():
            qwen.model(torch.tensor([[5, 6, 7][:length]]))
            rows.append(recorder.take())
    torch.testing.assert_close(mean, (rows[0] + rows[1]) / 2, atol=1e-6, rtol=1e-5)


def test_hooks_are_gone_after_a_pass(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    encoded = encode_examples(qwen, parity, parity_examples("discovery", 3), num_virtual_tokens=2)
    measure(qwen, parity, encoded, METRICS, initial_prompt(qwen, 2))
    assert not any(projection._forward_pre_hooks for projection in qwen.projections)


def test_attribute_gives_scores_and_a_top_table(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    prompt = initial_prompt(qwen, 3)
    found = sn.attribute(qwen, parity, metrics=[CONFIDENT, EVEN], prompt=prompt, discovery=40, heldout=30)
    assert found.scores["labels.even"].shape == (qwen.n_layers, qwen.d_ff)
    assert found.scores["labels.even"].dtype == np.float32
    top = found.top(5, "p_yes")
    assert list(top.columns) == ["layer", "neuron", "r", "r_heldout", "ci_low", "ci_high", "p_adjusted"]
    best = top.iloc[0]
    assert abs(best["r"]) == np.nanmax(np.abs(found.scores["p_yes"]))
    assert best["r_heldout"] == found.heldout["p_yes"][int(best["layer"]), int(best["neuron"])]
    with pytest.raises(sn.UserError, match=r"no column named 'p_yess'; did you mean 'p_yes'\?"):
        found.top(5, "p_yess")


def test_a_prepended_prompt_is_refused(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    prompt = initial_prompt(qwen, 3, placement="prepend")
    with pytest.raises(sn.UserError, match="a prompt placed before the input never sees it"):
        sn.attribute(qwen, parity, metrics=[EVEN], prompt=prompt)


def test_a_prepended_prompt_really_has_no_variance(qwen: sn.LanguageModel) -> None:
    """The reason of the refusal, seen in numbers: prompt tokens in front do not move with the input."""
    prompt = initial_prompt(qwen, 3, placement="prepend")
    rows = []
    for ids in ([5, 6, 7], [9, 8, 4]):
        seen: list[torch.Tensor] = []
        handle = qwen.projections[2].register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0][0, 2]))
        with torch.no_grad():
            qwen.model(inputs_embeds=torch.cat([prompt.embeddings[None], qwen.embed(torch.tensor([ids]))], dim=1))
        handle.remove()
        rows.append(seen[0])
    torch.testing.assert_close(rows[0], rows[1], atol=1e-6, rtol=1e-5)


def test_heldout_figure_keeps_the_sign_of_discovery() -> None:
    from skillneurons.cell_columns import signed_heldout_mean

    scores = np.array([[0.5, -0.8], [np.nan, 0.1]], dtype=np.float32)
    heldout = np.array([[-0.2, -0.6], [0.9, 0.3]], dtype=np.float32)
    top = top_neurons(scores, heldout, 2)
    assert [(row["layer"], row["neuron"]) for row in top] == [(0, 1), (0, 0)]
    assert signed_heldout_mean(top) == pytest.approx((0.6 - 0.2) / 2)


def row_of(metric: sn.Metric, columns: tuple[str, ...]) -> list[float]:
    output = sn.Output(text="yes", correct=1.0, target_log_prob=-0.1)
    return metric_row(metric, columns, sn.Example("e7", "p", "yes"), output)


def test_a_metric_may_leave_an_example_unscored() -> None:
    assert math.isnan(row_of(sn.Metric("m", lambda e, o: math.nan), ("m",))[0])


def test_a_metric_whose_needs_are_not_met_is_unscored() -> None:
    metric = sn.Metric("m", lambda e, o: o.choice_log_probs[0], needs=("choice_log_probs",))  # type: ignore[index]
    assert math.isnan(row_of(metric, ("m",))[0])


@pytest.mark.parametrize(
    ("metric", "columns", "message"),
    [
        (
            sn.Metric("m", lambda e, o: [1.0, 2.0]),  # type: ignore[arg-type,return-value]
            ("m",),
            "metric 'm', example 'e7': m must be one finite number or NaN, got [1.0, 2.0]",
        ),
        (
            sn.Metric("m", lambda e, o: 1 / 0),
            ("m",),
            "metric 'm', per_example, example 'e7': ZeroDivisionError: division by zero",
        ),
        (
            sn.Metric("m", lambda e, o: {"a": 1.0}, ("a", "b")),
            ("m.a", "m.b"),
            "metric 'm', example 'e7': returned other columns than declared (unexpected [], missing ['m.b'])",
        ),
        (
            sn.Metric("m", lambda e, o: 1.0, ("a", "b")),
            ("m.a", "m.b"),
            "metric 'm', example 'e7': returned float, but 2 columns are declared",
        ),
        (
            sn.Metric("m", lambda e, o: {"a": 1.0}),
            ("m",),
            "metric 'm', example 'e7': returned a mapping, but the metric declares no columns (Metric.columns)",
        ),
        (
            sn.Metric("m", lambda e, o: math.inf),
            ("m",),
            "metric 'm', example 'e7': m must be one finite number or NaN, got inf",
        ),
        (
            sn.Metric("m", lambda e, o: -1e120),
            ("m",),
            "metric 'm', example 'e7': m is -1e+120, beyond 1e+100; scale it, e.g. by its logarithm",
        ),
    ],
)
def test_a_metric_of_the_wrong_shape_is_named(metric: sn.Metric, columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(sn.CellError) as error:
        row_of(metric, columns)
    assert str(error.value) == message


def test_one_bad_metric_does_not_touch_the_others(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    bad = sn.Metric("bad", lambda e, o: 1 / (e.fields["n"] - 5))
    encoded = encode_examples(qwen, parity, parity_examples("discovery", 30), num_virtual_tokens=2)
    prompt = initial_prompt(qwen, 2)
    alone = measure(qwen, parity, encoded, {"labels": METRICS["labels"]}, prompt)
    both = measure(qwen, parity, encoded, {"bad": (bad, ("bad",)), "labels": METRICS["labels"]}, prompt)
    assert list(both.failures) == ["bad"] and "ZeroDivisionError" in str(both.failures["bad"])
    np.testing.assert_allclose(both.accumulator.result()[1], alone.accumulator.result()[0], atol=1e-12)


def test_accuracy_of_a_choice_is_balanced(qwen: sn.LanguageModel, parity: sn.Task) -> None:
    """Three yes of which two right, one no that is wrong: (2/3 + 0) / 2."""
    examples = [
        sn.Example(str(i), "p", target, choices=("yes", "no")) for i, target in enumerate(("yes", "yes", "yes", "no"))
    ]
    encoded = encode_examples(qwen, parity, examples, num_virtual_tokens=1)
    outputs = [sn.Output("", correct, 0.0) for correct in (1.0, 1.0, 0.0, 0.0)]
    value, stderr = accuracy(encoded, outputs)
    assert value == pytest.approx(1 / 3)
    assert stderr == pytest.approx(math.sqrt((2 / 9) / 3) / 2)


def test_input_last_with_a_prompt_is_refused(model_folder: Callable[[str], Path]) -> None:
    lm = sn.load_model(str(model_folder("qwen2")))
    prompt = initial_prompt(lm, 3)
    with pytest.raises(sn.UserError, match="reads the input without any prompt, but a prompt is given"):
        sn.attribute(lm, sn.get_task("arithmetic"), prompt=prompt, position="input_last")
