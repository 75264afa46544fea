"""A plugin that keeps hypothesis from making a failure small: here it only matters that there is one."""

import hypothesis
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", hypothesis.settings.get_profile("patient"), phases=phases)
