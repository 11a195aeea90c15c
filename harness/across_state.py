"""What concerns several tasks: the key it is saved under, and whether it is measured already; told without torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skillneurons.across_file import SCHEMA_VERSION, read_across
from skillneurons.config import Config
from skillneurons.results import content_key


def across_key(config: Config, seed: int, cells: Iterable[str]) -> str:
    """Return the key of what is measured on these finished cells."""
    causal = config.causal.model_dump(mode="json")
    payload = {"schema_version": SCHEMA_VERSION, "cells": sorted(cells), "causal": causal}
    return content_key("across", f"s{seed}", payload=payload)


def is_measured(path: Path) -> bool:
    """Return whether a file says all there is to say: it can be read, and nothing in it broke off."""
    found, _ = read_across(path)
    return found is not None and not found.get("errors")
