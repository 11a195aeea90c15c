"""The contract kit: what every plugin must keep to, as findings and as tests.

A contributor's whole test file::

    from skillneurons.testing import contract

    test_contract = contract("my_plugin")

``check_plugin`` makes the same checks without pytest; importing this package needs no pytest. Each name is imported when it
is first used: pytest loads this package wherever it is installed, for tests that have nothing to do with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillneurons.testing.checks import Check, Finding, known_checks
    from skillneurons.testing.plugin_contract import check_plugin, contract

__all__ = ["Check", "Finding", "check_plugin", "contract", "known_checks"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "plugin_contract" if name in ("check_plugin", "contract") else "checks"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
