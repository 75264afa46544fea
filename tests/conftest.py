"""How all tests run: a busy machine fails none of them, and on every commit the same examples are tried."""

import os

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
