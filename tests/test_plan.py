"""Keys of planned cells: everything that changes a number changes the key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from skillneurons import plan as planning
from skillneurons.config import load_config
from skillneurons.plan import Unit, plan
from skillneurons.registry import load_registry
from skillneurons.results import ResultsFolder


def planned(model: str, tmp_path: Path, *settings: str) -> Unit:
    registry = load_registry()
    config = load_config(
        overrides=["data.train=4", "data.validation=4", "data.discovery=8", "data.heldout=8", *settings],
        models=[model],
        tasks=["arithmetic"],
        metrics=["labels"],
        seeds=[0],
        registry=registry,
    )
    (unit,) = plan(config, registry, ResultsFolder(tmp_path))
    return unit


def test_other_weights_in_the_same_folder_are_another_model(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    place = tmp_path / "model"
    shutil.copytree(model_folder("qwen2"), place)
    before = planned(str(place), tmp_path)
    again = planned(str(place), tmp_path)
    assert (again.cells, again.prompt_key) == (before.cells, before.prompt_key)
    model = AutoModelForCausalLM.from_pretrained(place)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    model.save_pretrained(place)
    after = planned(str(place), tmp_path)
    assert after.revision != before.revision
    assert after.cells[0].key != before.cells[0].key and after.prompt_key != before.prompt_key


def test_a_hub_model_is_keyed_by_the_commit_that_its_name_points_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {None: "a" * 40, "main": "a" * 40, "v2": "b" * 40}
    monkeypatch.setattr(planning, "resolve_model", lambda name, revision=None: (name, commits[revision]))
    unnamed, main, other = (
        planned("owner/model", tmp_path, *settings) for settings in ([], ["model.revision=main"], ["model.revision=v2"])
    )
    assert unnamed.cells[0].key == main.cells[0].key and unnamed.prompt_key == main.prompt_key
    assert other.cells[0].key != main.cells[0].key and other.prompt_key != main.prompt_key


def test_the_parts_of_a_unit_have_keys_of_their_own(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    unit = planned(str(model_folder("qwen2")), tmp_path)
    assert len({unit.prompt_key, *(cell.key for cell in unit.cells)}) == 1 + len(unit.cells)
    other = planned(str(model_folder("qwen2")), tmp_path, "causal.enabled=false")
    assert other.prompt_key == unit.prompt_key and other.cells[0].key != unit.cells[0].key
