"""A simulator, and a folder whose settings name it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_death.stage import Simulator, Stage


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(tmp_path) as simulator:
        yield simulator


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator) -> Iterator[Stage]:
    with Stage(tmp_path / "agent", sim.url, sim.ca_file, sim.token_id, sim.token_secret) as made:
        yield made
