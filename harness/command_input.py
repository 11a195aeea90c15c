"""What commands are given and have in common: the plugins, the checked config, and lines for the person at the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skillneurons.errors import SkillNeuronsError

if TYPE_CHECKING:
    from skillneurons.config import Config
    from skillneurons.registry import Registry
    from skillneurons.results import ResultsFolder


def say(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"skillneurons: {line}", file=sys.stderr)


def loaded_registry(arguments: argparse.Namespace, more: Sequence[str] = ()) -> Registry:
    from skillneurons.registry import load_registry

    registry = load_registry([*more, *arguments.plugin], arguments.no_plugin, arguments.strict_plugins)
    say([f"warning: {line}" for line in [*registry.warnings, *registry.remarks]])
    arguments.registry = registry
    return registry


@contextmanager
def opened(place: str | ResultsFolder) -> Iterator[ResultsFolder]:
    """Give the results folder at a path or URL; errors call its files by where they are, not by this process's copy."""
    from skillneurons.results import open_folder

    folder = open_folder(place)
    try:
        yield folder
    except SkillNeuronsError as error:
        told = folder.told(str(error))
        if told == str(error):
            raise
        raise type(error)(told) from error


def checked_config(arguments: argparse.Namespace) -> tuple[Config, Registry]:
    """Return the checked config and the plugins it names; every fault at once is one error."""
    from skillneurons.config import load_config, plugins_of

    registry = loaded_registry(arguments, plugins_of(arguments.config, arguments.set, os.environ))
    config = load_config(
        arguments.config,
        arguments.set,
        models=arguments.model,
        tasks=arguments.task,
        metrics=arguments.metric,
        seeds=arguments.seed,
        limit=arguments.limit,
        device=arguments.device,
        output=arguments.output,
        executor=arguments.executor,
        address=arguments.address,
        registry=registry,
        environ=os.environ,
    )
    return config.model_copy(update={"plugins": [*config.plugins, *arguments.plugin]}), registry
