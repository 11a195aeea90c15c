"""Run what fits in memory at once: a batch is cut where the device runs out, and goes on from where it stood.

The size begins at ``size`` and halves whenever memory runs out; with a ``limit`` above it, it doubles as long as a full batch
leaves more than half of the device's memory free. What a batch means (the effective batch of a tuning step, the examples of a
pass) is not touched: results are those of the whole batch up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from skillneurons.errors import CellError, LockstepError
from skillneurons.ranks import are_joined, broken_by, largest

Row = TypeVar("Row")
Done = TypeVar("Done")
TOLD = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")


class MicroBatches:
    """``size`` is how many rows run at once now; ``halved`` counts how often memory ran out.

    ``used`` returns the share of the device's memory that a batch has taken at most since it was last asked (None: unknown).
    """

    def __init__(self, size: int, limit: int | None = None, used: Callable[[], float | None] | None = None) -> None:
        self.size, self.limit, self.halved = size, max(size, limit or size), 0
        self._used = used or _device_share

    def run(self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Done]) -> list[tuple[Sequence[Row], Done]]:
        """Return (rows, result) of every part of a batch; raise CellError where a single row does not fit."""
        done: list[tuple[Sequence[Row], Done]] = []
        at = 0
        while at < len(rows):
            part = rows[at : at + self.size]
            failed = None
            try:
                result = work(part)
            except (RuntimeError, MemoryError) as error:
                if lost := broken_by(error):
                    raise LockstepError(f"another process of this run is gone ({lost})") from error
                if not is_out_of_memory(error):
                    raise
                if are_joined():  # the others wait in the middle of a pass that this one cannot take up again
                    raise LockstepError(
                        f"out of memory with {len(part)} examples at once, which processes that compute one model together cannot "
                        "recover from; give a smaller attribution.batch_size or prompt.batch_size, or a smaller cache.device_gb"
                    ) from error
                failed = str(error).strip().splitlines()[:1] or [type(error).__name__]
            if failed is None:
                done.append((part, result))
                at += len(part)
                self._grow(len(part))
                continue
            _give_memory_back()  # here the error and all that its frames held are gone
            if len(part) == 1:
                raise CellError(
                    f"out of memory with a single example at once ({failed[0]}); use a smaller model, a narrower model.dtype, "
                    "model.quantization, a smaller cache.device_gb, or --device cpu"
                )
            self.size = self.limit = max(1, len(part) // 2)
            self.halved += 1
        return done

    def _grow(self, ran: int) -> None:
        if ran < self.size or self.size >= self.limit:
            return
        used = self._used()
        if used is not None and used < 0.5:
            self.size = min(2 * self.size, self.limit)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device, or the host, has no memory left."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in TOLD)


def _give_memory_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _device_share() -> float | None:
    """Return the share of memory that was taken at most since the last question, of the GPU that is fullest; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    places = [torch.cuda.current_device()] if are_joined() else range(torch.cuda.device_count())
    shares = [0.0]
    for place in places:
        total: Any = torch.cuda.get_device_properties(place).total_memory
        shares.append(float(torch.cuda.max_memory_allocated(place) / total))
        torch.cuda.reset_peak_memory_stats(place)
    return largest(max(shares))
