"""Find, prove and compare the skill neurons of language models.

The names below are the whole public interface; each is imported when it is first used, so that
``import skillneurons`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Attribution": "attribution",
    "CellError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "Example": "types",
    "Grader": "types",
    "LanguageModel": "model",
    "Metric": "types",
    "ModelError": "errors",
    "NeuronCard": "neuron_view",
    "Output": "types",
    "PartialCorrelationAccumulator": "partial",
    "PearsonAccumulator": "statistics",
    "PermutationSums": "permutation_sums",
    "PluginError": "errors",
    "PredictionForm": "types",
    "Result": "results",
    "ResultsError": "errors",
    "Score": "types",
    "SoftPrompt": "prompt",
    "Task": "types",
    "UserError": "errors",
    "ablate": "interventions",
    "ablation_test": "causes",
    "attribute": "attribution",
    "attribute_kept": "screening",
    "choice_log_probs": "outputs",
    "correlate": "correlation",
    "get_attribution": "registry",
    "get_grader": "registry",
    "get_metric": "registry",
    "get_task": "registry",
    "hookimpl": "hookspecs",
    "interactions": "causes",
    "load_config": "config",
    "load_model": "loading",
    "load_registry": "registry",
    "load_results": "results_frame",
    "measure_reference": "reference",
    "neuron_card": "neuron_view",
    "resolve_model": "model_source",
    "run": "runner",
    "screen": "screening",
    "skills_on_demand": "gating",
    "split_by_group": "splits",
    "stable_hash": "splits",
    "steer": "interventions",
    "steering_test": "causes",
    "tune_prompt": "tuning",
}

__all__ = [
    "Attribution",
    "CellError",
    "ConfigError",
    "DataError",
    "Example",
    "Grader",
    "LanguageModel",
    "Metric",
    "ModelError",
    "NeuronCard",
    "Output",
    "PartialCorrelationAccumulator",
    "PearsonAccumulator",
    "PermutationSums",
    "PluginError",
    "PredictionForm",
    "Result",
    "ResultsError",
    "Score",
    "SoftPrompt",
    "Task",
    "UserError",
    "__version__",
    "ablate",
    "ablation_test",
    "attribute",
    "attribute_kept",
    "choice_log_probs",
    "correlate",
    "get_attribution",
    "get_grader",
    "get_metric",
    "get_task",
    "hookimpl",
    "interactions",
    "load_config",
    "load_model",
    "load_registry",
    "load_results",
    "measure_reference",
    "neuron_card",
    "resolve_model",
    "run",
    "screen",
    "skills_on_demand",
    "split_by_group",
    "stable_hash",
    "steer",
    "steering_test",
    "tune_prompt",
]

if TYPE_CHECKING:
    from skillneurons.attribution import Attribution, attribute
    from skillneurons.causes import ablation_test, interactions, steering_test
    from skillneurons.config import load_config
    from skillneurons.correlation import correlate
    from skillneurons.errors import (
        CellError,
        ConfigError,
        DataError,
        ModelError,
        PluginError,
        ResultsError,
        UserError,
    )
    from skillneurons.gating import skills_on_demand
    from skillneurons.hookspecs import hookimpl
    from skillneurons.interventions import ablate, steer
    from skillneurons.loading import load_model
    from skillneurons.model import LanguageModel
    from skillneurons.model_source import resolve_model
    from skillneurons.neuron_view import NeuronCard, neuron_card
    from skillneurons.outputs import choice_log_probs
    from skillneurons.partial import PartialCorrelationAccumulator
    from skillneurons.permutation_sums import PermutationSums
    from skillneurons.prompt import SoftPrompt
    from skillneurons.reference import measure_reference
    from skillneurons.registry import get_attribution, get_grader, get_metric, get_task, load_registry
    from skillneurons.results import Result
    from skillneurons.results_frame import load_results
    from skillneurons.runner import run
    from skillneurons.screening import attribute_kept, screen
    from skillneurons.splits import split_by_group, stable_hash
    from skillneurons.statistics import PearsonAccumulator
    from skillneurons.tuning import tune_prompt
    from skillneurons.types import Example, Grader, Metric, Output, PredictionForm, Score, Task


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"skillneurons.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'skillneurons' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
