"""Build a task of lm-evaluation-harness from its file: quiet, templates in a sandbox, nothing fetched that is code.

Its templates (jinja2) are rendered in ``ImmutableSandboxedEnvironment``, so a template of a file reaches no attribute that
leads out of the document, and changes nothing in it. Of its metrics only those that the accuracy here rests on are built: others may be fetched as code.
What no task here can be (a likelihood of whole texts, images, generated code that is run) is refused with its reason.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import skillneurons as sn
from skillneurons.plugins.lm_eval_keys import LENGTHS, check_functions, check_keys

RIGHT = ("exact_match", "acc")  # the metrics that say of a text whether it is right
OF_CHOICES = ("acc", "acc_norm", "acc_bytes")
UNHASHED = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata", "task_alias", "tag", "group", "task_list")
DEFAULT_LENGTH = 256  # that harness's own


class Unusable(Exception):
    """Why a document cannot be an example."""


@contextmanager
def harness() -> Iterator[None]:
    """Let the harness work: its logger tells errors only, no progress bars, templates rendered in a sandbox."""
    import datasets
    from lm_eval import utils

    log, bars, plain = logging.getLogger("lm_eval"), datasets.are_progress_bars_disabled(), utils.env
    level = log.level
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    utils.env = plain if plain.sandboxed else _sandbox(plain)
    try:
        yield
    finally:
        log.setLevel(level)
        utils.env = plain
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def telling(where: str, what: str, keys: str) -> Iterator[None]:
    """Let the harness work on a document; what goes wrong becomes a DataError that names the file and its keys."""
    try:
        with harness():
            yield
    except (sn.UserError, Unusable):
        raise
    except Exception as error:
        raise sn.DataError(f"{where}: {what} ({reason(error)}); check {keys}") from error


def reason(error: Exception) -> str:
    """Return an error's type and text in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@lru_cache(maxsize=1)
def _sandbox(plain: Any) -> Any:
    """Return the harness's environment as a sandbox in which a template is compiled once."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    sandbox: Any = ImmutableSandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=plain.keep_trailing_newline
    )
    sandbox.filters.update(plain.filters)
    sandbox.from_string = lru_cache(maxsize=256)(sandbox.from_string)
    return sandbox


def build(name: str, file: Path, config: Mapping[str, Any], revision: str | None) -> Any:
    """Return the harness's own task object, its data loaded; ``config`` is the file as ``task_file`` gives it."""
    check_keys(name, file, config)
    _refuse(name, config)
    with harness():
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks._yaml_loader import load_yaml

        try:
            built = load_yaml(file, resolve_func=True)
            check_functions(name, file, built)
            for key in ("tag", "group", "task_list"):
                built.pop(key, None)
            if revision is not None:
                built["dataset_kwargs"] = {**(built.get("dataset_kwargs") or {}), "revision": revision}
            built["metric_list"] = _metrics(name, built)
            return ConfigurableTask(config=built)
        except sn.UserError:
            raise
        except Exception as error:
            raise sn.DataError(
                f"lm-eval/{name}: cannot be built from {file} ({reason(error)}); "
                f"check its keys, its data (dataset_path: {config.get('dataset_path')}) and the network"
            ) from error


def _refuse(name: str, config: Mapping[str, Any]) -> None:
    """Raise UserError for what no task here can be."""
    import datasets

    kind = config.get("output_type", "generate_until")
    arguments = config.get("generation_kwargs") or {}
    faults = {
        "it is written as a Python class; only tasks of YAML keys can be run": "class" in config,
        f"its output_type is {kind!r}; only multiple_choice and generate_until have answers that are right or wrong": kind
        not in ("multiple_choice", "generate_until"),
        "it runs the code that the model writes (unsafe_code), which is never done here": config.get("unsafe_code"),
        "it shows images or sounds; only text can be asked": config.get("doc_to_image") or config.get("doc_to_audio"),
        "it takes its prompts from another package (use_prompt); write them as doc_to_text": config.get("use_prompt"),
        "its own process_results judges log-probabilities of choices; only the most probable choice can be right here": kind
        == "multiple_choice"
        and config.get("process_results"),
        f"it takes {config.get('repeats')} texts per document (repeats); one greedy text is written here": config.get(
            "repeats", 1
        )
        != 1,
        "it draws its texts (do_sample); one greedy text is written here": arguments.get("do_sample")
        and arguments.get("temperature", 1) != 0,
        "its data set is read by code (trust_remote_code), which is never run; datasets 4 and newer do without it": (
            (config.get("dataset_kwargs") or {}).get("trust_remote_code")
            and int(datasets.__version__.split(".")[0]) < 4
        ),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise sn.UserError(f"lm-eval/{name} cannot be run: {fault}")


def _metrics(name: str, config: Mapping[str, Any]) -> list[Any]:
    """Return the metrics to build: the accuracies of choices, or the one that says whether a text is right."""
    if config.get("output_type") == "multiple_choice":
        return [{"metric": one, "aggregation": "mean", "higher_is_better": True} for one in OF_CHOICES]
    listed = config.get("metric_list") or [{"metric": "exact_match"}]
    named = {getattr(one["metric"], "__name__", one["metric"]): one for one in listed}
    known = [one for one in RIGHT if one in named]
    if not config.get("process_results"):  # of texts the harness's own acc knows nothing
        known = [one for one in known if one == "exact_match" or callable(named[one]["metric"])]
    found = named[known[0]] if known else {}
    if not found or found.get("hf_evaluate"):
        raise sn.UserError(
            f"lm-eval/{name} cannot be run: its metrics ({', '.join(map(str, named))}) do not say whether a text is right; "
            "exact_match is needed, or acc where process_results gives it, not fetched (hf_evaluate)"
        )
    return [{**found, "aggregation": "mean", "higher_is_better": True}]


def longest_text(config: Any) -> int:
    """Return how many tokens a text of a generating task may have."""
    arguments = config.generation_kwargs or {}
    given = next((arguments[one] for one in LENGTHS if arguments.get(one) is not None), DEFAULT_LENGTH)
    return int(given)


def config_hash(config: Any) -> str:
    """Return a hash over everything of a task that shapes prompts and grading; the data has a hash of its own."""
    import lm_eval

    kept = {key: value for key, value in vars(config).items() if key not in UNHASHED}
    text = json.dumps([_plain(kept), lm_eval.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """Return a value as JSON; a function as its name and the hash of the file it stands in."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    if hasattr(value, "__dataclass_fields__"):
        return _plain(vars(value))
    function = inspect.unwrap(getattr(value, "func", value))
    source = inspect.getsourcefile(function)
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    return [getattr(function, "__qualname__", type(function).__qualname__), digest]
