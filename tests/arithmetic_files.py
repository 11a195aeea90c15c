"""Files in the form of BIG-bench arithmetic, made for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skillneurons.tasks.arithmetic_items import Item


def row_of(item: Item, **changed: Any) -> dict[str, Any]:
    answer = item.answer
    return {
        "input": f"What is {item.expression}?",
        "target": str(answer),
        "target_scores": {"a house": 0.0, str(answer + 1): 0.0, str(answer): 1.0},
        **changed,
    }


def write(file: Path, rows: Any, name: str = "2_digit_addition") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"canary": "none", "name": name, "description": "made for the test", "keywords": [], "examples": rows}
    file.write_text(json.dumps(content, indent=1), "utf-8")
    return file
