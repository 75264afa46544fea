"""How all tests run: a busy machine fails none of them, and on every commit the same examples are tried."""

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres.plugin import database, postgres

__all__ = ["database", "postgres"]

settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("patient")

SLOW: Final = (
    "tests/simulation/test_week",
    *(
        f"tests/{name}/"
        for name in ("web", "postgres", "docs", "deploy", "real_death", "demo", "gate_edges", "operator")
    ),
    *(f"tests/{name}/" for name in ("hostile", "scale", "fleet", "fakepve", "notify", "benchmarks", "cli", "journal")),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits long begins first, so that testers who are done can take some of it, and none ends long after all."""

    def rank(item: pytest.Item) -> int:
        return next((number for number, begins in enumerate(SLOW) if item.nodeid.startswith(begins)), len(SLOW))

    items.sort(key=rank)
