"""Ctrl-C, and the signal that ends a job: the work stops where nothing is half done.

The first signal raises KeyboardInterrupt at once, or, inside ``deferred``, at its end: a cell that is being saved is saved, a
tuning writes its checkpoint between two steps. A second signal does not wait. Signals are the main thread's: elsewhere (a
notebook's worker) nothing is changed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop; ``signum`` says by which signal."""

    def __init__(self, message: str = "", signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signum = signum


class Interruption:
    """While it is entered, signals to stop are heard; ``say`` is told once when one has to wait."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.signum: int | None = None
        self._depth = 0
        self.say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heard = [one for one in SIGNALS if signal.getsignal(one) not in (signal.SIG_IGN, None)]
            self._before = {one: signal.signal(one, self._heard) for one in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    @property
    def pending(self) -> bool:
        """Whether a signal came that was not acted on yet."""
        return self.signum is not None

    def request(self) -> None:
        """Ask the work to stop, from another thread: what is ``deferred`` comes to its end, the rest at its next ``check``."""
        if self.signum is None:
            self.signum = signal.SIGINT

    def check(self) -> None:
        """Raise KeyboardInterrupt where the work was asked to stop and nothing is half done."""
        if self.pending and not self._depth:
            raise Interrupted(signum=self.signum or signal.SIGINT)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        again = self.pending
        self.signum = signum
        if again or not self._depth:
            raise Interrupted(signum=signum)
        if self.say is not None:
            self.say("stopping at the next safe place; once more to stop at once")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let what is inside come to its end; a signal that came meanwhile counts after it."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self.pending and not self._depth:
            raise Interrupted(signum=self.signum or signal.SIGINT)
