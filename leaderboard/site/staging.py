"""A site that is made beside the former one and put in its place when all of it is on the disk.

    out/.site-XXXXXXXX.tmp/    the pages that differ from what is there, while they are made
    out/index.html, out/site/  where they go

A disk that fills up, or a folder in the place of a page, thus leaves the former site as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skillneurons.atomic import cannot_write, make_folder


class Staging:
    """Pages that are to replace those of ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / f".site-{uuid.uuid4().hex[:8]}.tmp"
        self._places: list[str] = []

    def add(self, place: str, data: bytes) -> None:
        """Put a page aside, if it is not there as it is; raise ResultsError where it cannot be written, there or here."""
        target = self.out / place
        if same_page(target, data):
            return
        if target.is_dir():
            raise cannot_write(target, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
        with _told(target):
            staged = self.folder / place
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(data)
        self._places.append(place)

    def publish(self) -> None:
        """Put every page in its place, in the order in which they were added."""
        for folder in dict.fromkeys((self.out / place).parent for place in self._places):
            make_folder(folder)
        for place in self._places:
            with _told(self.out / place):
                (self.folder / place).replace(self.out / place)


@contextmanager
def staging(out: Path) -> Iterator[Staging]:
    """Give a place to make a site in; nothing of it is left afterwards."""
    made = Staging(out)
    try:
        yield made
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)  # what is not there needs no removing


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def same_page(path: Path, data: bytes) -> bool:
    """Return whether a page is on the disk as it should be."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False  # not there, or not readable: written anew, which says why where that fails
