"""Sums of rows of activations and values that merge exactly: counts, means and centred second moments (float64, torch).

Each batch is summed about its own mean and merged by Chan's rule (Chan, Golub & LeVeque 1983). What is not scored (NaN in
values) or did not fire (NaN in activations) is left out pair by pair. Where nothing is missing on one side, that side's sums
are kept once instead of once per partner: shapes broadcast, (columns, 1) or (1, neurons).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skillneurons.errors import UserError

TOGETHER = 256  # rows that are summed in one product
WAITING = 1 << 26  # bytes of activations that wait for that at most

Doubles = npt.NDArray[np.float64]


@dataclass(slots=True)
class Moments:
    """All of them broadcast to (columns, neurons)."""

    n: torch.Tensor
    mean_value: torch.Tensor
    m2_value: torch.Tensor
    mean_activation: torch.Tensor
    m2_activation: torch.Tensor
    comoment: torch.Tensor

    def moved(self, values: torch.Tensor, activations: torch.Tensor) -> Moments:
        """Return the moments of the same rows with ``values`` (columns, 1) and ``activations`` (1, neurons) added to them."""
        return Moments(
            self.n,
            self.mean_value + values,
            self.m2_value,
            self.mean_activation + activations,
            self.m2_activation,
            self.comoment,
        )


def no_rows(n_columns: int, n_neurons: int, device: torch.device) -> Moments:
    """Return the moments of no rows at all."""

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=device)

    column, neuron = (n_columns, 1), (1, n_neurons)
    return Moments(
        zeros(1, 1), zeros(*column), zeros(*column), zeros(*neuron), zeros(*neuron), zeros(n_columns, n_neurons)
    )


def known_mean(numbers: torch.Tensor) -> torch.Tensor:
    """Return the mean of each column of (rows, ...) over what is not NaN; NaN where there is nothing."""
    missing = numbers.isnan()
    if not bool(missing.any()):
        return numbers.sum(dim=0) / len(numbers)
    return numbers.masked_fill(missing, 0.0).sum(dim=0) / (~missing).sum(dim=0)


def batch_moments(a: torch.Tensor, v: torch.Tensor) -> Moments:
    """Return the moments of rows: ``a`` (rows, neurons), ``v`` (rows, columns), float64, NaN where missing.

    Both are used up: centred in place, because a copy of ``a`` is most of what a pass needs beside the model.
    """
    missing_a, missing_v = a.isnan(), v.isnan()
    some_a, some_v = bool(missing_a.any()), bool(missing_v.any())
    shift_a, shift_v = known_mean(a).nan_to_num(), known_mean(v).nan_to_num()
    a.sub_(shift_a)
    v.sub_(shift_v)
    if some_a:
        a.masked_fill_(missing_a, 0.0)
    if some_v:
        v.masked_fill_(missing_v, 0.0)
    fired = (~missing_a).double() if some_a else None
    scored = (~missing_v).double() if some_v else None
    if scored is None:
        n = a.new_full((1, 1), float(len(a))) if fired is None else fired.sum(0)[None]
        sum_a, sum_aa = a.sum(0)[None], (a * a).sum(0)[None]
    else:
        n = scored.sum(0)[:, None] if fired is None else scored.T @ fired
        sum_a, sum_aa = scored.T @ a, scored.T @ (a * a)
    if fired is None:
        sum_v, sum_vv = v.sum(0)[:, None], (v * v).sum(0)[:, None]
    else:
        sum_v, sum_vv = v.T @ fired, (v * v).T @ fired
    rows = n.clamp_min(1.0)
    rest_v, rest_a = (
        sum_v / rows,
        sum_a / rows,
    )  # rounding left over by the shift, and how the shared rows differ from all
    comoment = torch.addmm((rows * rest_v * rest_a).expand(v.shape[1], a.shape[1]), v.T, a, beta=-1.0)
    return Moments(
        n=n,
        mean_value=shift_v[:, None] + rest_v,
        m2_value=(sum_vv - rows * rest_v**2).clamp_min(0.0),
        mean_activation=shift_a[None] + rest_a,
        m2_activation=(sum_aa - rows * rest_a**2).clamp_min(0.0),
        comoment=comoment,
    )


def merged(x: Moments, y: Moments) -> Moments:
    """Return the moments of both sets of rows."""
    n = x.n + y.n
    share = y.n / n.clamp_min(1.0)
    weight = x.n * share
    d_value, d_activation = y.mean_value - x.mean_value, y.mean_activation - x.mean_activation
    comoment = x.comoment + y.comoment
    comoment += (weight * d_value) * d_activation
    return Moments(
        n=n,
        mean_value=x.mean_value + share * d_value,
        m2_value=x.m2_value + y.m2_value + weight * d_value**2,
        mean_activation=x.mean_activation + share * d_activation,
        m2_activation=x.m2_activation + y.m2_activation + weight * d_activation**2,
        comoment=comoment,
    )


class RunningMoments:
    """The moments of all rows so far, on one device; rows are summed ``TOGETHER`` at a time, about the first rows' means."""

    def __init__(self, n_neurons: int, n_columns: int, device: Any) -> None:
        self.n_neurons, self.n_columns, self.device = n_neurons, n_columns, sums_device(device)
        self._moments = no_rows(n_columns, n_neurons, self.device)
        self._shift: tuple[torch.Tensor, torch.Tensor] | None = None  # of activations and values; NaN: none seen yet
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def rows(self, activations: Any, values: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both as tensors; raise UserError where shapes do not fit."""
        a, v = _tensor(activations), _tensor(values).double()
        if a.dim() != 2 or a.shape[1] != self.n_neurons or v.shape != (len(a), self.n_columns):
            raise UserError(
                f"activations must be (rows, {self.n_neurons}) and values (rows, {self.n_columns}) "
                f"of the same rows, got {tuple(a.shape)} and {tuple(v.shape)}"
            )
        return a, v

    def add(self, a: torch.Tensor, v: torch.Tensor) -> None:
        """Add rows: ``a`` (rows, neurons), ``v`` (rows, columns)."""
        self._waiting.append((a.detach().to(self.device), v.to(self.device)))
        rows = sum(len(one) for one, _ in self._waiting)
        if rows >= TOGETHER or 4 * rows * self.n_neurons >= WAITING:
            self.all()

    def all(self) -> Moments:
        """Return the moments of all rows, those that waited too."""
        if self._waiting:
            rows = sum(len(one) for one, _ in self._waiting)
            a = torch.empty((rows, self.n_neurons), dtype=torch.float64, device=self.device)
            at = 0
            for one, _ in self._waiting:
                a[at : at + len(one)] = one
                at += len(one)
            v = torch.cat([one for _, one in self._waiting])
            self._waiting.clear()
            first = (known_mean(a), known_mean(v))
            self._shift = first if self._shift is None else _filled(self._shift, first)
            about_a, about_v = self._shift
            a.sub_(about_a.nan_to_num())
            self._moments = merged(self._moments, batch_moments(a, v - about_v.nan_to_num()))
        return self._moments

    def totals(self) -> Moments:
        """Return the moments of all rows with their true means."""
        m = self.all()
        if self._shift is None:
            return m
        shift_a, shift_v = (one.nan_to_num() for one in self._shift)
        return m.moved(shift_v[:, None], shift_a[None])

    def to(self, device: Any) -> None:
        """Move all sums to another device; no number changes."""
        place = sums_device(device)
        m = self.all()
        self._moments = Moments(*(getattr(m, name).to(place) for name in m.__slots__))
        if self._shift is not None:
            self._shift = (self._shift[0].to(place), self._shift[1].to(place))
        self.device = place

    def merge(self, other: RunningMoments) -> None:
        """Add the rows another one has seen; the order does not matter."""
        mine, theirs = self.all(), other.all()
        if other._shift is None:
            return
        about = (other._shift[0].to(self.device), other._shift[1].to(self.device))
        theirs = Moments(*(getattr(theirs, name).to(self.device) for name in theirs.__slots__))
        if self._shift is None:
            self._shift, self._moments = about, theirs
            return
        self._shift = _filled(self._shift, about)
        apart_a, apart_v = ((one - own).nan_to_num() for one, own in zip(about, self._shift, strict=True))
        self._moments = merged(mine, theirs.moved(apart_v[:, None], apart_a[None]))

    @classmethod
    def beside(cls, parts: Sequence[RunningMoments], n_positions: int = 1) -> RunningMoments:
        """Return the moments of the neurons of several others side by side, in host memory; all have seen the same rows.

        Each part's neurons are numbered position by position, ``n_positions`` times as many; so are those of all together.
        """
        n_columns = parts[0].n_columns
        found = cls(sum(part.n_neurons for part in parts), n_columns, "cpu")
        every = [part.all() for part in parts]
        shifts = [part._shift for part in parts if part._shift is not None]
        if len(shifts) < len(parts):
            return found

        def wide(numbers: torch.Tensor, n: int) -> torch.Tensor:
            return numbers.cpu().expand(-1, n).reshape(len(numbers), n_positions, -1)

        def joined(numbers: Sequence[torch.Tensor], by_neuron: bool) -> torch.Tensor:
            """Join (columns or 1, neurons or 1); what no part has by neuron is the same of all."""
            if not by_neuron and all(
                one.shape[1] == 1 < part.n_neurons for one, part in zip(numbers, parts, strict=True)
            ):
                return numbers[0].cpu()
            most = max(len(one) for one in numbers)
            by_part = [wide(one.expand(most, -1), part.n_neurons) for one, part in zip(numbers, parts, strict=True)]
            return torch.cat(by_part, dim=2).flatten(1)

        about = shifts[0][1].cpu()
        every = [
            one.moved((shift[1].cpu() - about).nan_to_num()[:, None].to(one.mean_value.device), one.n.new_zeros((1, 1)))
            for one, shift in zip(every, shifts, strict=True)
        ]
        once = ("n", "mean_value", "m2_value")  # where nothing is missing
        found._moments = Moments(
            *(joined([getattr(one, name) for one in every], name not in once) for name in Moments.__slots__)
        )
        found._shift = (joined([shift[0][None] for shift in shifts], True)[0], about)
        return found

    def counts(self) -> Doubles:
        """Return the number of scored rows of each column, shape (columns,); of the neuron that fired most often."""
        found: Doubles = self.all().n.amax(dim=1).expand(self.n_columns).cpu().numpy().copy()
        return found

    def mean_and_sd(self) -> tuple[Doubles, Doubles]:
        """Return mean and population sd of each column's values, shapes (columns,)."""
        m = self.all()
        if m.n.shape[1] > 1:
            raise UserError("mean_and_sd: with neurons that did not always fire, a column has no single mean")
        shift = 0.0 if self._shift is None else self._shift[1].nan_to_num()
        n = m.n[:, 0].expand(self.n_columns)
        mean = (m.mean_value[:, 0] + shift).masked_fill(n == 0, torch.nan)
        return mean.cpu().numpy(), (m.m2_value[:, 0] / n).sqrt().cpu().numpy()

    def correlation(self, limit_activation: float, limit_value: float, fewest: int) -> Doubles:
        """Return r (columns, neurons), NaN for fewer than ``fewest`` rows or an sd below a limit's share of the mean."""
        m = self.all()
        if self._shift is None:
            return np.full((self.n_columns, self.n_neurons), np.nan)
        sd_value, sd_activation = (m.m2_value / m.n).sqrt(), (m.m2_activation / m.n).sqrt()
        r = m.comoment / m.n / (sd_value * sd_activation)
        shift_a, shift_v = (one.nan_to_num() for one in self._shift)
        flat = sd_activation <= limit_activation * (m.mean_activation + shift_a[None]).abs()
        flat = flat | (sd_value <= limit_value * (m.mean_value + shift_v[:, None]).abs()) | (m.n < fewest)
        found: Doubles = r.masked_fill(flat, torch.nan).clamp(-1.0, 1.0).cpu().numpy()
        return found


def sums_device(device: Any) -> torch.device:
    """Return where sums of activations on this device are kept: there, or in host memory where it has no float64 (mps)."""
    place = torch.device(device)
    return torch.device("cpu") if place.type == "mps" else place


def _tensor(numbers: Any) -> torch.Tensor:
    return numbers if isinstance(numbers, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(numbers))


def _filled(
    own: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the own shifts, and the other ones where nothing was seen before."""
    a, v = (torch.where(one.isnan(), two, one) for one, two in zip(own, other, strict=True))
    return a, v
