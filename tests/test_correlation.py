"""Values known beforehand: correlate() against scipy on activations of the plain model; the last layer on read positions alone."""

from __future__ import annotations

import numpy as np
import pytest
import skillneurons as sn
import torch
from scipy import stats
from skillneurons.narrowing import last_positions_only
from skillneurons.prompt import initial_prompt

TEXTS = [f"What is {i} and {10 ** (i % 4)}?" for i in range(24)]


def plain(lm: sn.LanguageModel, prompt: sn.SoftPrompt | None, position: str) -> np.ndarray:
    rows = []
    for text in TEXTS:
        seen: list[torch.Tensor] = []
        hooks = [p.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0])) for p in lm.projections]
        embedded = lm.embed(torch.tensor([lm.encode(text)]))
        if prompt is not None:
            embedded = torch.cat((embedded, prompt.embeddings[None]), dim=1)
        with torch.no_grad():
            lm.model(inputs_embeds=embedded)
        for hook in hooks:
            hook.remove()
        m = prompt.num_virtual_tokens if prompt is not None and position == "mean" else 1
        rows.append(torch.cat([one[-m:].mean(dim=0) for one in seen]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("m", "position"), [(0, "last"), (3, "last"), (3, "mean")])
def test_r_of_given_values_is_scipys_on_the_plain_model(tiny: sn.LanguageModel, m: int, position: str) -> None:
    prompt = initial_prompt(tiny, m, seed=1) if m else None
    values = np.random.default_rng(0).normal(size=(len(TEXTS), 2))
    values[3, 1] = np.nan
    found = sn.correlate(tiny, TEXTS, values, prompt=prompt, position=position, batch_size=3)
    assert found.shape == (2, tiny.n_layers, tiny.d_ff) and found.dtype == np.float32
    activations = plain(tiny, prompt, position)
    for neuron in range(0, tiny.n_neurons, 7):
        for column in range(2):
            scored = ~np.isnan(values[:, column])
            expected = stats.pearsonr(activations[scored, neuron], values[scored, column]).statistic
            assert found[column].ravel()[neuron] == pytest.approx(expected, abs=2e-4)
    one = sn.correlate(tiny, TEXTS, values[:, 0], prompt=prompt, position=position)
    np.testing.assert_allclose(one[0], found[0], atol=2e-4)


def test_what_makes_no_sense_is_refused(qwen: sn.LanguageModel) -> None:
    with pytest.raises(sn.UserError, match=r"values must be \(texts, columns\) for 24 texts"):
        sn.correlate(qwen, TEXTS, np.zeros((3, 1)))
    with pytest.raises(sn.UserError, match="correlate reads at position 'last' or 'mean', got 'max'"):
        sn.correlate(qwen, TEXTS, np.zeros(24), position="max")


def test_the_last_feed_forward_layer_runs_where_it_is_read(tiny: sn.LanguageModel) -> None:
    ids = torch.tensor([tiny.encode(TEXTS[0]), tiny.encode(TEXTS[0])])
    sizes: list[int] = []
    hook = tiny.projections[-1].register_forward_pre_hook(lambda _m, args: sizes.append(args[0].shape[1]))
    with torch.no_grad():
        whole = tiny.model(input_ids=ids).logits
        for read in (1, 2, 1000, None):
            with last_positions_only(tiny, read):
                part = tiny.model(input_ids=ids).logits
            n = min(read or 1000, ids.shape[1])
            torch.testing.assert_close(part[:, -n:], whole[:, -n:], rtol=1e-5, atol=1e-5)
    hook.remove()
    assert sizes == [ids.shape[1], 1, 2, ids.shape[1], ids.shape[1]]
    assert tiny.last_ffn is not None and not tiny.last_ffn._forward_hooks and not tiny.last_ffn._forward_pre_hooks
