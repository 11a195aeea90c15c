"""For authors of plugins: fixtures, and ``pytest --contract PLUGIN``, which needs no test file.

Loaded by every pytest where this package is installed, so it imports nothing but pytest until it is used.

- ``skillneurons_model``: the embedded model, loaded once.
- ``run_plugin(plugin, **settings)``: run it end to end on the embedded model, small, in ``tmp_path``; the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SMALL = {
    "limit": "24",
    "prompt.num_virtual_tokens": "4",
    "prompt.steps": "4",
    "prompt.eval_every": "2",
    "attribution.permutations": "5",
    "attribution.bootstrap": "10",
    "causal.enabled": "false",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--contract``."""
    parser.getgroup("skillneurons").addoption(
        "--contract",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="check a skillneurons plugin (a name, module, file or folder); needs no test file, may be given again",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the contract alone where no test file is named beside ``--contract``."""
    if config.getoption("--contract") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test per check of every plugin that ``--contract`` names."""
    for plugin in config.getoption("--contract"):
        items += _items(session, plugin)


def _items(session: pytest.Session, plugin: str) -> Iterator[pytest.Item]:
    from skillneurons.testing.plugin_contract import name_of, planned_or_failed

    for one in planned_or_failed(plugin):
        item: pytest.Item = ContractItem.from_parent(session, name=name_of(one), nodeid=f"contract::{name_of(one)}")
        item.planned = one  # type: ignore[attr-defined]
        yield item


class ContractItem(pytest.Item):
    """One check of a plugin."""

    planned: Any

    def runtest(self) -> None:
        """Make the check."""
        from skillneurons.testing.plugin_contract import report_of

        report_of(self.planned)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the headline of a failure."""
        return self.path, None, self.name


@pytest.fixture(scope="session")
def skillneurons_model() -> Any:
    """Return the embedded model on the CPU."""
    import skillneurons as sn

    return sn.load_model("pocket", device="cpu")


@pytest.fixture
def run_plugin(tmp_path: Path) -> Callable[..., list[Any]]:
    """Return a function that runs a plugin end to end, small, on the embedded model, and returns the results.

    Its tasks run, or ``arithmetic`` where it has none; its metrics, or ``confidence``; its first statistic, or the
    default one. Keywords are those of ``skillneurons.load_config`` (``tasks``, ``metrics``, ``overrides``).
    """

    def run(plugin: str, **settings: Any) -> list[Any]:
        from skillneurons.testing.end_to_end import run_small

        return run_small(plugin, tmp_path / "runs", SMALL, settings)

    return run
