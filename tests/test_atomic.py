from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from skillneurons.atomic import make_folder, whole_folder, write_atomic
from skillneurons.errors import StorageError


def filled(folder: Path, text: str) -> None:
    with whole_folder(folder) as draft:
        write_atomic(draft / "x", text.encode())


def test_a_folder_appears_whole_and_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        filled(tmp_path / "a" / "b", text)
        assert (tmp_path / "a" / "b" / "x").read_text() == text
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_broken_off_between_the_two_renames_the_former_folder_is_back(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "b", "one")
    rename, count = os.rename, []

    def second_fails(*arguments: object) -> None:
        count.append(arguments)
        if len(count) == 2:
            raise error
        rename(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        filled(tmp_path / "b", "two")
    assert (tmp_path / "b" / "x").read_text() == "one" and [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), whole_folder(tmp_path / "b") as draft:
        write_atomic(draft / "x", b"one")
        raise ValueError("no luck")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_others_remove_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    folder, stop = tmp_path / "a", threading.Event()

    def remove() -> None:
        while not stop.is_set():
            try:
                folder.rmdir()
            except OSError:
                continue

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(2000):
            make_folder(folder)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("below", ["", "cells"])
def test_a_link_that_leads_nowhere_is_told(below: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "not mounted")
    with pytest.raises(StorageError, match="^cannot write .*/link.*: file exists; give another folder with -o DIR$"):
        make_folder(tmp_path / "link" / below)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(StorageError) as error:
        make_folder(tmp_path / "a")
    assert str(error.value) == f"cannot write {tmp_path / 'a'}: file exists; give another folder with -o DIR"
