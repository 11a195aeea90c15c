"""Calling what a plugin registered: what it raises is told with the hook, the function and the example.

A registered function is somebody else's code. ``call_plugin`` runs it; an error that it raises on purpose (a
``SkillNeuronsError``) passes, anything else comes back as a ``PluginCallError``. Where the plugin is known too
(``plugin_failures``), its name, version, file and line stand before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from skillneurons.errors import CellError, PluginError, SkillNeuronsError

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
LONGEST = 1000

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class PluginCall:
    """What was called: a ``function`` of the ``kind`` (task, metric, attribution, grader) of a ``name``; ``about`` says on what."""

    kind: str
    name: str
    function: str
    about: str = ""

    @property
    def hook(self) -> str:
        """Return the hook that registered it."""
        return f"register_{self.kind}s"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}, {self.function}" + (f", {self.about}" if self.about else "")


class PluginCallError(PluginError, CellError):
    """A registered function raised: which, on what, and the error. Its ``__cause__`` is that error."""

    def __init__(self, call: PluginCall, error: BaseException) -> None:
        super().__init__(f"{call}: {error_line(error)}")
        self.call = call
        self.told = error_line(error)


class ToldElsewhere(CellError):
    """An error of another process, which stays there with its traceback: what ``kind`` it is, and how it was told there.

    ``\0`` in the text stands where a cell may be named (``told``).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def told(self, about: str = "") -> str:
        """Return the text; ``about`` is ``cell KEY`` or empty."""
        return self.text.replace(" for \0", f" for {about}" if about else "")

    def __str__(self) -> str:
        return self.told()


def kind_of(error: BaseException | None) -> str:
    """Return the name of an error's type, of an error of another process the one that it has there."""
    return error.kind if isinstance(error, ToldElsewhere) else type(error).__name__


def call_plugin(call: PluginCall, function: Callable[..., Returned], *given: Any, **named: Any) -> Returned:
    """Call a registered function; an error that is not ours comes back as a PluginCallError."""
    try:
        return function(*given, **named)
    except SkillNeuronsError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code: it may fail in any way
        raise PluginCallError(call, error) from error


def error_line(error: BaseException) -> str:
    """Return an error's type and text as one line, the same in every run: addresses are left out."""
    try:
        text = " ".join(str(error).split())
    except Exception as second:  # the text of an error is the plugin's code too
        text = f"(its text cannot be shown: {type(second).__name__})"
    text = ADDRESS.sub("0x...", text)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
