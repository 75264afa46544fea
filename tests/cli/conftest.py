"""A simulator and a folder for each test that asks for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage

# A command ends before PVE has answered its goodbye on each TLS connection. Waiting for it would cost every command a
# quarter of a second; as a process of its own nobody would notice, but here the interpreter goes on and complains.
_GOODBYE = "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"


def bear_goodbyes(items: list[pytest.Item], folder: Path) -> None:
    """For the tests of one folder."""
    for item in items:
        if item.path.parent == folder:
            item.add_marker(pytest.mark.filterwarnings(_GOODBYE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    bear_goodbyes(items, Path(__file__).parent)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator) -> Stage:
    return Stage(folder=tmp_path, sim=sim)
