"""The display of a worker without a screen: it keeps what would be shown, for who asks; work can be left at each of its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skillneurons.progress import Progress


class WorkerDisplay(Progress):
    """Keeps lines, the work in hand and the number of cells; ``check`` is called at every step and may raise."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(0, enabled=False)
        self._check = check
        self._guard = threading.Lock()
        self._lines: list[str] = []
        self._work: list[list[Any]] = []  # [label, done, total], the innermost last
        self._done = 0

    def say(self, text: str) -> None:
        with self._guard:
            self._lines.append(text)

    def advance_cell(self) -> None:
        with self._guard:
            self._done += 1

    @contextmanager
    def work(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        mine: list[Any] = [label, 0, total]

        def step(n: int) -> None:
            with self._guard:
                mine[1] += n
            self._check()

        with self._guard:
            self._work.append(mine)
        try:
            yield step
        finally:
            with self._guard:
                self._work = [one for one in self._work if one is not mine]

    def begin(self) -> None:
        """Count cells from 0 again: another job."""
        with self._guard:
            self._done = 0

    def told(self) -> dict[str, Any]:
        """Return the lines since it was asked last, the innermost work in hand, and how many cells of the job are done."""
        with self._guard:
            lines, self._lines = self._lines, []
            return {"lines": lines, "work": list(self._work[-1]) if self._work else None, "cells": self._done}
