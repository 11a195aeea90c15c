"""The contract kit: what every plugin must keep to, as findings and as tests.

A contributor's whole test file::

    from skillneurons.testing import contract

    test_contract = contract("my_plugin")

``check_plugin`` makes the same checks without pytest; importing this package needs no pytest.
"""

from __future__ import annotations

from skillneurons.testing.checks import Check, Finding, known_checks
from skillneurons.testing.plugin_contract import check_plugin, contract

__all__ = ["Check", "Finding", "check_plugin", "contract", "known_checks"]
