"""Inputs run once: their keys and values, which a prompt that stands after them does not change.

One forward pass without gradient per example fills the cache; whatever is done with prompts afterwards (every step of
tuning, the pass under a tuned prompt, the same under an untuned one) runs prompt and answer tokens alone against it.

Keys and values stay on the model's device up to ``device_bytes``, then in host memory (pinned where there is a GPU) up to
``host_bytes``. The inputs of examples beyond that are run again each time, which costs their forward pass and no memory; so
are those of a model whose layers keep no more than a window that the sequence exceeds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skillneurons.errors import UserError
from skillneurons.inputs import EncodedExample, equal_length_batches
from skillneurons.micro_batches import MicroBatches
from skillneurons.model import LanguageModel
from skillneurons.prefix import Prefix, by_length, run_prefix, side_by_side
from skillneurons.workspace import Workspace, WorkspaceLayer
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


@dataclass(frozen=True)
class CacheBudget:
    """How many bytes of keys and values may lie on the model's device, and how many more in host memory."""

    device_bytes: int = 2 << 30
    host_bytes: int = 4 << 30

    @classmethod
    def of_gigabytes(cls, device: float, host: float) -> CacheBudget:
        """Return a budget of so many gigabytes (10^9 bytes) on the device and in host memory."""
        return cls(int(device * 1e9), int(host * 1e9))

    def __post_init__(self) -> None:
        if self.device_bytes < 0 or self.host_bytes < 0:
            raise UserError("a cache budget must not be negative; 0 keeps nothing and runs the inputs again")


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers whose keys and values have one shape, dtype and device, so that they are kept in one tensor."""

    layers: tuple[int, ...]
    device: torch.device


class InputCache:
    """Keys and values of the inputs of one split, by their token ids.

    ``room`` is the number of tokens that may follow an input (prompt and answer). ``stored`` counts the inputs on the
    device, in host memory, and those that are run again.
    """

    def __init__(self, lm: LanguageModel, *, room: int, budget: CacheBudget | None = None) -> None:
        self.lm, self.room = lm, room
        self._left = budget or CacheBudget()
        self._rows: dict[tuple[int, ...], list[torch.Tensor]] = {}  # a group's (layers, 2, heads, T, head size)
        self._groups: list[_Group] = []
        self._template: Any = None
        self._workspace = Workspace()
        self.stored = {"device": 0, "host": 0, "again": 0}

    def fill(
        self,
        encoded: Sequence[EncodedExample],
        batch_size: int = 64,
        progress: Callable[[int], None] | None = None,
        *,
        fitting: MicroBatches | None = None,
    ) -> InputCache:
        """Run inputs without gradient, those of one length together, and keep what fits."""

        @torch.no_grad()
        def run(part: Sequence[EncodedExample]) -> None:
            self.keep(part, run_prefix(self.lm, part, None, logits=False, read=1).cache)

        fitting = fitting or MicroBatches(batch_size)
        for rows in equal_length_batches(encoded, fitting.limit, self.lm.tokens_at_once):
            new = list({row.ids: row for row in rows if row.ids not in self._rows}.values())
            fitting.run(new, run)
            if progress:
                progress(len(rows))
        return self

    def keep(self, rows: Sequence[EncodedExample], cache: Any) -> None:
        """Keep the cache of inputs of one length that have just run, where it fits; the cache itself may be used on."""
        new = {row.ids: i for i, row in enumerate(rows) if row.ids not in self._rows}
        groups = self._stackable(cache, len(rows[0].ids))
        if groups is None:
            self.stored["again"] += len(new)
            return
        if not new:
            return
        picked = list(new.values())
        tensors = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        size = sum(part[0].numel() * part.element_size() for part in tensors) * len(new)
        on_device, on_host = self._left.device_bytes, self._left.host_bytes
        if self.lm.device.type == "cpu":  # device and host are the same memory
            on_device, on_host = on_device + on_host, 0
        if size > max(on_device, on_host):
            self._refuse_tiny(size // len(new))
            self.stored["again"] += len(new)
            return
        place = "device" if size <= on_device else "host"
        packed = []
        for group in groups:
            layers = [cache.layers[i] for i in group.layers]
            pairs = torch.stack([torch.stack((one.keys[picked], one.values[picked]), 1) for one in layers], 1)
            packed.append(pairs if place == "device" else pairs.to("cpu").pin_memory())  # (rows, layers, 2, ...)
        self._spend(size, place)
        self.stored[place] += len(new)
        for number, ids in enumerate(new):
            self._rows[ids] = [pairs[number] for pairs in packed]
        if self._template is None:
            self._groups = groups
            self._template = copy.copy(cache)
            self._template.layers = [copy.copy(layer) for layer in cache.layers]
            for layer in self._template.layers:
                layer.keys = layer.values = None

    @property
    def left(self) -> CacheBudget:
        """What is left of the budget."""
        return self._left

    def allow(self, budget: CacheBudget) -> None:
        """Set what is left of a budget that is shared with another cache."""
        self._left = budget

    def holds(self, rows: Sequence[EncodedExample]) -> bool:
        """Return whether none of these inputs has to be run again."""
        return all(row.ids in self._rows for row in rows)

    @torch.no_grad()
    def start(self, rows: Sequence[EncodedExample], *, apart: bool = False, once: bool = False) -> Prefix:
        """Return the inputs of rows as one batch with a cache of its own, padded on the left where their lengths differ.

        Inputs that are run again are padded too, or with ``apart`` (rows stand by length) run by length as those kept
        were. ``once``: what is returned is used up, gradients and all, before the next call with ``once``, whose keys and
        values take its place in memory; at most ``room`` tokens follow.
        """
        if not self.holds(rows):
            if apart:
                return side_by_side([self._start(same) for same in by_length(rows)])
            return run_prefix(self.lm, rows, None, logits=False, read=1)
        return self._start(rows, once)

    def _start(self, rows: Sequence[EncodedExample], once: bool = False) -> Prefix:
        if not self.holds(rows):
            return run_prefix(self.lm, rows, None, logits=False, read=1)
        lengths = [len(row.ids) for row in rows]
        longest = max(lengths)
        cache = copy.copy(self._template)
        cache.layers = [copy.copy(layer) for layer in self._template.layers]
        for number, group in enumerate(self._groups):
            parts = [self._rows[row.ids][number] for row in rows]
            n_layers, two, heads, _, size = parts[0].shape
            shape = (n_layers, two, len(rows), heads, longest + (self.room if once else 0), size)
            if once:
                packed = self._workspace.take(number, shape, parts[0], group.device)
            else:
                packed = torch.empty(shape, dtype=parts[0].dtype, device=group.device)
            for i, part in enumerate(parts):
                packed[:, :, i, :, : longest - lengths[i]].zero_()  # masked, but not-a-number times 0 is none
                packed[:, :, i, :, longest - lengths[i] : longest].copy_(part, non_blocking=True)
            for place, pair in zip(group.layers, packed, strict=True):
                layer = cache.layers[place]
                if once and type(layer) is DynamicLayer:
                    # detached through .data: each has a version of its own, for writing one must not spoil another's graph
                    cache.layers[place] = WorkspaceLayer(pair[0].data, pair[1].data, longest)
                    continue
                layer.keys, layer.values = pair[0][..., :longest, :], pair[1][..., :longest, :]
                if hasattr(layer, "cumulative_length"):
                    layer.cumulative_length = longest
        mask = None
        if min(lengths) < longest:
            mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths], device=self.lm.device)
        nothing = torch.empty((len(rows), 0), dtype=self.lm.dtype, device=self.lm.device)
        return Prefix(cache, nothing, mask)

    def _stackable(self, cache: Any, length: int) -> list[_Group] | None:
        """Return the groups of layers where every layer holds every position, now and with what follows; else None."""
        groups: dict[Any, list[int]] = {}
        for i, layer in enumerate(cache.layers):
            window = layer.sliding_window if type(layer) is DynamicSlidingWindowLayer else None
            if window is None and type(layer) is not DynamicLayer:
                return None
            if window is not None and length + self.room >= window:
                return None
            if layer.keys.shape != layer.values.shape or layer.keys.dtype != layer.values.dtype:
                return None
            groups.setdefault((layer.keys.shape, layer.keys.dtype, layer.keys.device), []).append(i)
        return [_Group(tuple(layers), key[2]) for key, layers in groups.items()]

    def _spend(self, size: int, place: str) -> None:
        left = self._left
        device, host = left.device_bytes, left.host_bytes
        if place == "host":
            host -= size
        else:  # on a CPU the one goes over into the other
            host -= max(0, size - device)
            device = max(0, device - size)
        self._left = CacheBudget(device, host)

    def _refuse_tiny(self, size: int) -> None:
        """Refuse a budget that never held anything and is not 0: nobody asks for that."""
        left = self._left
        if not self._rows and 0 < left.device_bytes + left.host_bytes < size:
            raise UserError(
                f"the cache budget of {left.device_bytes + left.host_bytes} bytes does not hold one input ({size} bytes); "
                "give more (cache.device_gb, cache.host_gb), or 0 for both to run inputs again at every step"
            )
