"""Where the journals of stories are: in files, or with TRUEUP_JOURNAL=postgres in a database, each of them."""

import os
from collections.abc import Iterator

import pytest

from tests.postgres.server import Server
from tests.simulation import stores
from tests.simulation.database import Host

EVERYWHERE = os.environ.get("TRUEUP_JOURNAL") == "postgres"


@pytest.fixture(scope="session")
def host(postgres: Server) -> Iterator[Host]:
    """A database whose clock is the simulation's."""
    made = Host(postgres.database(f"simulation{os.getpid()}"))
    yield made
    made.close()


@pytest.fixture(autouse=EVERYWHERE)
def _in_a_database(request: pytest.FixtureRequest) -> Iterator[None]:
    with stores.kept_in(stores.database(request.getfixturevalue("host"))):
        yield
