"""One simulator and one agent for all tests here that only look; each test that changes something makes its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest, several
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from tests.web.client import Client

_GOODBYE = "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"

MANIFESTS = several(
    guest("web-1", 101, "source: {clone: 9000, full: false}", "labels: {tier: web}", "after: [db-1]"),
    guest("db-1", 102, "config: {cores: 2, memory: 2048, scsi0: {storage: local-lvm, size: 4G}}"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(_GOODBYE))
            item.add_marker(pytest.mark.xdist_group("web"))


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator) -> Stage:
    return Stage(folder=tmp_path, sim=sim)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that has done all there was to do."""
    simulator = Simulator()
    try:
        stage = Stage(folder=tmp_path_factory.mktemp("web"), sim=simulator)
        stage.settings(('token_file = "http.token"', 'token_file = "http.token"\nsocket = "http.socket"'))
        stage.manifest(MANIFESTS)
        with living(Agent(stage)) as started:
            until(lambda: started.said("pass_ended", "2 unchanged"), 60)
            until(lambda: Client.of(started).get("/v1/status").json["in_flight"] == [], 60)
            yield started
    finally:
        simulator.stop()


@pytest.fixture
def client(agent: Agent) -> Client:
    return Client.of(agent)
