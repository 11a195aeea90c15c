"""Load a model, freeze it, find its feed-forward neurons, and check that what is measured on it is what it computes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from skillneurons.errors import ModelError, UserError
from skillneurons.feed_forward import find_feed_forward
from skillneurons.model import LanguageModel
from skillneurons.model_source import is_instructed, resolve_model
from skillneurons.neuron_split import check_divisible, split_of
from skillneurons.parity import checked_parity
from skillneurons.ranks import Ranks, joined

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("8bit", "4bit")


def pick_device(device: str) -> torch.device:
    """Return the device of a setting: ``auto`` takes a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device {device!r} is not a device; use auto, cpu, cuda or cuda:N") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: torch sees no GPU here; use --device cpu or auto")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device!r}: there are {torch.cuda.device_count()} GPUs, cuda:0 on; name one of them")
    if place.type not in ("cpu", "cuda", "mps", "xpu"):
        raise UserError(f"device {device!r}: models run on cpu, cuda, mps or xpu")
    try:
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {device!r}: torch cannot use it here; use --device cpu or auto") from error
    return place


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    chat_template: str = "auto",
    trust_remote_code: bool = False,
    ffn: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
    max_memory: Mapping[str, str] | None = None,
    tp_plan: str | None = None,
    quantization: str | None = None,
) -> LanguageModel:
    """Load ``pocket``, a hub id, or a folder saved by ``save_pretrained``; the weights are frozen.

    ``ffn`` names the output projection inside a block (``mlp.down_proj``) where structure does not
    tell. ``device_map`` (``auto``, ``balanced`` ..., or a mapping from modules to devices) spreads a model over several devices through
    accelerate, each with at most ``max_memory`` (``{"0": "20GiB", "cpu": "60GiB"}``); ``tp_plan`` (``auto``) splits every layer over the
    processes that torchrun started. ``quantization`` (``8bit``, ``4bit``) loads it through bitsandbytes, with the rest in ``dtype``. ``chat_template``: ``auto`` applies it where the tokenizer has one and the model's name says
    that it was tuned on instructions. Raise ModelError for anything missing or not understood, and where our
    way to run the model differs from its plain forward pass (``parity``).
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # quiet in a pipe
    if dtype not in DTYPES:
        raise UserError(f"model.dtype {dtype!r}: must be one of {', '.join(DTYPES)}")
    place = pick_device(device)
    source, resolved = resolve_model(name, revision)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if source == name and not Path(source).is_dir():
        options["revision"] = resolved
    spread = _spread(place, device, device_map, max_memory, quantization, DTYPES[dtype])
    ranks = _ranks(name, source, tp_plan, device, device_map, quantization, options)
    if ranks is not None:
        spread = {"distributed_config": _distributed(str(tp_plan), ranks.size)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[dtype], use_safetensors=True, **options, **spread
        )
    except Exception as error:  # a damaged file surfaces as almost any type
        raise ModelError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
    model.requires_grad_(False).eval()
    if not spread:
        model.to(place)
    layers = find_feed_forward(model, name, ffn)
    lm = LanguageModel(
        name=name,
        revision=resolved,
        model=model,
        tokenizer=tokenizer,
        layers=layers,
        uses_chat_template=_wants_template(chat_template, tokenizer, name),
        quantization=quantization,
        split=None if ranks is None else split_of(model, name, layers, ranks),
    )
    return replace(lm, parity=checked_parity(lm))


def _spread(
    place: torch.device,
    device: str,
    device_map: str | Mapping[str, int | str] | None,
    max_memory: Mapping[str, str] | None,
    quantization: str | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to place the weights itself; nothing where they go to one device afterwards."""
    options: dict[str, Any] = {}
    if quantization is not None:
        if quantization not in QUANTIZATIONS:
            raise UserError(f"model.quantization {quantization!r}: must be one of {', '.join(QUANTIZATIONS)}")
        _needs("bitsandbytes", f"model.quantization {quantization!r}")
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantization == "8bit", load_in_4bit=quantization == "4bit", bnb_4bit_compute_dtype=dtype
        )
    if max_memory is not None and (device_map is None or not isinstance(device_map, str)):
        raise UserError(
            "model.max_memory bounds what model.device_map may place where; write model.device_map: auto beside it"
        )
    if device_map is not None:
        if device != "auto":
            raise UserError(f"model.device_map {device_map!r} chooses the devices itself; leave --device at auto")
        _needs("accelerate", f"model.device_map {device_map!r}")
        options["device_map"] = device_map if isinstance(device_map, str) else _places(device_map)
        if max_memory is not None:
            options["max_memory"] = {_place(name): size for name, size in max_memory.items()}
    elif options:
        _needs("accelerate", f"model.quantization {quantization!r}")
        options["device_map"] = {"": str(place)}
    return options


def _places(device_map: Mapping[str, int | str]) -> dict[str, int | str]:
    """Return the device of every module of a mapping; raise UserError for a GPU that is not here."""
    found = {module: _place(place) for module, place in device_map.items()}
    for module, place in found.items():
        known = place in ("cpu", "disk") or (isinstance(place, int) and 0 <= place < torch.cuda.device_count())
        if not known:
            raise UserError(
                f"model.device_map: {module!r} is to lie on {place!r}, and torch sees {torch.cuda.device_count()} GPUs here, numbered from 0; "
                "write the number of a GPU, cpu or disk"
            )
    return found


def _place(name: int | str) -> int | str:
    """Return a device as accelerate names it: a GPU by its number."""
    text = str(name).removeprefix("cuda:")
    return int(text) if text.isdecimal() else text


def _ranks(
    name: str,
    source: str,
    tp_plan: str | None,
    device: str,
    device_map: str | Mapping[str, int | str] | None,
    quantization: str | None,
    options: Mapping[str, Any],
) -> Ranks | None:
    """Return the processes to split the model over, None where it stays whole; raise where that cannot be."""
    if tp_plan is None:
        return None
    if tp_plan != "auto":
        raise UserError(f"model.tp_plan {tp_plan!r}: must be auto, the plan that transformers has for the model")
    for setting, given in (("model.device_map", device_map), ("model.quantization", quantization)):
        if given is not None:
            raise UserError(f"model.tp_plan 'auto' does not go with {setting} {given!r}; leave one of them out")
    if device != "auto":
        raise UserError("model.tp_plan 'auto' gives each process its own device; leave --device at auto")
    ranks = joined()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, **options)
    except Exception as error:  # as of any damaged file
        raise ModelError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
    if not getattr(config.get_text_config(), "base_model_tp_plan", None):
        raise ModelError(
            f"model {name!r} ({config.model_type}): transformers has no tensor-parallel plan for it, so model.tp_plan cannot split it; "
            "spread it with model.device_map"
        )
    check_divisible(config, name, ranks.size)
    return ranks


def _distributed(tp_plan: str, size: int) -> Any:
    """Return what ``from_pretrained`` needs to split a model; raise UserError where transformers is too old to."""
    try:
        from transformers.distributed import DistributedConfig

        return DistributedConfig(tp_plan=tp_plan, tp_size=size)
    except (ImportError, TypeError) as error:  # there is none, or it does not know these
        raise UserError(
            "model.tp_plan 'auto' needs a newer transformers than the one that is installed: pip install -U transformers"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _needs(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{what} needs the package {package}, which is not installed: pip install {package}")


def _wants_template(setting: str, tokenizer: Any, name: str) -> bool:
    has = getattr(tokenizer, "chat_template", None) is not None
    if setting == "on" and not has:
        raise ModelError(f"model {name!r}: model.chat_template is 'on', but its tokenizer has no chat template")
    return setting == "on" or (setting == "auto" and has and is_instructed(name))
