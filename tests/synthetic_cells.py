"""Folders of invented cells in the form of real ones, any number of them: for tests and benchmarks of the board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MODELS, SEEDS, PER_TASK = 10, 3, 10
N_RESAMPLES = 1000


def synthetic_cell(index: int, *, shift: float = 0.0) -> dict[str, Any]:
    """Return cell number ``index``: ten models, three seeds, ten metrics a task; ``shift`` is added to its held-out r."""
    rng = np.random.default_rng(index)
    seed, rest = index % SEEDS, index // SEEDS
    model, rest = rest % MODELS, rest // MODELS
    metric, task = f"metric{rest % PER_TASK:02d}", f"task{rest // PER_TASK:03d}"
    r = np.sort(rng.uniform(0.2, 0.9, 20))[::-1]
    held = float(r[:10].mean() - 0.02 + shift)
    top = [
        {
            "layer": int(rng.integers(4)),
            "neuron": int(rng.integers(640)),
            "r": round(float(value), 6),
            "r_heldout": round(float(value) - 0.02, 6),
            "ci_low": round(float(value) - 0.1, 6),
            "ci_high": round(float(value) + 0.05, 6),
            "p_adjusted": 0.004975,
            "partial_r": round(float(value) - 0.03, 6),
        }
        for value in r
    ]
    resamples = " ".join(str(int(one)) for one in rng.normal(1e4 * held, 300, N_RESAMPLES))
    column = {
        **{"status": "ok", "reason": "", "n_discovery": 800, "n_heldout": 600, "mean": 0.5, "sd": 0.25},
        **{"top1_r": float(r[0]), "top10_r": float(r[9]), "top10_mean_r": float(r[:10].mean())},
        **{"heldout_top10_r": held, "heldout_top10_r_low": held - 0.06, "heldout_top10_r_high": held + 0.06},
        **{
            "baseline_top10_r": held - 0.1,
            "untuned_top10_r": held - 0.05,
            "partial_r": held - 0.01,
            "partial_reason": "",
        },
        **{"null95_r": 0.15, "null_scheme": "rows", "null_reason": "", "n_permutations": 200, "n_constant": 0},
        **{"n_fwer": 120, "n_fdr": 300, "n_replicated": 90, "interval_reason": "", "resampled_groups": task},
        "above": [{"threshold": t, "n": 30, "share": 0.01, "null": 0.02, "heldout": 0.4} for t in (0.43, 0.83)],
        "resamples": resamples,
        "top": top,
    }
    outcome = {"effect": 0.01, "random": 0.004, "random_sd": 0.002, "z": 3.0, "percentile": 100.0, "p": 0.05}
    outcomes = dict.fromkeys(("accuracy", "log_prob", "metric", "moved"), outcome)
    tested = {
        **{"ablation_drop": 0.01, "random_drop": 0.004, "random_drop_sd": 0.002, "causal_z": 3.0, "verdict": "cause"},
        "doses": [
            {
                "k": k,
                "outcomes": outcomes,
                "outcome": "moved",
                "verdict": "cause",
                "low": 0.001,
                "high": 0.02,
                "reason": "",
            }
            for k in (10, 50)
        ],
    }
    name = f"{metric}.value"
    return {
        "schema_version": 1,
        "key": f"{task}-{metric}-s{seed}-{index:016x}",
        "status": "ok",
        "model": {
            "name": f"model{model}",
            "revision": f"r{model}",
            "dtype": "float32",
            "architecture": "Qwen2ForCausalLM",
        },
        "task": {
            **{
                "name": task,
                "version": "1",
                "kind": "choice",
                "chance": 0.5,
                "source_hash": "s" * 16,
                "data_hash": task,
            },
            **{"source": "invented", "licence": "MIT", "options": {}, "grader": None, "tuned_on": ""},
        },
        "metric": {"name": metric, "version": "1", "source_hash": "m" * 16, "columns": [name]},
        "seed": seed,
        "prompt": f"{task}-s{seed}",
        "pass": f"{task}-{metric}-s{seed}-{index:016x}",
        "config": {
            "attribution": {
                **{"position": "last", "site": "product", "statistic": "pearson", "top_k": 10, "seed": 0},
                **{"permutations": 200, "bootstrap": 1000, "thresholds": [0.43, 0.83], "nuisance": []},
            },
            "causal": {"mode": "mean", "positions": "prompt", "k": [10, 50], "random_sets": 20, "seed": 0},
            "data": {"train": 800, "validation": 160, "discovery": 800, "heldout": 600, "seed": 0},
            "prompt": {"num_virtual_tokens": 10, "steps": 150, "lr": 0.003, "batch_size": 16},
        },
        "n": {"train": 800, "validation": 160, "discovery": 800, "heldout": 600},
        "n_neurons": 2560,
        "accuracy": {"untuned": 0.6, "tuned": float(rng.uniform(0.6, 0.9)), "stderr": 0.02},
        "columns": {name: column},
        "causal": {"mode": "mean", "positions": "prompt", "n_heldout": 160, "columns": {name: tested}},
        "error": None,
        "scores": [{"name": "accuracy", "part": "", "value": 0.75, "n": 1400, "detail": False}],
        "truncated": {"discovery": 0, "heldout": 0},
    }


def write_synthetic(folder: Path, indices: range | list[int], *, shift: float = 0.0) -> Path:
    """Write the cells of these numbers under ``folder`` as the harness does; return the folder."""
    cells = folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for index in indices:
        cell = synthetic_cell(index, shift=shift)
        text = json.dumps(cell, sort_keys=True, indent=2)
        (cells / f"{cell['key']}.json").write_text(text + "\n")
    return folder
