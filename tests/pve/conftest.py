from pathlib import Path

import pytest
import trustme

from tests.pve.servers import House


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def house(tmp_path: Path, authority: trustme.CA) -> House:
    return House(folder=tmp_path, authority=authority)
