"""The simulator and the folder that the tests of the commands have."""

from pathlib import Path

import pytest

from tests.cli.conftest import bear_goodbyes, sim, stage

__all__ = ["sim", "stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    bear_goodbyes(items, Path(__file__).parent)
