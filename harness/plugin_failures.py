"""What is said when a plugin's code raises while a run uses it.

``plugin X 1.2 (file:line) failed in hook Y (what, on what) for cell Z: TypeError: ...``. The line is that of the plugin's
own file where it happened. What a task, metric or grader registered is called by ``plugin_calls``, which names
the function; an accumulator is called from many places, so it is found by the files of the traceback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType

from skillneurons.plugin_calls import PluginCallError, error_line
from skillneurons.plugin_record import PluginRecord


def failure_line(
    record: PluginRecord, hook: str, error: BaseException | None, told: str, *, doing: str, about: str
) -> str:
    """Return the line on an error in a plugin's hook; ``doing`` and ``about`` (``cell KEY``) may be empty."""
    file, line = _place(record, error)
    what = f" ({doing})" if doing else ""
    whom = f" for {about}" if about else ""
    return f"plugin {record.label_at(line, file)} failed in hook {hook}{what}{whom}: {told}"


def call_failure(record: PluginRecord, error: PluginCallError, about: str) -> str:
    """Return the line on a registered function that raised."""
    return failure_line(record, error.call.hook, error.__cause__, error.told, doing=str(error.call), about=about)


def raw_failure(records: Sequence[PluginRecord], error: BaseException, about: str) -> str | None:
    """Return the line on an error that came through a plugin's file, the innermost one; None where it came through none."""
    by_file = {Path(one.file).resolve(): one for one in records if one.file and one.status == "ok"}
    found: tuple[PluginRecord, CodeType] | None = None
    for file, _, code in _frames(error):
        record = by_file.get(file)
        if record is not None and (found is None or found[0] is not record):
            found = record, code
    if found is None:
        return None
    record, code = found
    hook = "register_attributions" if record.attributions else next(iter(record.hooks), "")
    return failure_line(record, hook, error, error_line(error), doing=code.co_qualname, about=about)


def _place(record: PluginRecord, error: BaseException | None) -> tuple[str | None, int | None]:
    """Return file and line of the innermost frame of the plugin's file, or else of a file beside it."""
    own = Path(record.file).resolve() if record.file else None
    frames = [(file, line) for file, line, _ in _frames(error)] if error is not None and own is not None else []
    for file, line in reversed(frames):
        if file == own:
            return record.file, line
    for file, line in reversed(frames):
        if own is not None and file.parent == own.parent:
            return str(file), line
    return record.file, record.line


def _frames(error: BaseException) -> Iterator[tuple[Path, int, CodeType]]:
    """Yield file, line and code of the traceback, the outermost first."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        yield Path(code.co_filename).resolve(), step.tb_lineno, code
        step = step.tb_next
