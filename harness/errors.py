"""Errors a person can mend, and how their messages are built.

Every message carries the value, the rule and the remedy, in one line:
``no task named 'hanz'; did you mean 'hans'? known: arithmetic, hans, skillmix``.
The command line prints such an error without a traceback and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SkillNeuronsError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(SkillNeuronsError):
    """The user has something to mend: what is wrong, where, and what would be right (exit 2)."""


class UnknownNameError(UserError):
    """A task, metric, column, setting or file that nobody knows by that name."""


class PluginError(UserError):
    """A plugin that cannot be used: it names the plugin, its file and line, and the rule."""


class ConfigError(UserError):
    """One or several faults of a configuration, all listed, each with its place."""


class ModelError(UserError):
    """A model that cannot be loaded or whose architecture is not understood."""


class DataError(UserError):
    """Data of a task that does not have the promised form."""


class ResultsError(UserError):
    """A results folder that cannot be read or written."""


class StorageError(ResultsError):
    """A file or folder that cannot be written (full disk, no permission): the run stops, what is finished is saved."""


class ClusterError(UserError):
    """A cluster that does not answer, has no room, or whose workers are not like this one: the run stops, what is finished is saved."""


class LockstepError(StorageError):
    """Processes that compute one model together have lost each other: the run stops, what is finished is saved."""


class CellError(SkillNeuronsError):
    """A cell that cannot be finished; the others go on (exit 1)."""


class ShardLost(CellError):
    """Who ran a shard, or kept its rows, is gone; the shard can be run again elsewhere."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """Build the error for a ``name`` that is not among the ``known`` names of this ``kind``."""
    names = sorted(known)
    message = f"no {kind} named {name!r}"
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        message += f"; did you mean {near[0]!r}?"
        message += f" known: {', '.join(names)}"
    else:
        message += f"; known: {', '.join(names) or 'none'}"
    return UnknownNameError(message + (f"; {hint}" if hint else ""))
