"""Which prompt seeds several models share, and what is said about the others.

A model's mean over its seeds may stand beside another's only where both are over the same seeds: each seed tunes another
prompt, and some prompts are better than others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from skillneurons.leaderboard.models import Identity

Seeds = Mapping[Identity, Collection[int]]  # of each model


def common_seeds(seeds: Seeds) -> tuple[int, ...]:
    """Return the seeds that all models have."""
    return tuple(sorted(set.intersection(*map(set, seeds.values())))) if seeds else ()


def seeds_left_out(seeds: Seeds, labels: Mapping[Identity, str]) -> list[str]:
    """Return one line for all models that have the same seeds beyond those of all."""
    common = set(common_seeds(seeds))
    lines = []
    for more, names in _alike({model: set(own) - common for model, own in seeds.items()}, labels).items():
        several = len(more) > 1
        listed = f"seed{'s' * several} {', '.join(map(str, more))}"
        lines.append(f"{listed} of {names} left out: not every model has {'them' if several else 'it'}")
    return lines


def no_common_seed(seeds: Seeds, labels: Mapping[Identity, str]) -> str:
    """Return why models that share no seed cannot be compared, with the seeds of each."""
    told = "; ".join(f"{names} {', '.join(map(str, own))}" for own, names in _alike(seeds, labels).items())
    return f"no prompt seed in common: {told}; run them with the same --seed"


def _alike(seeds: Seeds, labels: Mapping[Identity, str]) -> dict[tuple[int, ...], str]:
    """Return the names of the models that have the same seeds, those without any left out."""
    names: dict[tuple[int, ...], list[str]] = {}
    for model, own in seeds.items():
        if own:
            names.setdefault(tuple(sorted(own)), []).append(labels[model])
    return {own: ", ".join(listed) for own, listed in names.items()}
