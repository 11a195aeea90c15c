"""A planted cause is called a cause and a planted correlate a correlate; the figures against definitions by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import skillneurons as sn
from parity_task import parity_examples
from planted_cause import CAUSE, CORRELATE, save_planted
from scipy import stats
from skillneurons.ablation import compare, dose_curve, single_neurons, verdict
from skillneurons.causes import _bed
from skillneurons.changes import Change
from skillneurons.controls import matched_sets, matched_singles
from skillneurons.effects import Behaviour, balanced, effect, effect_interval
from skillneurons.gating import Skill, skills_on_demand, train_gate
from skillneurons.inputs import encode_examples
from skillneurons.interaction import joint_ablation, overlap
from skillneurons.model_source import pocket_folder
from skillneurons.neutral import neutral_text
from skillneurons.prompt import initial_prompt
from skillneurons.reference import measure_reference
from skillneurons.steering import neutral_loss, page_trend, steering_curve, trend_of
from skillneurons.testbed import Testbed

TASK = sn.Task(
    "parity",
    "1",
    lambda split, *, limit=None, seed=0: parity_examples(split, limit or 60),
    chance=0.5,
    label_columns=("even",),
)
CHOSE_YES = sn.Metric("chose_yes", lambda example, output: output.choice_log_probs[0] - output.choice_log_probs[1])


@pytest.fixture(scope="module", params=["qwen2", "gpt2"])
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[sn.LanguageModel, sn.SoftPrompt, sn.Attribution]:
    from transformers import AutoTokenizer

    folder = save_planted(
        tmp_path_factory.mktemp("planted"), request.param, AutoTokenizer.from_pretrained(pocket_folder())
    )
    lm = sn.load_model(str(folder), device="cpu")
    prompt = initial_prompt(lm, 3)
    found = sn.attribute(
        lm, TASK, metrics=[CHOSE_YES], prompt=prompt, discovery=60, heldout=60, permutations=0, bootstrap=0
    )
    return lm, prompt, found


def test_cause_and_correlate_follow_the_metric_alike(planted: tuple) -> None:
    _, _, found = planted
    scores = np.abs(found.scores["chose_yes"])
    assert scores[CAUSE] > 0.7 and scores[CORRELATE] == pytest.approx(scores[CAUSE], abs=1e-6)


def test_the_verdict_is_right_for_both(planted: tuple) -> None:
    lm, prompt, found = planted
    bed = _bed(lm, TASK, found, "chose_yes", prompt, CHOSE_YES, "mean", "prompt", 64, 0)
    both = [layer * lm.d_ff + neuron for layer, neuron in (CAUSE, CORRELATE)]
    cause, correlate = single_neurons(bed, both, "chose_yes", controls=20)
    assert (cause.verdict, correlate.verdict) == ("cause", "correlate")
    assert cause.outcome == correlate.outcome == "moved"
    assert cause.outcomes["moved"].p == pytest.approx(1 / 21) and cause.outcomes["moved"].percentile == 100
    assert correlate.outcomes["moved"].effect < 1e-5 and cause.outcomes["moved"].effect > 0.5
    assert correlate.outcomes["log_prob"].effect == pytest.approx(0, abs=1e-5)


def test_doses_and_steering_of_the_planted_cause(planted: tuple) -> None:
    lm, prompt, found = planted
    d_ff, n_neurons = lm.d_ff, lm.n_neurons
    first = [layer * d_ff + neuron for layer, neuron in (CAUSE, CORRELATE)]
    ranked = [*first, *(n for n in range(n_neurons) if n not in first)]
    bed = _bed(lm, TASK, found, "chose_yes", prompt, CHOSE_YES, "mean", "prompt", 64, 0)
    two, five, every = dose_curve(bed, ranked, "chose_yes", [n_neurons, 5, 2], random_sets=19)
    assert two.k == 2 and two.verdict == "cause" and two.outcomes["moved"].percentile == 100
    assert two.low < two.outcomes["moved"].effect < two.high
    assert five.size > 0 and five.random_size > 0
    assert every.outcomes is None and f"{d_ff} of the {d_ff} neurons of layer 0 are in the skill set" in every.reason
    sign = float(found.scores["chose_yes"][CAUSE])
    curve = steering_curve(bed, first[:1], [sign], "chose_yes", [-2, 2, -1, 1])
    assert curve.alphas == (-2, -1, 0, 1, 2) and curve.followed == "metric"
    assert curve.trend == "rising" and list(curve.metric) == sorted(curve.metric)
    assert curve.neutral_loss[2] == neutral_loss(lm, [], np.empty(0))
    assert json.loads(json.dumps(curve.to_json()))["trend"] == "rising"


def test_what_judges_is_fixed_before_any_set_is_looked_at(planted: tuple) -> None:
    lm, prompt, found = planted
    label = sn.Metric("label", lambda example, output: float(example.labels["even"]))
    silent = Change((CORRELATE[0] * lm.d_ff + CORRELATE[1],), "zero")
    for metric, outcome in ((CHOSE_YES, "moved"), (label, "log_prob")):
        bed = _bed(lm, TASK, found, metric.name, prompt, metric, "mean", "prompt", 64, 0)
        bed.behaviours([silent])  # moves nothing
        assert bed.outcome_of(metric.name) == outcome
        again = bed.fresh()
        again.behaviours([Change((CAUSE[0] * lm.d_ff + CAUSE[1],), "steer", (5.0,))])
        assert again.outcome_of(metric.name) == outcome


def test_a_factor_too_large_costs_the_others_nothing(planted: tuple) -> None:
    lm, prompt, found = planted
    bed = _bed(lm, TASK, found, "chose_yes", prompt, CHOSE_YES, "mean", "prompt", 64, 0)
    chosen = [CAUSE[0] * lm.d_ff + CAUSE[1], 3]
    curve = steering_curve(bed, chosen, [1.0, 1.0], "chose_yes", [-1, 1, 1e38])
    assert curve.alphas == (-1, 0, 1) and list(curve.refused) == ["1e+38"]
    assert "steering by 1e+38 sd makes the logits non-finite; use a smaller factor" in curve.refused["1e+38"]
    plain = steering_curve(bed.fresh(), chosen, [1.0, 1.0], "chose_yes", [-1, 1])
    assert curve.metric == pytest.approx(plain.metric, abs=1e-5)


def test_a_set_against_itself_and_bad_input(planted: tuple) -> None:
    lm, prompt, found = planted
    common = {"prompt": prompt, "metric": CHOSE_YES}
    n = lm.n_neurons
    with pytest.raises(sn.UserError, match=f"K = {n + 1}: {n} neurons are ranked for 'chose_yes'; ask for 1 to that"):
        sn.ablation_test(lm, TASK, found, "chose_yes", k=[n + 1], **common)
    assert [dose.k for dose in sn.ablation_test(lm, TASK, found, "chose_yes", k=[3, 1], random_sets=2, **common)] == [
        1,
        3,
    ]
    assert sn.steering_test(lm, TASK, found, "chose_yes", k=2, alphas=[1], **common).alphas == (0, 1)
    with pytest.raises(sn.UserError, match="no column named 'p'; known: chose_yes"):
        sn.steering_test(lm, TASK, found, "p", **common)
    with pytest.raises(sn.UserError, match="every factor must be finite"):
        sn.steering_test(lm, TASK, found, "chose_yes", alphas=[math.inf], **common)
    with pytest.raises(sn.CellError, match="makes the logits non-finite; use a smaller factor"):
        sn.steering_test(lm, TASK, found, "chose_yes", alphas=[1e38], k=50, **common)
    holes = dataclasses.replace(
        found, scores={"chose_yes": np.where(np.arange(n) < 4, 0.5, np.nan).reshape(-1, lm.d_ff)}
    )
    for test in (sn.ablation_test, sn.steering_test):
        with pytest.raises(sn.UserError, match="K = 5: 4 neurons are ranked for 'chose_yes'"):
            test(lm, TASK, holes, "chose_yes", k=5 if test is sn.steering_test else [5], **common)
    with pytest.raises(sn.UserError, match="K = 10: 4 neurons are ranked"):
        sn.interactions(lm, TASK, holes, ["chose_yes"], prompt=prompt)
    with pytest.raises(sn.UserError, match="no neuron L09.N0000"):
        sn.interactions(lm, TASK, found, {"a": [(9, 0)], "b": [(0, 0)]}, prompt=prompt)
    with pytest.raises(sn.UserError, match="interactions are between sets, but there is 1"):
        sn.interactions(lm, TASK, found, ["chose_yes"], prompt=prompt)


def test_two_halves_of_one_skill_and_two_unrelated_sets(planted: tuple) -> None:
    lm, prompt, found = planted
    shared = sn.interactions(
        lm, TASK, found, {"cause": [CAUSE], "both": [CAUSE, CORRELATE], "other": [(0, 1)]}, prompt=prompt
    )
    first, second, _ = shared.overlaps
    assert (first.shared, first.jaccard) == (1, 0.5) and first.p == pytest.approx(2 / lm.n_neurons)
    assert (second.shared, second.p) == (0, 1.0)
    joint = shared.joints[0]  # the union is one of the two, and their common part is the other: nothing is in excess
    assert joint.excess == pytest.approx(0, abs=1e-6) and joint.kind == "undecided"


def behaviour(correct: list[float], values: list[float], log_prob: list[float] | None = None) -> Behaviour:
    n = len(correct)
    return Behaviour(
        np.array(correct, dtype=float),
        np.array(log_prob or [0.0] * n),
        np.array(values, dtype=float)[:, None],
        np.array([0, 0, 0, 1] * (n // 4)),
        np.arange(n) // 2,
    )


def test_effects_by_hand() -> None:
    before = behaviour([1, 1, 1, 0], [1.0, 3.0, 5.0, 7.0], [-1, -2, -3, -4])
    after = behaviour([1, 1, 0, 0], [1.0, 3.0, 1.0, 7.0], [-1, -2, -7, -4])
    assert before.accuracy == pytest.approx(0.5)  # class 0: 3 of 3, class 1: 0 of 1
    assert effect(before, after, None, "accuracy") == pytest.approx((1 / 3 + 0) / 2)
    assert effect(before, after, None, "log_prob") == pytest.approx(1.0)
    assert effect(before, after, 0, "metric") == pytest.approx(-1.0)
    assert effect(before, after, 0, "moved") == pytest.approx(2 / np.std([1, 3, 5, 7]))
    holes = behaviour([1, 1, math.nan, 0], [1.0, math.nan, 5.0, 7.0])
    assert effect(before, holes, None, "accuracy") == pytest.approx(0.0)
    assert effect(before, holes, 0, "metric") == pytest.approx(0.0)
    assert math.isnan(balanced(np.array([math.nan]), np.array([0])))
    assert math.isnan(effect(behaviour([1] * 4, [2.0] * 4), after, 0, "moved"))  # the column does not vary


def test_interval_draws_groups() -> None:
    rng = np.random.default_rng(0)
    lost = np.repeat(rng.normal(0.3, 1, size=100), 2)  # both rows of a group alike
    before = behaviour([1] * 200, [0.0] * 200, [0.0] * 200)
    after = behaviour([1] * 200, [0.0] * 200, list(-lost))
    low, high = effect_interval(before, after, None, "log_prob", resamples=2000, seed=0)
    half = 1.96 * lost[::2].std() / math.sqrt(100)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1) and low < lost.mean() < high
    few = effect_interval(behaviour([1] * 8, [0.0] * 8), behaviour([1] * 8, [1.0] * 8), None, "accuracy")
    assert all(map(math.isnan, few))


def test_comparison_and_verdict_by_hand() -> None:
    found = compare(3.0, [1.0, 2.0, 3.0, 6.0])
    assert (found.random, found.percentile, found.p) == (3.0, 62.5, pytest.approx(3 / 5))
    assert found.z == pytest.approx(0.0) and found.random_sd == pytest.approx(np.std([1, 2, 3, 6], ddof=1))
    shaken = [0.1 + i * 2**-56 for i in range(20)]  # equal but for rounding
    close = compare(0.1, shaken)
    assert (close.z, close.random_sd, close.percentile, close.p) == (None, 0.0, 50.0, 1.0)
    assert verdict(0.1 + 2**-50, 0.05, 0.2, shaken, signed=True) == "undecided"
    assert compare(1.0, [0.0, 0.0]).z is None and compare(math.nan, [1.0]).p is None


CHANCE = [i / 19 for i in range(20)]
AROUND = [value - 0.5 for value in CHANCE]


@pytest.mark.parametrize(
    ("figures", "others", "signed", "told"),
    [
        ((2.0, 1.5, 2.5), CHANCE, False, "cause"),
        ((2.0, -0.1, 4.0), CHANCE, False, "undecided"),  # its interval holds 0
        ((2.0, 0.4, 4.0), CHANCE, False, "undecided"),  # or the mean of the random sets, 0.5
        ((0.3, 0.1, 0.5), CHANCE, False, "correlate"),
        ((0.3, 0.1, 1.5), CHANCE, False, "undecided"),
        ((0.3, 0.1, 18 / 19), CHANCE, False, "correlate"),  # the second highest of 20: one in 20 lies above
        ((0.3, 0.1, 18.1 / 19), CHANCE, False, "undecided"),
        ((2.0, 1.5, 2.5), CHANCE[:18], False, "undecided"),  # 18 random sets cannot reach p = 0.05
        ((math.nan, 0.0, 0.0), CHANCE, False, "undecided"),
        ((0.0, 0.0, 0.0), [0.0] * 20, False, "undecided"),  # nothing was moved by any set
        ((0.0, 0.0, 0.0), CHANCE, False, "undecided"),  # nor by one of them: it may be that these examples cannot tell
        ((0.0, 0.0, 0.0), [0.1, *CHANCE[1:]], False, "correlate"),  # every random set moves something, this one nothing
        ((-2.0, -2.5, -1.5), AROUND, True, "hinders"),
        ((-2.0, -4.0, 0.1), AROUND, True, "undecided"),
        ((-0.1, -0.3, 0.2), AROUND, True, "correlate"),
        ((-0.3, -0.6, 0.2), AROUND, True, "undecided"),  # it may hinder more than random sets do
        ((2.0, 1.5, 2.5), AROUND, True, "cause"),
        ((0.05, 0.01, 0.1), [0.2 + value for value in CHANCE], False, "correlate"),  # moved has no sign: less is less
    ],
)
def test_verdict_by_hand(figures: tuple[float, float, float], others: list[float], signed: bool, told: str) -> None:
    assert verdict(*figures, others, signed=signed) == told


def test_random_sets_match_layer_and_size() -> None:
    rng = np.random.default_rng(0)
    size = rng.exponential(size=3 * 200)
    strong = [int(n) for n in np.argsort(-size)[:12]]
    sets = matched_sets(strong, size, 200, 50, seed=1)
    layers = np.bincount(np.array(strong) // 200, minlength=3).tolist()
    for one in sets:
        assert len(set(one)) == 12 and not set(one) & set(strong)
        assert np.bincount(np.array(one) // 200, minlength=3).tolist() == layers
    matched = np.mean([size[list(one)].mean() for one in sets])
    assert matched > 2 * size.mean()  # a draw without matching would have the mean of all
    assert sets == matched_sets(strong[::-1], size, 200, 50, seed=1) != matched_sets(strong, size, 200, 50, seed=2)
    assert len(set(sets)) == 50
    with pytest.raises(
        sn.CellError, match="150 of the 200 neurons of layer 0 are in the skill set, and only 50 others"
    ):
        matched_sets(range(150), size, 200, 2)


@pytest.mark.parametrize("k", [1, 2])
def test_small_sets_are_different_ones_too(k: int) -> None:
    size = np.random.default_rng(0).exponential(size=200)
    sets = matched_sets(range(k), size, 200, 99, seed=0)
    assert len(set(sets)) == 99 and all(len(one) == k and not set(one) & set(range(k)) for one in sets)
    assert sets == matched_sets(range(k), size, 200, 99, seed=0) != matched_sets(range(k), size, 200, 99, seed=1)
    few = matched_sets(range(k), size[:8], 8, 99, seed=0)
    assert len(set(few)) == len(few) == math.comb(8 - k, k)  # the layer holds no more
    nearest = np.argsort(np.abs(size[1:] - size[0]))[:20] + 1
    for seed in range(20):  # 20 sets of one: the 20 nearest
        assert {n for (n,) in matched_sets([0], size, 200, 20, seed=seed)} == set(nearest.tolist())


def test_all_sets_are_found_where_the_layers_hold_few() -> None:
    size = np.concatenate([np.geomspace(1e-9, 1e9, 9), np.linspace(1, 2, 5)])  # draws by nearness are very uneven
    sets = matched_sets([0, 1, 9], np.append(size, np.ones(4)), 9, 10_000, seed=0)
    assert len(set(sets)) == len(sets) == math.comb(7, 2) * 8


def test_singles_are_the_nearest_of_the_layer() -> None:
    size = np.array([5.0, 1.0, 4.0, 4.9, 9.0, 0.0, 5.2, 2.0])
    assert matched_singles([0], size, 4, 2) == {0: (3, 2)}
    assert matched_singles([0, 6], size, 4, 9) == {0: (3, 2, 1), 6: (7, 4, 5)}
    assert matched_singles([0, 2], size, 4, 1) == {0: (3,), 2: (3,)}  # each has its own nearest; neither is the other's


def test_page_trend_is_scipys_on_group_means() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 2)
    values = rng.normal(size=(60, 5)) + 0.4 * np.arange(5)
    means = values.reshape(30, 2, 5).mean(axis=1)
    rising, falling = page_trend(values, groups)
    assert rising == stats.page_trend_test(means, method="asymptotic").pvalue < 0.01
    assert falling > 0.9
    assert all(map(math.isnan, page_trend(np.zeros((60, 5)), groups)))
    assert all(map(math.isnan, page_trend(3 + 1e-8 * values, groups)))  # rounding of a float32 model is no trend
    ps, up, arch = ((0.03, 0.97), (0.02, 0.98), (0.99, 0.01)), [1.0, 2.0, 3.0], [1.0, 2.0, 0.5]
    assert [trend_of(*p, (-1.0, 0.0, 1.0), up) for p in ps] == ["none", "rising", "none"]  # ranks against the ends
    assert [trend_of(*p, (-1.0, 0.0, 1.0), up[::-1]) for p in ps] == ["none", "none", "falling"]
    assert [trend_of(*p, (-1.0, 0.0, 1.0), arch) for p in ps] == ["none", "bent", "bent"]


def test_overlap_by_hand() -> None:
    found = overlap("a", [1, 2, 3], "b", [3, 4], 10)
    assert (found.shared, found.chance, found.jaccard) == (1, 0.6, 0.25)
    assert found.p == pytest.approx(1 - math.comb(7, 2) / math.comb(10, 2))
    with pytest.raises(sn.UserError, match="a set is empty"):
        overlap("a", [], "b", [1], 10)


class Known(Testbed):
    """Answers with behaviours that are given."""

    def __init__(self, known: dict[Change, Behaviour]) -> None:
        self._known = known

    def behaviours(self, changes: list[Change], progress: object = None) -> list[Behaviour]:
        return [self._known[change] for change in changes]


@pytest.mark.parametrize(("both", "kind"), [(3.0, "more than the sum"), (1.0, "less than the sum"), (2.0, "undecided")])
def test_joint_ablation_by_hand(both: float, kind: str) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=40)

    def lost(amount: float) -> Behaviour:
        shaken = noise * (amount == both)
        return behaviour([1] * 40, [0.0] * 40, list(-amount + shaken))

    known = {Change(): lost(0), Change((1,)): lost(1.0), Change((2,)): lost(1.0), Change((1, 2)): lost(both)}
    (joint,) = joint_ablation(Known(known), {"a": [1], "b": [2]})
    assert joint.kind == kind
    assert joint.excess == pytest.approx(both - 2.0, abs=0.05) and joint.low < joint.excess < joint.high


def test_the_gate_recognises_and_refuses() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 12)).astype(np.float32)
    a[:30, 3] += 4
    gate = train_gate(a, ["sums"] * 30 + ["texts"] * 30)
    fresh = rng.normal(size=(40, 12))
    fresh[:20, 3] += 4
    right = [x == y for x, y in zip(gate.recognise(fresh), ["sums"] * 20 + ["texts"] * 20, strict=True)]
    assert np.mean(right) > 0.9
    assert (train_gate(a, ["sums"] * 30 + ["texts"] * 30).weights == gate.weights).all()
    with pytest.raises(sn.UserError, match="a gate chooses between skills, but there is only sums; give two or more"):
        train_gate(a, ["sums"] * 60)


def test_skills_on_demand_compares_the_policies(planted: tuple) -> None:
    lm, prompt, _ = planted
    skills = {}
    for name, text in (("parity", "{}"), ("shout", "PLEASE TELL ME NOW: {} YES OR NO, ONE WORD!")):
        examples = {
            split: [
                sn.Example(e.id, text.format(e.prompt), e.target, choices=e.choices) for e in parity_examples(split, 24)
            ]
            for split in ("train", "heldout")
        }
        encoded = {s: encode_examples(lm, TASK, rows, num_virtual_tokens=3) for s, rows in examples.items()}
        reference = measure_reference(lm, encoded["train"], prompt)
        neurons = (CAUSE[0] * lm.d_ff + CAUSE[1],)
        skills[name] = Skill(TASK, prompt, encoded["train"], encoded["heldout"], reference, neurons, (1.0,))
    found = skills_on_demand(lm, skills, alpha=3.0)
    assert found.recognised["mean"] > 0.9 and set(found.recognised) == {"parity", "shout", "mean"}
    assert set(found.policies) == {
        *("never", "always parity", "always shout", "gate", "oracle", "gate + boost", "oracle + boost")
    }
    assert found.policies["gate"] == found.policies["oracle"] == found.policies["always parity"]  # one prompt for both
    boosted = skills_on_demand(lm, skills, alpha=0.0).policies
    assert boosted["oracle + boost"] == boosted["oracle"]  # a push by nothing
    assert all(0 <= value <= 1 for policy in found.policies.values() for value in policy.values())


def test_neutral_text_is_there_and_its_loss_is_the_plain_models(planted: tuple) -> None:
    import torch

    lm, _, _ = planted
    assert len(neutral_text("english")) >= 10
    total, count = 0.0, 0
    with torch.no_grad():
        for line, _ in neutral_text("english"):
            ids = torch.tensor([lm.encode(line)])
            loss = lm.model(input_ids=ids, labels=ids).loss
            total, count = total + float(loss) * (ids.shape[1] - 1), count + ids.shape[1] - 1
    assert neutral_loss(lm, [], np.empty(0)) == pytest.approx(total / count, abs=1e-4)


def test_a_continuation_alone_is_scored_and_a_file_is_refused_with_its_reason(planted: tuple, tmp_path: Path) -> None:
    import torch

    lm, _, _ = planted
    own = tmp_path / "mine.txt"
    own.write_text("The sky is\t blue today\n\n")
    first, tail = lm.encode("The sky is"), lm.encode_answer(" blue today")
    with torch.no_grad():
        log_probs = lm.model(input_ids=torch.tensor([first + tail])).logits[0].log_softmax(-1)
    expected = -np.mean([float(log_probs[len(first) - 1 + i, token]) for i, token in enumerate(tail)])
    assert neutral_loss(lm, [], np.empty(0), str(own)) == pytest.approx(expected, abs=1e-4)
    assert all(continuation for _, continuation in neutral_text("pocket"))
    own.write_text("\n")
    with pytest.raises(sn.UserError, match="the file holds no line"):
        neutral_text(str(own))
    with pytest.raises(sn.UserError, match="cannot be read .*; give a text file, or one of english, pocket"):
        neutral_text(str(tmp_path / "none.txt"))


def test_the_planted_model_is_saved_as_any_other(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = save_planted(tmp_path, "qwen2", AutoTokenizer.from_pretrained(pocket_folder()))
    assert (folder / "model.safetensors").exists()
