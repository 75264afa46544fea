"""Fixtures: a server for the session, a database for each test. Without a server, tests are skipped, and say why."""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.postgres.server import Server
from tests.postgres.sharing import shared_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The run's PostgreSQL."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with ExitStack() as stack:
        try:
            server = stack.enter_context(shared_server(folder))
        except (RuntimeError, OSError) as error:
            pytest.skip(f"PostgreSQL cannot be started: {error}")
        yield server


@pytest.fixture
def database(postgres: Server) -> str:
    """The URL of a database of one's own."""
    return postgres.database(f"t{os.getpid()}_{next(_numbers)}")
