"""Record feed-forward activations at a site, at the last positions of the running sequence.

``reduce`` says what is kept of several positions: their ``mean``, or ``each`` of them. A neuron of a mixture of experts has NaN
where its expert did not fire; the mean is over the positions where it did.

Each layer's activations stay on the layer's own device (``DeviceRows``) until somebody joins them. Where ranks hold a part of every
layer each, a recorder keeps the own part and joins all in the model's order of neurons (``neuron_split``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.errors import ModelError
from skillneurons.expert_activations import expert_activations
from skillneurons.model import LanguageModel
from skillneurons.sequences import Sequences
from skillneurons.sites import ExpertSite, sites_of


@dataclass(frozen=True, eq=False)
class DeviceRows:
    """Activations of a batch, each part (batch, positions, neurons) those of layers in a row that lie on one device."""

    parts: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def cpu(self) -> torch.Tensor:
        """Return all of them in host memory, (batch, positions * neurons)."""
        return torch.cat([part.cpu() for part in self.parts], dim=2).flatten(1)


Rows = torch.Tensor | DeviceRows


def rows_together(batches: Sequence[Rows]) -> Rows:
    """Return the activations of several batches of one recorder as those of one."""
    first, *others = batches
    if isinstance(first, torch.Tensor):
        return torch.cat([one for one in batches if isinstance(one, torch.Tensor)]) if others else first
    every = [one.parts for one in batches if isinstance(one, DeviceRows)]
    return DeviceRows(tuple(torch.cat(same) for same in zip(*every, strict=True)))


class ActivationRecorder:
    """A context in which forward passes leave their activations.

    ``last_positions`` is the number of positions read (1 = the last one alone). Only passes run
    while ``enabled`` are recorded, so that answer tokens can be run without touching the reading. With
    ``graph`` the tensors stay part of the computation graph. ``keep`` (n_layers, d_ff) records some neurons alone.
    """

    def __init__(
        self,
        lm: LanguageModel,
        last_positions: int = 1,
        *,
        site: str = "product",
        reduce: str = "mean",
        graph: bool = False,
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._kept = (
            None
            if keep is None
            else {layer: torch.from_numpy(np.flatnonzero(mine)) for layer, mine in enumerate(keep) if mine.any()}
        )
        self._own = self._kept  # of those, the ones that this process holds, numbered from its first
        if self._kept is not None and lm.split is not None:
            split = lm.split
            self._own = {layer: mine[split.of(mine)] - split.start for layer, mine in self._kept.items()}
        self.lm, self.last_positions, self.reduce, self.graph = lm, last_positions, reduce, graph
        self.enabled = True
        self._sites = sites_of(lm, site)
        self._sequences = Sequences(lm)
        self._rows: dict[int, torch.Tensor] = {}
        self._handles: list[Any] = []

    @property
    def n_positions(self) -> int:
        """How many positions a row keeps apart."""
        return self.last_positions if self.reduce == "each" else 1

    def __enter__(self) -> ActivationRecorder:
        try:
            self._add_hooks()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _add_hooks(self) -> None:
        self._handles.append(self._sequences.watch())
        for layer, site in enumerate(self._sites):
            if self._kept is not None and layer not in self._kept:
                continue
            if isinstance(site, ExpertSite):
                self._handles += self._of_experts(layer, site)
            elif site.before:
                self._handles.append(site.module.register_forward_pre_hook(self._before(layer)))
            else:
                self._handles.append(site.module.register_forward_hook(self._after(layer)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, layer: int) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def record(_module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            self._keep(layer, args[0])

        return record

    def _after(self, layer: int) -> Callable[[torch.nn.Module, tuple[Any, ...], torch.Tensor], None]:
        def record(_module: torch.nn.Module, _args: tuple[Any, ...], out: torch.Tensor) -> None:
            self._keep(layer, out)

        return record

    def _of_experts(self, layer: int, site: ExpertSite) -> list[Any]:
        """Return the hooks of a mixture; a shared expert's neurons stand last."""
        parts: dict[str, torch.Tensor] = {}

        def experts(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            if self.enabled:
                self._refuse_graph()
                hidden, chosen = (self._sequences.apart(part.detach())[:, -self.last_positions :] for part in args[:2])
                read = expert_activations(module, hidden.flatten(0, 1), chosen.flatten(0, 1))
                parts["experts"] = read.reshape(*hidden.shape[:2], -1)

        def shared(_module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            if self.enabled:
                parts["shared"] = self._sequences.apart(args[0].detach())[:, -self.last_positions :]

        def end(_module: torch.nn.Module, _args: Any, _out: Any) -> None:
            if self.enabled:
                self._keep(layer, torch.cat([parts.pop(name) for name in ("experts", "shared") if name in parts], -1))

        handles = [
            site.experts.register_forward_pre_hook(experts),
            site.module.register_forward_hook(end),
        ]
        if site.shared is not None:
            handles.append(site.shared.register_forward_pre_hook(shared))
        return handles

    def _refuse_graph(self) -> None:
        if self.graph:
            raise ModelError(
                f"model {self.lm.name!r} is a mixture of experts: their activations cannot be part of a gradient; use "
                "another attribution.statistic"
            )

    def _keep(self, layer: int, seen: torch.Tensor) -> None:
        if not self.enabled:
            return
        if self.graph:
            self._rows[layer] = seen
            return
        read = self._sequences.apart(seen.detach())[:, -self.last_positions :]  # (B, positions, d_ff)
        if self._own is not None:
            own = self._own[layer] = self._own[layer].to(read.device)
            read = read[..., own]
        if self.reduce == "mean" and read.shape[1] > 1:
            read = read.float()
            read = read.nanmean(dim=1, keepdim=True) if self.lm.has_experts else read.mean(dim=1, keepdim=True)
        # a copy: a view would keep the layer's activations at every position until the last layer has run
        self._rows[layer] = read.to(torch.float32, copy=True)

    def forget(self) -> None:
        """Forget what was recorded."""
        self._rows.clear()

    def take(self) -> torch.Tensor:
        """Return the last recorded activations (batch, n_positions * n_neurons), float32, and forget them.

        Neurons stand layer by layer; those of ``keep`` alone where it is given. Of layers on several devices they come in host memory.
        """
        rows = self.take_where_they_are()
        return rows if isinstance(rows, torch.Tensor) else rows.cpu()

    def take_where_they_are(self) -> Rows:
        """Return the same, each layer's on its own device where there are several."""
        return self.together(
            [self._rows.pop(layer) for layer in (range(self.lm.n_layers) if self._kept is None else self._kept)]
        )

    def together(self, layers: Sequence[torch.Tensor]) -> Rows:
        """Return what was made of each recorded layer, (batch, positions, own neurons) each, as ``take_where_they_are`` does."""
        if self.lm.split is not None:
            kept = None if self._kept is None else list(self._kept.values())
            return self.lm.split.whole(layers, kept).flatten(1)
        parts = [torch.cat(list(same), dim=2) for _, same in groupby(layers, key=lambda row: row.device)]
        return parts[0].flatten(1) if len(parts) == 1 else DeviceRows(tuple(parts))

    def take_graph(self) -> list[torch.Tensor]:
        """Return what each layer's site saw, whole sequences (batch, T, d_ff) or all their tokens in one row (batch * T, d_ff).

        The tensors are still in the graph, and are forgotten here.
        """
        return [self._rows.pop(layer) for layer in range(self.lm.n_layers)]
