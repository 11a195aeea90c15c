"""What is known of a plugin: where it comes from, whether it could be loaded, what it registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """Where a plugin comes from, whether it could be loaded, and what it registered.

    ``file`` and ``line``: its module and where its first hook begins, or where it failed. ``hooks`` are those that it
    implements; ``warned`` is what it warned of while it was loaded.
    """

    name: str
    kind: Literal["builtin", "entry point", "module", "file"]
    status: Literal["ok", "broken", "blocked"] = "ok"
    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None
    file: str | None = None
    line: int | None = None
    source_hash: str | None = None
    error: str | None = None
    hooks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    graders: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return name, version and place: ``mine 1.2 (mine.py:3)``."""
        return self.label_at(self.line)

    @property
    def reason(self) -> str | None:
        """Return why the plugin is not there; None where it is."""
        if self.status == "blocked":
            return f"left out by --no-plugin {self.name}"
        return self.error

    def label_at(self, line: int | None, file: str | None = None) -> str:
        """Return the label with another place: a line of the plugin's file, or of another file."""
        version = f" {self.version}" if self.version else ""
        place = file or self.file
        return f"{self.name}{version}" + (f" ({place}{f':{line}' if line else ''})" if place else "")
