"""Which model a cell is of, and what it is called beside others.

A model is its name, its revision and how its numbers are kept (dtype, quantization). It is called by its name alone
where that says which one is meant, by ``name@revision`` where several revisions are there, and by
``name@revision:dtype`` (``name:dtype``) where one revision was run in several. Where that is what another model is called
(a folder may be named ``name@revision``), both are called by all that tells them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from skillneurons.errors import UserError, unknown_name
from skillneurons.results import Result

Identity = tuple[str, str, str, str]  # name, revision, dtype, quantization; "" where a cell does not say


def identity(cell: Result) -> Identity:
    """Return what tells the model of a cell from others."""
    name, revision, dtype, quantization = (
        str(cell.model.get(part) or "") for part in ("name", "revision", "dtype", "quantization")
    )
    return name, revision, dtype, quantization


def model_labels(cells: Iterable[Result]) -> dict[Identity, str]:
    """Return the shortest name of each model that no other has, in the order of the names."""
    return labels_of(identity(cell) for cell in cells)


def labels_of(identities: Iterable[Identity]) -> dict[Identity, str]:
    """Return ``model_labels`` of models that are known by their identity."""
    namesakes: dict[str, list[Identity]] = {}
    for model in sorted(set(identities)):
        namesakes.setdefault(model[0], []).append(model)
    return _unique({model: _label(model, alike) for alike in namesakes.values() for model in alike})


def _unique(labels: Mapping[Identity, str]) -> dict[Identity, str]:
    """Return the labels, those that several models have made longer, and numbered where even that is not enough."""
    times = Counter(labels.values())
    found: dict[Identity, str] = {model: label for model, label in labels.items() if times[label] == 1}
    taken = set(found.values())
    for model, label in labels.items():
        if times[label] > 1:
            name, revision, *kept = model
            full = ":".join([f"{name}@{revision or 'none'}", *(part or "default" for part in kept)])
            number, found[model] = 1, full
            while found[model] in taken:
                number += 1
                found[model] = f"{full} ({number})"
            taken.add(found[model])
    return {model: found[model] for model in labels}


def _label(model: Identity, namesakes: Sequence[Identity]) -> str:
    name, revision, *kept = model
    label = f"{name}@{revision}" if len({other[1] for other in namesakes}) > 1 else name
    alike = [other for other in namesakes if other[1] == revision]
    for place, part in enumerate(kept, start=2):
        if len({other[place] for other in alike}) > 1:
            label += f":{part or 'default'}"
    return label


def find_model(name: str, labels: Mapping[Identity, str]) -> Identity:
    """Return the model that a person calls ``name``; raise UserError for an unknown or an ambiguous one.

    The revision may be cut where what is left still says which one is meant.
    """
    exact = [model for model, label in labels.items() if label == name]
    if exact:
        return exact[0]
    for found in (
        [model for model in labels if name in (model[0], f"{model[0]}@{model[1]}")],
        [model for model in labels if "@" in name and f"{model[0]}@{model[1]}".startswith(name)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(labels[model] for model in found)
            raise UserError(f"{name!r} is {len(found)} models here; name one of: {listed}")
    raise unknown_name("model", name, labels.values())
