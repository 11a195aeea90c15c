"""Progress of long work on the terminal (rich, on standard error); silent in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType


class Progress:
    """A bar over all cells (if any) and one over the work in hand; shows nothing unless ``enabled`` on a terminal."""

    def __init__(self, n_cells: int, *, enabled: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not (enabled and self._console.is_terminal),
        )
        self._cells = self._bars.add_task("cells", total=n_cells, visible=n_cells > 0)

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars (only where there are bars)."""
        if not self._bars.disable:
            self._console.print(text, markup=False, highlight=False)

    def advance_cell(self) -> None:
        self._bars.advance(self._cells)

    def lane(self) -> Callable[[str, int, int], None]:
        """Return a function that shows the work of another (text, done, total) on a bar of its own; no text hides it."""
        bar = self._bars.add_task("", total=1, visible=False)

        def show(text: str, done: int, total: int) -> None:
            self._bars.update(bar, description=text, completed=done, total=total, visible=bool(text))

        return show

    @contextmanager
    def work(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for one piece of work; yields a function that advances it."""
        bar = self._bars.add_task(label, total=total)
        try:
            yield lambda n: self._bars.advance(bar, n)
        finally:
            self._bars.remove_task(bar)
