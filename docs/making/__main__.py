"""Write the generated blocks of the pages, or say which are stale: ``PYTHONPATH=docs python -m making [--check]``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from making import board_table, check_pages, command_pages, hook_pages, model_sizes, tables
from making.blocks import Maker, filled

ROOT = Path(__file__).resolve().parent.parent.parent
MAKERS: Mapping[str, Maker] = {
    "hook": hook_pages.hook,
    "hooks": hook_pages.hook_index,
    "command": command_pages.command,
    "commands": command_pages.command_index,
    "exit-codes": command_pages.exit_codes,
    "settings": tables.settings,
    "columns": tables.columns,
    "statistics": tables.statistics,
    "metrics": tables.metrics,
    "tasks": tables.tasks,
    "graders": tables.graders,
    "config": tables.config_text,
    "checks": check_pages.checks,
    "board": board_table.board,
    "model-sizes": model_sizes.model_sizes,
    "nav-hooks": lambda: "\n".join(f"- hooks/{name}.md" for name in hook_pages.hooks()),
    "nav-commands": lambda: "\n".join(f"- commands/{name}.md" for name in command_pages.commands()),
}


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Return every page of ``docs/`` and ``mkdocs.yml`` as it should be, with those that are missing."""
    docs = root / "docs"
    texts = {path: path.read_text(encoding="utf-8") for path in [*sorted(docs.rglob("*.md")), root / "mkdocs.yml"]}
    for folder, names, new_page in (
        ("hooks", hook_pages.hooks(), hook_pages.new_page),
        ("commands", command_pages.commands(), command_pages.new_page),
    ):
        for name in names:
            texts.setdefault(docs / folder / f"{name}.md", new_page(name))
    return {path: filled(text, MAKERS) for path, text in texts.items()}


def stale(root: Path = ROOT) -> list[str]:
    """Return the difference, as lines, of every page that is not what the code gives."""
    lines: list[str] = []
    for path, text in pages(root).items():
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        name = path.relative_to(root).as_posix()
        lines += difflib.unified_diff(before.splitlines(), text.splitlines(), name, f"{name} made anew", lineterm="")
    return lines


def main(arguments: list[str]) -> int:
    """Write what is stale, or with ``--check`` print it and return 1."""
    if arguments == ["--check"]:
        lines = stale()
        print(
            "\n".join([*lines, "docs/ is stale; write it again with: make docs-pages"] if lines else ["docs/ is fresh"])
        )
        return bool(lines)
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
