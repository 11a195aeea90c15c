"""Our batched, cached answers against the plain Hugging Face forward pass, one example at a time."""

from __future__ import annotations

import pytest
import skillneurons as sn
import torch
from parity_task import parity_examples
from skillneurons.inputs import EncodedExample, encode_examples, equal_length_batches
from skillneurons.outputs import answer
from skillneurons.prompt import initial_prompt


def plain_log_prob(
    lm: sn.LanguageModel, row: EncodedExample, answer_ids: tuple[int, ...], prompt: sn.SoftPrompt
) -> float:
    """Sum the answer's log-probabilities from one uncached pass over [input][prompt][answer]."""
    ids = torch.tensor([row.ids])
    tail = torch.tensor([answer_ids])
    with torch.no_grad():
        embedded = torch.cat([lm.embed(ids), prompt.embeddings[None], lm.embed(tail)], dim=1)
        log_probs = lm.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
    start = len(row.ids) + prompt.num_virtual_tokens - 1
    return sum(float(log_probs[start + i, token]) for i, token in enumerate(answer_ids))


def plain_greedy(lm: sn.LanguageModel, row: EncodedExample, prompt: sn.SoftPrompt, steps: int) -> list[int]:
    embedded = torch.cat([lm.embed(torch.tensor([row.ids])), prompt.embeddings[None]], dim=1)
    written: list[int] = []
    with torch.no_grad():
        for _ in range(steps):
            token = int(lm.model(inputs_embeds=embedded).logits[0, -1].argmax())
            written.append(token)
            if token == lm.tokenizer.eos_token_id:
                break
            embedded = torch.cat([embedded, lm.embed(torch.tensor([[token]]))], dim=1)
    return written


def answers(
    lm: sn.LanguageModel, task: sn.Task, encoded: list[EncodedExample], prompt: sn.SoftPrompt, batch_size: int
) -> dict[str, sn.Output]:
    found = {}
    for rows in equal_length_batches(encoded, batch_size):
        outputs, _ = answer(lm, task, rows, prompt)
        found |= {row.example.id: output for row, output in zip(rows, outputs, strict=True)}
    return found


def test_choices_of_one_and_of_several_tokens_score_as_the_plain_model(tiny: sn.LanguageModel) -> None:
    task = sn.Task("t", "1", parity_examples, kind="choice")
    examples = [
        sn.Example("one", "Is 12 even?", "yes", choices=("yes", "no")),
        sn.Example("many", "Is 1234 even? Think.", "no, it is not", choices=("yes, it is", "no, it is not", "maybe")),
    ]
    prompt = initial_prompt(tiny, 4, seed=1)
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=4)
    assert len(encoded[1].choices[1]) > 1  # type: ignore[index]
    found = answers(tiny, task, encoded, prompt, 2)
    for row in encoded:
        output = found[row.example.id]
        expected = [plain_log_prob(tiny, row, choice, prompt) for choice in row.choices or ()]
        assert output.choice_log_probs == pytest.approx(expected, abs=1e-4)
        assert output.predicted == output.text == row.example.choices[expected.index(max(expected))]  # type: ignore[index]
        assert output.target_log_prob == pytest.approx(
            expected[row.example.choices.index(row.example.target)], abs=1e-4
        )  # type: ignore[union-attr]
        shares = torch.tensor(expected).softmax(0)
        assert output.entropy == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-4)


def test_open_answers_score_and_continue_as_the_plain_model(tiny: sn.LanguageModel) -> None:
    task = sn.Task("t", "1", parity_examples, kind="open", max_new_tokens=6)
    examples = [sn.Example(str(i), f"What is {10**i} plus 7?", str(10**i + 7)) for i in range(4)]
    prompt = initial_prompt(tiny, 3, seed=2)
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=3)
    found = answers(tiny, task, encoded, prompt, 4)
    for row in encoded:
        output = found[row.example.id]
        assert row.target[-1] == tiny.tokenizer.eos_token_id
        assert output.target_log_prob == pytest.approx(plain_log_prob(tiny, row, row.target, prompt), abs=1e-4)
        assert output.n_target_tokens == len(row.target)
        written = plain_greedy(tiny, row, prompt, 6)
        assert output.text == tiny.decode(written)
        assert output.predicted_log_prob == pytest.approx(plain_log_prob(tiny, row, tuple(written), prompt), abs=1e-4)


@pytest.mark.parametrize("kind", ["choice", "open"])
def test_batch_size_does_not_move_an_answer(tiny: sn.LanguageModel, kind: str) -> None:
    task = sn.Task("t", "1", parity_examples, kind=kind, max_new_tokens=4)  # type: ignore[arg-type]
    examples = [
        e if kind == "choice" else sn.Example(e.id, e.prompt, e.target) for e in parity_examples("discovery", 17)
    ]
    prompt = initial_prompt(tiny, 2, seed=0)
    encoded = encode_examples(tiny, task, examples, num_virtual_tokens=2)
    one, many = answers(tiny, task, encoded, prompt, 1), answers(tiny, task, encoded, prompt, 64)
    for name, output in one.items():
        assert output.text == many[name].text
        for figure in ("target_log_prob", "predicted_log_prob", "margin", "entropy"):
            assert getattr(output, figure) == pytest.approx(getattr(many[name], figure), abs=1e-5)


def test_a_grader_decides_what_is_correct(qwen: sn.LanguageModel) -> None:
    def grade(example: sn.Example, text: str) -> dict[str, float]:
        return {"correct": float(len(text) > 0), "length": float(len(text))}

    task = sn.Task("t", "1", parity_examples, kind="generation", max_new_tokens=3, grade=grade)
    encoded = encode_examples(qwen, task, [sn.Example("a", "Say something.", "well")], num_virtual_tokens=2)
    (output,), _ = answer(qwen, task, encoded, initial_prompt(qwen, 2))
    assert output.labels["length"] == len(output.text) and output.correct == 1.0


def test_a_failing_grader_is_a_cell_error_naming_the_example(qwen: sn.LanguageModel) -> None:
    def grade(example: sn.Example, text: str) -> dict[str, float]:
        raise KeyError("mark")

    task = sn.Task("t", "1", parity_examples, kind="generation", max_new_tokens=2, grade=grade)
    encoded = encode_examples(qwen, task, [sn.Example("a", "Say.", "well")], num_virtual_tokens=2)
    with pytest.raises(sn.CellError) as error:
        answer(qwen, task, encoded, initial_prompt(qwen, 2))
    assert str(error.value) == "task 't', grade, example 'a': KeyError: 'mark'"


def test_too_long_inputs_are_refused_or_cut_from_the_left(qwen: sn.LanguageModel) -> None:
    task = sn.Task("t", "1", parity_examples, kind="choice")
    long = sn.Example("long", "even " * 300 + "Is 12 even?", "yes", choices=("yes", "no"))
    with pytest.raises(sn.DataError, match=r"example 'long': \d+ input tokens, but .* has room for 25\d"):
        encode_examples(qwen, task, [long], num_virtual_tokens=4)
    (row,) = encode_examples(qwen, task, [long], num_virtual_tokens=4, too_long="truncate")
    assert row.truncated and qwen.decode(row.ids).endswith("Is 12 even?")
    assert len(row.ids) + 4 + len(row.target) == qwen.context_length
