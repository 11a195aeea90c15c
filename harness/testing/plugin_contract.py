"""The contract of a plugin: as a list of findings, and as tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skillneurons.errors import UserError
from skillneurons.testing.checks import Finding
from skillneurons.testing.subjects import Planned, planned

if TYPE_CHECKING:
    from collections.abc import Callable


def check_plugin(plugin: str) -> list[Finding]:
    """Make every check of a plugin: the name of an installed or built-in one, a module, a file or a folder.

    Raise PluginError or UnknownNameError where there is no such plugin; one that is there and cannot be loaded is one
    failed finding.
    """
    return [one.run() for one in planned(plugin)]


def contract(plugin: str) -> Callable[..., None]:
    """Return a test function, once per check: ``test_contract = contract("my_plugin")`` is a whole test file."""
    import pytest

    cases: list[Any] = [pytest.param(one, id=name_of(one)) for one in planned_or_failed(plugin)]

    @pytest.mark.parametrize("planned", cases)
    def test_contract(planned: Planned | Finding) -> None:
        report_of(planned)

    return test_contract


def planned_or_failed(plugin: str) -> list[Planned | Finding]:
    """Return the checks of a plugin; where there is no such plugin, one failed finding with the loader's text."""
    try:
        return list(planned(plugin))
    except UserError as error:
        return [Finding(f"plugin {plugin}", "loads", "failed", str(error))]


def name_of(one: Planned | Finding) -> str:
    """Return what a test is called: ``metric shouting: deterministic``."""
    return one.name if isinstance(one, Planned) else f"{one.subject}: {one.check}"


def report_of(one: Planned | Finding) -> None:
    """Make a check and pass, fail or skip the running test as it finds."""
    import pytest

    finding = one.run() if isinstance(one, Planned) else one
    if finding.status == "failed":
        pytest.fail(finding.message, pytrace=False)
    if finding.status == "skipped":
        pytest.skip(finding.message)
