"""A stage with people: alice and bob are operators, carol is an owner; three guests of ours are there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import bear_goodbyes
from tests.cli.stage import Simulator
from tests.gate_edges.house import House


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    bear_goodbyes(items, Path(__file__).parent)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture
def house(tmp_path: Path, sim: Simulator) -> House:
    return House(folder=tmp_path, sim=sim)
