"""A simulator, and a folder whose settings name it; the journal in a file, or in a PostgreSQL that is shared by all.

The tests of these modules are run with each of them. In each commit PostgreSQL gets a sample; with TRUEUP_EVERY_POINT=1
it gets all.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_death.stage import Simulator, Stage
from tests.sampling import EVERYTHING

BOTH = frozenset({"test_named_points", "test_lost_answers", "test_tokens", "test_any_moment"})
ON_POSTGRES = frozenset({"test_a_few_points_on_postgres", "test_a_request_of_the_dead_that_is_stuck_on_postgres"})
FILE = Stage.store


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" not in metafunc.fixturenames or metafunc.definition.path.stem not in BOTH:
        return
    if metafunc.function.__name__ in ON_POSTGRES:
        places = ["postgres"]
    else:
        places = ["sqlite", *(["postgres"] if EVERYTHING else [])]
    metafunc.parametrize("store", places, indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The journal's URL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return FILE
    return request.getfixturevalue("database")


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(tmp_path) as simulator:
        yield simulator


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator, store: str) -> Iterator[Stage]:
    with Stage(tmp_path / "agent", sim.url, sim.ca_file, sim.token_id, sim.token_secret, store=store) as made:
        yield made
