"""The processes that compute one model together (tensor parallel), as ``torchrun`` starts them: one per GPU, called ranks.

All ranks run the same program in lockstep: every forward pass is a collective of all of them, so each must come to the same
decisions. What a decision rests on (which neurons are ablated, how many examples run at once) is compared or taken together here. Rank 0 leads:
it alone writes results and speaks. Nothing here loads torch before ranks are joined.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from skillneurons.errors import LockstepError, UserError

COMMAND = "torchrun --nproc-per-node N -m skillneurons run ... --set model.tp_plan=auto"
PATIENCE = timedelta(hours=2)  # that a rank waits for another: loading a large model from a slow disk takes long
BROKEN = ("connection closed by peer", "connection reset by peer", "gloo/transport", "nccl error", "broken pipe")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of its run: its number, how many they are, and its number on its own machine."""

    rank: int
    size: int
    local: int

    @property
    def leads(self) -> bool:
        return self.rank == 0


def ranks_here() -> Ranks | None:
    """Return what torchrun's environment says of this process; None where it was not started by torchrun."""
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
    except (KeyError, ValueError):
        return None
    return Ranks(rank, size, local) if 0 <= rank < size else None


def checked_ranks() -> Ranks:
    """Return the ranks of this run; raise UserError where there are not two or more."""
    here = ranks_here()
    if here is None:
        raise UserError(
            "model.tp_plan 'auto' splits a model over several processes, and this is one by itself; start one process per GPU: "
            f"{COMMAND}"
        )
    if here.size < 2:
        raise UserError(
            "model.tp_plan 'auto' splits a model over several processes, and torchrun started one; give --nproc-per-node 2 or "
            f"more, or leave model.tp_plan out: {COMMAND}"
        )
    return here


def follows() -> bool:
    """Return whether this process is a rank that is not the first: it says nothing."""
    here = ranks_here()
    return here is not None and not here.leads


def joined() -> Ranks:
    """Join the ranks of this run, once; raise UserError where they cannot be."""
    import torch
    from torch import distributed

    here = checked_ranks()
    if distributed.is_initialized():
        return here
    if torch.cuda.is_available():
        n = torch.cuda.device_count()
        started = int(os.environ.get("LOCAL_WORLD_SIZE", here.local + 1))
        if max(started, here.local + 1) > n:  # told by every rank alike
            raise UserError(
                f"model.tp_plan 'auto': torchrun started {started} processes on a machine of {n} GPUs; give --nproc-per-node {n} at most"
            )
        torch.cuda.set_device(here.local)
        place = torch.device("cuda", here.local)
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE, device_id=place)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    return here


def are_joined() -> bool:
    """Return whether this process computes together with others."""
    import sys

    torch = sys.modules.get("torch")
    return (
        torch is not None
        and ranks_here() is not None
        and torch.distributed.is_available()
        and torch.distributed.is_initialized()
    )


def leave() -> None:
    """Part from the other ranks."""
    if are_joined():
        from torch import distributed

        distributed.destroy_process_group()


def meet() -> None:
    """Wait until every rank has come here."""
    agree("barrier", "")


def agree(what: str, text: str) -> None:
    """Raise LockstepError where the ranks do not say the same of something; without other ranks nothing is done."""
    if not are_joined():
        return
    import torch

    digest = hashlib.sha256(f"{what}\0{text}".encode()).digest()[:8]
    said = [int(one) for one in gathered(torch.tensor([int.from_bytes(digest, "big", signed=True)]))]
    if len(set(said)) > 1:
        others = [str(rank) for rank, one in enumerate(said) if one != said[0]]
        raise LockstepError(
            f"the ranks of this run differ in {what} (rank 0 from {', '.join(others)}), so what they compute together is of no "
            "use: a metric or a grader that answers differently each time does that; run it without model.tp_plan"
        )


def largest(value: float) -> float:
    """Return the largest of all ranks' values; without other ranks the value itself."""
    if not are_joined():
        return value
    import torch

    return max(float(one) for one in gathered(torch.tensor([value], dtype=torch.float64)))


def gathered(own: Any) -> list[Any]:
    """Return every rank's tensor of one shape, in the order of ranks; raise LockstepError where another is gone."""
    import torch
    from torch import distributed

    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    try:
        distributed.all_gather(parts, own)
    except RuntimeError as error:
        if not (lost := broken_by(error)):
            raise
        raise LockstepError(f"another process of this run is gone ({lost})") from error
    return parts


def mean_over_ranks(own: Any) -> Any:
    """Return the mean of every rank's tensor (of its attention heads, say, as many on each); without other ranks the tensor itself."""
    if not are_joined():
        return own
    parts = gathered(own)
    return sum(parts[1:], start=parts[0]) / len(parts)


def joined_last(own: Any, widths: Sequence[int]) -> list[Any]:
    """Return every rank's tensor (..., width of the rank), in the order of ranks; all but the last extent are the same."""
    import torch

    widest = max(widths)
    padded = torch.nn.functional.pad(own, (0, widest - own.shape[-1])) if own.shape[-1] < widest else own
    return [part[..., :width] for part, width in zip(gathered(padded), widths, strict=True)]


def broken_by(error: BaseException) -> str:
    """Return what an error says of the ranks having lost each other, or nothing."""
    if not are_joined():
        return ""
    told = " ".join(str(error).split())
    return told[:200] if any(words in told.lower() for words in BROKEN) else ""
