"""Answers of a grading endpoint on disk, one file per request, so that no grading is paid for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import skillneurons as sn


class GradingCache:
    """A folder of answers, named by a hash over everything that was asked; a file appears whole or not at all."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder is not None else None

    def _file(self, request: Mapping[str, Any]) -> Path | None:
        text = json.dumps(request, sort_keys=True, separators=(",", ":"))
        name = f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        return None if self.folder is None else self.folder / name

    def get(self, request: Mapping[str, Any]) -> str | None:
        """Return the answer to a request, None where it was not asked yet; UserError for a damaged file."""
        file = self._file(request)
        if file is None or not file.exists():
            return None
        try:
            answer = json.loads(file.read_text("utf-8"))["answer"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise sn.UserError(
                f"{file}: not a saved grading ({type(error).__name__}); delete the file and run again"
            ) from error
        if not isinstance(answer, str):
            raise sn.UserError(f"{file}: not a saved grading (no text); delete the file and run again")
        return answer

    def put(self, request: Mapping[str, Any], answer: str) -> None:
        """Save the answer to a request; UserError where the folder cannot be written to."""
        file = self._file(request)
        if file is None:
            return
        import uuid

        draft = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("x", encoding="utf-8") as stream:
                json.dump({"request": dict(request), "answer": answer}, stream, indent=2, sort_keys=True)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        except OSError as error:
            raise sn.UserError(
                f"cannot write {file} ({error.strerror}); set the grader's option cache to a folder that can be "
                "written, or to null"
            ) from error
        finally:
            with contextlib.suppress(OSError):  # renamed, or never made: nothing is left to remove
                draft.unlink()
