"""A model over several devices gives what it gives on one, and each layer's activations and sums stay where the layer is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skillneurons as sn
import torch
from pretend_devices import Pretended, spread
from skillneurons import loading
from skillneurons.activations import ActivationRecorder, DeviceRows
from skillneurons.config import load_config
from skillneurons.device_sums import DeviceSums
from skillneurons.interventions import ablate, steer
from skillneurons.registry import load_registry
from skillneurons.results import Result
from skillneurons.runner import run_config
from skillneurons.statistics import PearsonAccumulator


def test_sums_of_several_devices_are_those_of_one_by_hand_and_with_gaps() -> None:
    """Three parts of 4 + 1 + 3 neurons at two positions, rows in uneven batches, values and activations missing."""
    rng = np.random.default_rng(3)
    for gaps, missing in ((False, False), (True, False), (True, True)):
        a, v = rng.normal(size=(90, 2, 8)).astype(np.float32), rng.normal(size=(90, 3)) + 5
        if gaps:
            v[rng.random(v.shape) < 0.2] = np.nan
        if missing:
            a[rng.random(a.shape) < 0.2] = np.nan
        whole = PearsonAccumulator(16, 3, missing=missing)
        sums = DeviceSums(PearsonAccumulator, 16, 3, missing=missing)
        for rows in (slice(0, 7), slice(7, 50), slice(50, 90)):
            part = torch.from_numpy(a[rows])
            whole.update(part.flatten(1), v[rows])
            sums.update(DeviceRows((part[:, :, :4], part[:, :, 4:5], part[:, :, 5:])), v[rows])
        joined = sums.joined()
        assert joined.result().shape == (3, 16) and joined.missing == missing
        np.testing.assert_allclose(joined.result(), whole.result(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(joined.counts, whole.counts)
        if not missing:
            np.testing.assert_allclose(joined.mean_and_sd(), whole.mean_and_sd(), rtol=1e-12)
        more = PearsonAccumulator(16, 3, missing=missing).update(torch.from_numpy(a[:9]).flatten(1), v[:9])
        np.testing.assert_allclose(joined.merge(more).result(), whole.merge(more).result(), rtol=0, atol=1e-12)


def test_one_device_and_no_rows() -> None:
    sums = DeviceSums(PearsonAccumulator, 4, 1, missing=False)
    assert np.isnan(sums.joined().result()).all() and sums.devices == []
    sums.update(np.arange(20.0).reshape(5, 4), np.arange(5.0)[:, None])
    np.testing.assert_allclose(sums.joined().result(), [[1.0] * 4])
    assert sums.devices == ["cpu"]


PLACES = (0, 1, 1)  # of the three layers


def loaded(folder: Path) -> sn.LanguageModel:
    lm = sn.load_model(str(folder), device="cpu")
    lm.model.set_attn_implementation("eager")
    return lm


@contextmanager
def on_two_devices(folder: Path) -> Iterator[sn.LanguageModel]:
    lm = loaded(folder)
    with spread(lm.model, PLACES.__getitem__, len(PLACES)):
        yield lm


def test_the_double_refuses_what_a_gpu_refuses() -> None:
    """The claims below are that nothing is mixed: here it is mixed."""
    one, two = (Pretended(torch.ones(2), torch.device("meta", i)) for i in (0, 1))
    assert (one + one).device == torch.device("meta", 0) and one.to(two.device).device == two.device
    with pytest.raises(RuntimeError, match=r"aten.add.Tensor: expected all tensors to be on the same device"):
        one + two
    with pytest.raises(RuntimeError, match="aten.cat.default: expected all tensors to be on the same device"):
        torch.cat((one, two))
    index = Pretended(torch.tensor([1]), two.device)
    with pytest.raises(RuntimeError, match="aten.index.Tensor: expected all tensors"):
        one[index]
    assert one[torch.tensor([1])].device == one.device


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_what_is_recorded_and_changed_layer_by_layer(architecture: str, model_folder: Callable[[str], Path]) -> None:
    ids = torch.arange(20, 30)[None].repeat(3, 1)
    keep = np.random.default_rng(0).random((3, 48)) < 0.2
    neurons = [(0, 3), (1, 4), (2, 47)]

    def seen(lm: sn.LanguageModel) -> list[torch.Tensor]:
        given = ids.to(lm.device)
        found = []
        with torch.inference_mode():
            for kept, reduce in ((None, "mean"), (keep, "mean"), (keep, "each")):
                with ActivationRecorder(lm, 2, reduce=reduce, keep=kept) as recorder:
                    lm.model(input_ids=given)
                    found.append(recorder.take())
            for change in (ablate(lm, neurons), steer(lm, neurons, [1.0, -2.0, 3.0])):
                with change:
                    found.append(lm.model(input_ids=given).logits.cpu())
        return found

    plain = seen(loaded(model_folder(architecture)))
    with on_two_devices(model_folder(architecture)) as lm:
        assert lm.device == torch.device("meta", 0) and lm.devices == ["meta:0", "meta:1"]
        spread_out = seen(lm)
        with torch.inference_mode(), ActivationRecorder(lm) as recorder:
            lm.model(input_ids=ids.to(lm.device))
            rows = recorder.take_where_they_are()
        assert isinstance(rows, DeviceRows)
        assert [(part.device, part.shape[2]) for part in rows.parts] == [
            (torch.device("meta", 0), 48),
            (torch.device("meta", 1), 96),
        ]
    for one, other in zip(plain, spread_out, strict=True):
        assert torch.equal(one, other)


SETTINGS = [
    "prompt.steps=4",
    "prompt.eval_every=2",
    "causal.examples=6",
    "causal.generated=2",
    "causal.random_sets=2",
    "causal.k=[2]",
    "causal.across_k=[2]",
    "causal.steering=[2]",
    "causal.cards=1",
    "causal.neutral_text=pocket",
    "attribution.permutations=19",
    "attribution.bootstrap=19",
]


def run_with(lm: sn.LanguageModel, folder: Path, output: Path, monkeypatch: Any, *settings: str) -> list[Result]:
    monkeypatch.setattr(loading, "load_model", lambda name, **options: lm)
    config = load_config(
        None,
        [*SETTINGS, *settings],
        models=[str(folder)],
        tasks=["arithmetic", "arithmetic-open"],
        metrics=["confidence"],
        limit=10,
        output=str(output),
    )
    outcome = run_config(config, load_registry(), progress=False)
    assert not outcome.failed, [outcome.notes, *(path.read_text() for path in (output / "cells").glob("*.run.json"))]
    return outcome.results


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["attribution.position=max", "causal.mode=resample", "causal.positions=everywhere"],
        ["attribution.statistic=grad_x_activation", "causal.enabled=false"],
        ["attribution.position=input_last", "causal.enabled=false", "cache.device_gb=0.0", "cache.host_gb=0.0"],
    ],
    ids=["default", "max", "gradient", "input_last"],
)
def test_a_whole_run_over_two_devices_is_that_on_one(
    settings: list[str], model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, devices = model_folder("llama"), []
    joined = DeviceSums.joined

    def watched(self: DeviceSums) -> Any:
        devices.append(self.devices)
        return joined(self)

    monkeypatch.setattr(DeviceSums, "joined", watched)
    plain = run_with(loaded(folder), folder, tmp_path / "one", monkeypatch, *settings)
    assert not devices
    with on_two_devices(folder) as lm:
        over = run_with(replace(lm, parity=None), folder, tmp_path / "two", monkeypatch, *settings)
    if "attribution.statistic=grad_x_activation" not in settings:
        assert devices and all(places == ["meta:0", "meta:1"] for places in devices)
    assert [cell.key for cell in plain] == [cell.key for cell in over]
    for one, other in zip(plain, over, strict=True):
        assert one.accuracy == other.accuracy
        for name, figures in one.columns.items():
            for figure in ("top10_r", "heldout_top10_r", "baseline_top10_r", "null95_r"):
                assert other.columns[name][figure] == pytest.approx(figures[figure], abs=2e-5), (name, figure)
        for name, part in ((one.causal or {}).get("columns") or {}).items():
            assert [dose["k"] for dose in part.get("doses") or ()] == [
                dose["k"] for dose in (other.causal or {})["columns"][name].get("doses") or ()
            ]
