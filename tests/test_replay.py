"""Replayed changes against the plain model with a plain hook, one example at a time, nothing cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.changes import Change
from skillneurons.inputs import EncodedExample, encode_examples
from skillneurons.measurement import measure
from skillneurons.prefix import keeps_every_position
from skillneurons.prompt import initial_prompt
from skillneurons.reference import Reference, measure_reference
from skillneurons.replay import Replay

M = 4
NEURONS = (3, 20, 50, 60, 130)


@pytest.fixture(params=("qwen2", "llama", "gpt2"))
def lm(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> sn.LanguageModel:
    return sn.load_model(str(model_folder(request.param)), device="cpu")


def task_of(kind: str) -> sn.Task:
    grade = (lambda example, text: {"correct": float(len(text) > 3)}) if kind == "generation" else None
    follow = (lambda example, text: f"Again, {len(text)} letters.") if kind == "generation" else None
    return sn.Task(
        "parity", "1", lambda split: [], kind=kind, grade=grade, label_columns=(), max_new_tokens=5, follow_up=follow
    )


def encoded_of(lm: sn.LanguageModel, task: sn.Task, split: str = "heldout", n: int = 7) -> list[EncodedExample]:
    examples = parity_examples(split, n)
    if task.kind != "choice":
        examples = [dataclasses.replace(example, choices=None) for example in examples]
    else:  # answers of several tokens, so that answer positions exist
        examples = [
            dataclasses.replace(example, choices=("yes indeed", "no"), target=("yes indeed" if i % 2 else "no"))
            for i, example in enumerate(examples)
        ]
    return encode_examples(lm, task, examples, num_virtual_tokens=M)


class Plain:
    """The model as it is with a hook that changes activations by the stage of each position, sequences run whole."""

    def __init__(self, lm: sn.LanguageModel, reference: Reference, change: Change, positions: str, prompt: Any) -> None:
        self.lm, self.reference, self.change, self.positions, self.prompt = lm, reference, change, positions, prompt

    def log_probs(self, ids: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
        lm = self.lm
        parts = [lm.embed(torch.tensor([ids])), self.prompt.embeddings[None]]
        if answer:
            parts.append(lm.embed(torch.tensor([answer])))
        stages = ["input"] * len(ids) + ["prompt"] * M + ["answer"] * len(answer)
        with torch.no_grad(), self.hooked(stages):
            found: torch.Tensor = lm.model(inputs_embeds=torch.cat(parts, dim=1)).logits[0].log_softmax(-1)
        return found[len(ids) + M - 1 :]

    @contextmanager
    def hooked(self, stages: list[str]) -> Iterator[None]:
        def hook(layer: int) -> Any:
            def edit(_module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
                a = args[0].clone()
                counts = {"input": 0, "prompt": 0, "answer": 0}
                for t, stage in enumerate(stages):
                    place, counts[stage] = counts[stage], counts[stage] + 1
                    if self.positions not in (stage, "everywhere"):
                        continue
                    for i, flat in enumerate(self.change.neurons):
                        if flat // self.lm.d_ff == layer:
                            n = flat % self.lm.d_ff
                            a[0, t, n] = self.value(
                                stage, place if stage == "prompt" else 0, flat, i, float(a[0, t, n])
                            )
                return (a,)

            return edit

        handles = [p.register_forward_pre_hook(hook(layer)) for layer, p in enumerate(self.lm.projections)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def value(self, stage: str, place: int, flat: int, i: int, now: float) -> float:
        if self.change.mode == "zero":
            return 0.0
        if self.change.mode == "mean":
            return float(self.reference.mean[stage][place, flat])
        return now + self.change.amounts[i] * float(self.reference.sd[stage][place, flat])

    def score(self, row: EncodedExample, answer: tuple[int, ...]) -> float:
        found = self.log_probs(row.ids, answer)
        return sum(float(found[i, token]) for i, token in enumerate(answer))

    def write(self, ids: tuple[int, ...], limit: int) -> list[int]:
        written: list[int] = []
        for _ in range(limit):
            token = int(self.log_probs(ids, tuple(written))[-1].argmax())
            written.append(token)
            if token == self.lm.tokenizer.eos_token_id:
                break
        return written


def changes() -> list[Change]:
    return [
        Change(),
        Change(NEURONS, "mean"),
        Change(NEURONS[:2], "mean"),
        Change(NEURONS, "zero"),
        Change(NEURONS[1:4], "steer", (8.0, -8.0, 5.0)),
    ]


@pytest.mark.parametrize("positions", ["prompt", "answer", "everywhere"])
@pytest.mark.parametrize("kind", ["choice", "open", "generation"])
def test_equals_the_plain_model(lm: sn.LanguageModel, kind: str, positions: str) -> None:
    task, prompt = task_of(kind), initial_prompt(lm, M)
    rows = encoded_of(lm, task)
    reference = measure_reference(lm, encoded_of(lm, task, "discovery"), prompt, positions="everywhere")
    found = Replay(lm, task, rows, prompt, reference, positions, batch_size=3).outputs(changes())
    differing = 0
    for change, outputs in zip(changes(), found, strict=True):
        plain = Plain(lm, reference, change, positions, prompt)
        for row, output, intact in zip(rows, outputs, found[0], strict=True):
            assert output.target_log_prob == pytest.approx(plain.score(row, row.target), abs=2e-3)
            if kind == "choice":
                expected = [plain.score(row, choice) for choice in row.choices or ()]
                assert output.choice_log_probs == pytest.approx(expected, abs=2e-3)
            elif kind == "open":
                assert output.text == lm.decode(plain.write(row.ids, task.max_new_tokens))
            else:
                first = lm.decode(plain.write(row.ids, task.max_new_tokens))
                again = lm.encode(lm.dialogue((row.example.prompt, first, f"Again, {len(first)} letters.")))
                assert output.text == lm.decode(plain.write(tuple(again), task.max_new_tokens))
            differing += output.text != intact.text or abs(output.target_log_prob - intact.target_log_prob) > 0.05
    assert differing > 4  # the changes do something


def test_resampling_gives_each_example_one_donors_activations(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    rows, donors = encoded_of(lm, task), encoded_of(lm, task, "discovery", 1)
    reference = measure_reference(lm, donors, prompt, donors=True)
    every = tuple(range(lm.n_neurons))
    (outputs,) = Replay(lm, task, rows, prompt, reference).outputs([Change(every, "resample")])
    mean = dataclasses.replace(reference, mean={"prompt": reference.donors["prompt"][0].astype(np.float64)})
    (expected,) = Replay(lm, task, rows, prompt, mean).outputs([Change(every, "mean")])
    for one, other in zip(outputs, expected, strict=True):
        assert one.choice_log_probs == pytest.approx(other.choice_log_probs, abs=1e-5)


def test_donors_depend_on_the_seed_and_not_on_the_batch(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    rows = encoded_of(lm, task)
    reference = measure_reference(lm, encoded_of(lm, task, "discovery", 20), prompt, donors=True)
    change = Change(tuple(range(lm.n_neurons)), "resample")

    def run(batch_size: int, seed: int) -> list[float]:
        replay = Replay(lm, task, rows, prompt, reference, batch_size=batch_size, seed=seed)
        return [output.target_log_prob for output in replay.outputs([change])[0]]

    assert run(1, 0) == pytest.approx(run(64, 0), abs=1e-4)
    assert run(64, 1) != pytest.approx(run(64, 0), abs=1e-2)


def test_no_neuron_is_bit_for_bit_the_unchanged_model(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    rows = encoded_of(lm, task)
    reference = measure_reference(lm, rows, prompt)
    found = Replay(lm, task, rows, prompt, reference).outputs([Change(mode="zero"), Change(mode="mean")])
    assert found[0] == found[1]
    again = Replay(lm, task, rows, prompt, reference).outputs([Change(mode="zero"), Change(NEURONS, "zero")])
    assert again[0] == Replay(lm, task, rows, prompt, reference).outputs([Change(mode="zero"), Change((1,), "zero")])[0]


def test_reference_is_numpys_mean_and_sd(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("open"), initial_prompt(lm, M)
    rows = encoded_of(lm, task, "discovery")
    reference = measure_reference(lm, rows, prompt, positions="everywhere", donors=True, batch_size=2)
    seen: dict[str, list[np.ndarray]] = {"input": [], "prompt": [], "answer": []}
    for row in rows:
        kept: list[torch.Tensor] = []
        handles = [p.register_forward_pre_hook(lambda _m, args: kept.append(args[0][0])) for p in lm.projections]
        with torch.no_grad():
            parts = [lm.embed(torch.tensor([row.ids])), prompt.embeddings[None]]
            lm.model(inputs_embeds=torch.cat([*parts, lm.embed(torch.tensor([row.target[:-1]]))], dim=1))
        for handle in handles:
            handle.remove()
        whole = torch.cat(kept, dim=1).numpy()
        cut = len(row.ids)
        seen["input"].append(whole[:cut])
        seen["prompt"].append(whole[cut : cut + M])
        seen["answer"].append(whole[cut + M :])
    for stage, parts_of in seen.items():
        values = np.stack(parts_of) if stage == "prompt" else np.concatenate(parts_of)[:, None]
        np.testing.assert_allclose(reference.mean[stage], values.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(reference.sd[stage], values.std(axis=0), atol=1e-5)
    everything = np.concatenate([part for parts_of in seen.values() for part in parts_of])
    np.testing.assert_allclose(reference.size, np.abs(everything).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(reference.donors["prompt"], np.stack(seen["prompt"]), atol=1e-4)


def test_the_answer_stage_is_every_choices(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    rows = encoded_of(lm, task, "discovery", 5)
    reference = measure_reference(lm, rows, prompt, positions="answer", batch_size=2)
    whole = []
    for row in rows:
        for choice in row.choices or ():
            kept: list[torch.Tensor] = []
            hooks = [p.register_forward_pre_hook(lambda _m, args: kept.append(args[0][0])) for p in lm.projections]
            with torch.no_grad():
                parts = [lm.embed(torch.tensor([row.ids])), prompt.embeddings[None]]
                lm.model(
                    inputs_embeds=torch.cat([*parts, lm.embed(torch.tensor([choice[:-1]], dtype=torch.long))], dim=1)
                )
            for hook in hooks:
                hook.remove()
            whole.append(torch.cat(kept, dim=1)[len(row.ids) + M :].numpy())
    values = np.concatenate(whole)
    assert len(values) > len(rows)
    np.testing.assert_allclose(reference.mean["answer"][0], values.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(reference.sd["answer"][0], values.std(axis=0), atol=1e-5)


def test_a_donor_is_drawn_by_the_examples_name(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    rows = encoded_of(lm, task)
    reference = measure_reference(lm, encoded_of(lm, task, "discovery", 20), prompt, donors=True)
    change = Change(tuple(range(lm.n_neurons)), "resample")
    (whole,) = Replay(lm, task, rows, prompt, reference).outputs([change])
    (part,) = Replay(lm, task, rows[3:], prompt, reference).outputs([change])
    for one, other in zip(whole[3:], part, strict=True):
        assert one.choice_log_probs == pytest.approx(other.choice_log_probs, abs=1e-5)


def test_donors_are_the_same_examples_at_every_stage(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    examples = [
        dataclasses.replace(
            e, choices=("yes indeed", "no way") if i % 2 else ("y", "n"), target="yes indeed" if i % 2 else "y"
        )
        for i, e in enumerate(parity_examples("discovery", 6))
    ]
    rows = encode_examples(lm, task, examples, num_virtual_tokens=M)
    assert {len(row.target) > 1 for row in rows} == {True, False}
    found = measure_reference(lm, rows, prompt, positions="everywhere", donors=True)
    assert {len(part) for part in found.donors.values()} == {3}
    alone = measure_reference(lm, rows[3:4], prompt, positions="everywhere", donors=True)
    for stage, part in found.donors.items():
        np.testing.assert_allclose(part[1], alone.donors[stage][0], atol=1e-4)


def test_everywhere_where_no_answer_token_is_run(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    examples = [dataclasses.replace(e, choices=("y", "n"), target="y") for e in parity_examples("heldout", 5)]
    rows = encode_examples(lm, task, examples, num_virtual_tokens=M)
    reference = measure_reference(lm, rows, prompt, positions="everywhere", donors=True)
    assert set(reference.mean) == set(reference.donors) == {"input", "prompt"}
    for mode in ("mean", "resample"):
        intact, changed = Replay(lm, task, rows, prompt, reference, "everywhere").outputs(
            [Change(), Change(NEURONS, mode)]
        )
        assert intact[0].choice_log_probs != pytest.approx(changed[0].choice_log_probs, abs=1e-6)
    longer = encoded_of(lm, task)  # its answers have tokens of which nothing is known
    with pytest.raises(sn.CellError, match="what neurons normally do at answer tokens was not measured"):
        Replay(lm, task, longer, prompt, reference, "everywhere").outputs([Change(NEURONS, "mean")])


@pytest.mark.parametrize("kind", ["choice", "open", "generation"])
def test_logits_that_break_in_the_answer_are_refused(lm: sn.LanguageModel, kind: str) -> None:
    task, prompt = task_of(kind), initial_prompt(lm, M)
    rows = encoded_of(lm, task)
    reference = measure_reference(lm, encoded_of(lm, task, "discovery"), prompt, positions="answer")
    huge = Change(tuple(range(lm.n_neurons)), "steer", (1e38,) * lm.n_neurons)
    with pytest.raises(sn.CellError, match="makes the logits non-finite"):
        Replay(lm, task, rows, prompt, reference, "answer").outputs([huge])


@pytest.mark.parametrize("kind", ["choice", "open", "generation"])
def test_a_sliding_window_is_the_plain_models(kind: str, tmp_path: Path) -> None:
    """The cache of a sliding window holds the last positions alone and cannot be cropped."""
    from skillneurons.model_source import pocket_folder
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(pocket_folder())
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
        initializer_range=0.3,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    sliding = sn.load_model(str(tmp_path), device="cpu")
    task, prompt = task_of(kind), initial_prompt(sliding, M)
    rows = encoded_of(sliding, task)
    assert max(len(row.ids) for row in rows) + M > 6
    assert keeps_every_position(sliding, 5) and not keeps_every_position(sliding, 6)
    if kind == "open":  # a pass over several lengths too
        for row, output in zip(rows, measure(sliding, task, rows, {}, prompt).outputs, strict=True):
            plain = Plain(sliding, None, Change(), "prompt", prompt)
            assert output.text == sliding.decode(plain.write(row.ids, task.max_new_tokens))
    reference = measure_reference(sliding, encoded_of(sliding, task, "discovery"), prompt, positions="everywhere")
    found = Replay(sliding, task, rows, prompt, reference, "prompt", batch_size=3).outputs(changes())
    for change, outputs in zip(changes(), found, strict=True):
        plain = Plain(sliding, reference, change, "prompt", prompt)
        for row, output in zip(rows, outputs, strict=True):
            assert output.target_log_prob == pytest.approx(plain.score(row, row.target), abs=2e-3)
            if kind == "open":
                assert output.text == sliding.decode(plain.write(row.ids, task.max_new_tokens))


def test_what_cannot_be_changed_says_why(lm: sn.LanguageModel) -> None:
    task, prompt = task_of("choice"), initial_prompt(lm, M)
    one_token = encode_examples(
        lm,
        task,
        [dataclasses.replace(e, choices=("y", "n"), target="y") for e in parity_examples("heldout", 3)],
        num_virtual_tokens=M,
    )
    with pytest.raises(sn.UserError, match="no position of that kind is run, because every answer is one token"):
        measure_reference(lm, one_token, prompt, positions="answer")
    with pytest.raises(sn.UserError, match="there is no prompt .*use causal.positions: everywhere"):
        measure_reference(lm, one_token, None)
    reference = measure_reference(lm, one_token, prompt)
    huge = Change(tuple(range(lm.n_neurons)), "steer", (1e38,) * lm.n_neurons)
    with pytest.raises(sn.CellError, match=r"steering by 1e\+38 sd makes the logits non-finite; use a smaller factor"):
        Replay(lm, task, one_token, prompt, reference).outputs([huge])
    with pytest.raises(sn.UserError, match="needs donors; measure the reference with donors=True"):
        Replay(lm, task, one_token, prompt, reference).outputs([Change((1,), "resample")])
