"""Texts against the plain model: greedy, drawn, and in a second turn over padded rows."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.generation import Sampling, generate, second_turn
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.measurement import measure
from skillneurons.outputs import answer
from skillneurons.prefix import keeps_every_position, run_prefix
from skillneurons.prompt import SoftPrompt, initial_prompt

QUESTIONS = [sn.Example(str(i), f"Write about {'x ' * i}knots.", "well") for i in (1, 1, 3, 5)]
STEPS = 7


def plain(lm: sn.LanguageModel, text: str, prompt: SoftPrompt | None) -> list[int]:
    """Write greedily with the plain model, one row, no cache, no padding."""
    embedded = lm.embed(torch.tensor([lm.encode(text)]))
    if prompt is not None:
        parts = [embedded, prompt.embeddings[None]]
        embedded = torch.cat(parts if prompt.placement == "append" else parts[::-1], dim=1)
    written: list[int] = []
    with torch.no_grad():
        while len(written) < STEPS:
            token = int(lm.model(inputs_embeds=embedded).logits[0, -1].argmax())
            if token == lm.tokenizer.eos_token_id:
                break
            written.append(token)
            embedded = torch.cat([embedded, lm.embed(torch.tensor([[token]]))], dim=1)
    return written


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_texts_of_several_lengths_are_written_together(tiny: sn.LanguageModel, batch_size: int) -> None:
    """Inputs run by length, their caches side by side, equal one row alone; a window too small keeps lengths apart."""
    task = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=STEPS)
    prompt = initial_prompt(tiny, 3)
    examples = [sn.Example(str(i), one.prompt, one.target) for i, one in enumerate(QUESTIONS)]
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=3)
    assert len({len(row.ids) for row in encoded}) == 3
    metric = sn.Metric("margin", lambda example, output: output.margin)
    applied = {"margin": (metric, ("margin",))}
    found = measure(tiny, task, encoded, applied, prompt, batch_size=batch_size, keep_rows=True)
    alone = [measure(tiny, task, [row], applied, prompt, keep_rows=True) for row in encoded]
    for i, one in enumerate(alone):
        assert found.outputs[i].text == one.outputs[0].text == tiny.decode(plain(tiny, encoded[i].text, prompt))
        assert found.values[i] == pytest.approx(one.values[0], abs=1e-4)
        assert found.outputs[i].target_log_prob == pytest.approx(one.outputs[0].target_log_prob, abs=1e-3)
        assert found.rows is not None and one.rows is not None
        every = np.arange(tiny.n_neurons)
        np.testing.assert_allclose(found.rows.of(every)[i], one.rows.of(every)[0], rtol=1e-3, atol=1e-4)
    assert keeps_every_position(tiny, 200)


def follow_up(example: sn.Example, text: str) -> str:
    return "Improve it."


def two_turns() -> sn.Task:
    return sn.Task(
        "t",
        "1",
        parity_examples,
        kind="generation",
        max_new_tokens=STEPS,
        grade=lambda example, text: {"correct": 1.0},
        follow_up=follow_up,
    )


def texts(lm: sn.LanguageModel, task: sn.Task, prompt: SoftPrompt | None, batch_size: int, **more: object) -> list[str]:
    m = prompt.num_virtual_tokens if prompt else 0
    examples = [sn.Example(str(i), one.prompt, one.target) for i, one in enumerate(QUESTIONS)]
    found = {}
    for rows in equal_length_batches(encode_examples(lm, task, examples, num_virtual_tokens=m), batch_size):
        outputs, _ = answer(lm, task, rows, prompt, **more)  # type: ignore[arg-type]
        found |= {row.index: output.text for row, output in zip(rows, outputs, strict=True)}
    return [found[i] for i in range(len(examples))]


@pytest.mark.parametrize("placement", [None, "append", "prepend"])
def test_the_second_turn_reads_the_whole_dialogue(tiny: sn.LanguageModel, placement: str | None) -> None:
    prompt = initial_prompt(tiny, 3, seed=1, placement=placement) if placement else None
    expected = []
    for one in QUESTIONS:
        draft = tiny.decode(plain(tiny, one.prompt, prompt))
        expected.append(tiny.decode(plain(tiny, f"{one.prompt}\n{draft}\nImprove it.", prompt)))
    assert texts(tiny, two_turns(), prompt, 4) == expected
    assert texts(tiny, two_turns(), prompt, 1) == expected


def test_a_padded_batch_scores_as_each_row_alone(tiny: sn.LanguageModel) -> None:
    rows = encode_examples(tiny, two_turns(), QUESTIONS, num_virtual_tokens=2)
    prompt = initial_prompt(tiny, 2, seed=0)
    together = run_prefix(tiny, rows, prompt)
    assert together.mask is not None and together.mask[0].tolist().count(0) > 0
    for i, row in enumerate(rows):
        alone = run_prefix(tiny, [row], prompt)
        assert alone.mask is None
        torch.testing.assert_close(together.log_probs[i], alone.log_probs[0], atol=1e-4, rtol=1e-4)


def test_no_second_turn_where_the_task_asks_for_none(qwen: sn.LanguageModel) -> None:
    once = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=STEPS, follow_up=lambda example, text: None)
    assert texts(qwen, once, None, 4) == [qwen.decode(plain(qwen, one.prompt, None)) for one in QUESTIONS]


def test_drawn_texts_depend_on_seed_and_generation_alone(qwen: sn.LanguageModel) -> None:
    task = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=STEPS)
    first = texts(qwen, task, None, 4, sampling=Sampling(1.0, 0, 0))
    assert first == texts(qwen, task, None, 1, sampling=Sampling(1.0, 0, 0))  # whatever the batch
    assert first != texts(qwen, task, None, 4, sampling=Sampling(1.0, 0, 1))
    assert first != texts(qwen, task, None, 4, sampling=Sampling(1.0, 1, 0))
    assert texts(qwen, task, None, 4, sampling=Sampling(0.0, 0, 0)) == texts(qwen, task, None, 4)


def test_the_second_turn_of_a_drawn_text_has_numbers_of_its_own(qwen: sn.LanguageModel) -> None:
    """At a temperature at which every token is as likely, two turns with the same numbers would be the same text."""
    seen: list[str] = []

    def follow(example: sn.Example, text: str) -> str:
        seen.append(text)
        return "Improve it."

    task = replace(two_turns(), follow_up=follow)
    second = texts(qwen, task, None, 4, sampling=Sampling(1e6, 0, 0))
    assert set(second).isdisjoint(seen) and all(second)


def test_a_drawn_token_is_the_one_its_number_falls_on(qwen: sn.LanguageModel) -> None:
    """Against numpy-free arithmetic: cumulate the tempered probabilities and look the number up."""
    task = sn.Task("t", "1", parity_examples, kind="open")
    rows = encode_examples(qwen, task, QUESTIONS[:2], num_virtual_tokens=0)
    prefix = run_prefix(qwen, rows, None)
    shares = (prefix.log_probs.double() / 0.5).softmax(-1)
    expected = []
    for row, share in zip(rows, shares.tolist(), strict=True):
        number, token = random.Random(f"generation/3/2/{row.example.id}").random(), 0
        while number >= share[token]:
            number, token = number - share[token], token + 1
        expected.append(token)
    found = generate(qwen, prefix, 1, rows, Sampling(0.5, 3, 2))
    assert [one.ids for one in found] == [[token] for token in expected]
    assert found[0].log_prob == pytest.approx(float(prefix.log_probs[0, expected[0]]), abs=1e-6)


def test_room_is_kept_for_the_second_turn(qwen: sn.LanguageModel) -> None:
    task = two_turns()
    longest = sn.Example("long", "x " * 110 + "knots", "well")
    with pytest.raises(sn.DataError, match=r"example 'long': \d+ input tokens, but .* has room for \d+ beside"):
        encode_examples(qwen, task, [sn.Example("long", "x " * 125, "well")], num_virtual_tokens=4)
    (row,) = encode_examples(qwen, task, [longest], num_virtual_tokens=4)
    (again,) = second_turn(qwen, [row], [(longest.prompt, "a", "Improve it.")])
    assert len(again.ids) + 4 + STEPS <= qwen.context_length
    with pytest.raises(sn.CellError, match=r"example 'long': its second turn has \d+ tokens, but .* has room for 24\d"):
        second_turn(qwen, [row], [(longest.prompt, "b " * 60, "Improve it.")])


def test_a_cut_input_keeps_the_end_of_its_dialogue(qwen: sn.LanguageModel) -> None:
    long = sn.Example("long", "x " * 300 + "knots", "well")
    (row,) = encode_examples(qwen, two_turns(), [long], num_virtual_tokens=4, too_long="truncate")
    (again,) = second_turn(qwen, [row], [(long.prompt, "a text", "Improve it.")])
    assert isinstance(again, EncodedExample) and qwen.decode(again.ids).endswith("knots\na text\nImprove it.")
    assert len(again.ids) == row.room_for_dialogue


def test_a_dialogue_goes_through_the_chat_template(model_folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    lm = sn.load_model(str(model_folder("qwen2")), device="cpu")
    lm.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[go]"
    templated = sn.LanguageModel(**{**vars(lm), "uses_chat_template": True})
    assert templated.dialogue(("a", "b", "c")) == "[user] a [assistant] b [user] c [go]"
    assert templated.text("a") == "[user] a [go]"
