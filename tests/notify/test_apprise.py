"""Apprise itself, with a receiver on loopback: what arrives, what does not, and that no URL is ever shown."""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest
from tests.notify.receiver import Receiver, receiving
from tests.operator.living import Agent, living
from tests.operator.test_rolled_back import rolled_back
from trueup.adapters.notify import AppriseNotifier, problems
from trueup.model.errors import BadInput
from trueup.model.settings import Secret

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # a plugin of Apprise
DEAD = "json://someone:t0p-s3cret@127.0.0.1:9/"
NONSENSE = "nonsense://t0p-s3cret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    sim = Simulator()
    try:
        yield Stage(folder=tmp_path, sim=sim)
    finally:
        sim.stop()


def tell(*urls: str) -> tuple[str, ...]:
    return asyncio.run(AppriseNotifier([Secret(url) for url in urls]).tell("title", "text"))


def test_a_message_arrives(receiver: Receiver) -> None:
    assert tell(receiver.url) == ()
    assert [(one["title"], one["message"]) for one in receiver.heard] == [("title", "text")]


def test_who_could_not_be_told_is_named_by_its_number(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    receiver.code = 500
    failed = tell(DEAD, NONSENSE, receiver.url)
    assert failed == ("number 1 of [notify] urls could not be told", "number 3 of [notify] urls could not be told")
    said = capfd.readouterr()
    assert "s3cret" not in "".join(failed) + said.out + said.err


def test_what_is_no_url_is_named_without_being_shown() -> None:
    found = problems([Secret(DEAD), Secret(NONSENSE), Secret("")])
    assert [str(one).partition(" of ")[0] for one in found] == ["number 2", "number 3"]
    assert "s3cret" not in "".join(map(str, found))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    (problem,) = problems([Secret(DEAD)])
    assert "install trueup[notify]" in str(problem)
    with pytest.raises(BadInput, match="Apprise"):
        AppriseNotifier([Secret(DEAD)])


def notified(stage: Stage, *urls: str) -> None:
    listed = ", ".join(f'"{url}"' for url in urls)
    with (stage.folder / "trueup.toml").open("a") as file:
        file.write(f"\n[notify]\nurls = [{listed}]\n")


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
)
def test_the_agent_tells_of_an_alarm_and_the_doctor_of_urls(stage: Stage, receiver: Receiver) -> None:
    rolled_back(stage)
    notified(stage, receiver.url, DEAD, NONSENSE)
    with living(Agent(stage)) as agent:
        agent.until_said("alarm", "102 carries our marker")
        agent.until_said("notify", "number 3 of [notify] urls is no URL")
        agent.until_said("notify", "number 2 of [notify] urls could not be told")
        (message,) = receiver.heard
    assert message["title"] == "trueup lab: alarm"
    assert "nothing is changed: an older journal was brought back" in message["message"]
    assert "s3cret" not in str(agent.lines)
    found = [row for row in stage.json("doctor", code=1)["findings"] if row["check"] == "notify"]
    assert [(row["mark"], row["topic"]) for row in found] == [("problem", "notifications")]


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
)
def test_a_receiver_that_hangs_does_not_hold_the_agent(stage: Stage, receiver: Receiver) -> None:
    receiver.hold.clear()
    rolled_back(stage)
    stage.manifest(guest("db-1", 102, "power: stopped"))
    notified(stage, receiver.url)
    with living(Agent(stage)) as agent:
        agent.until_said("alarm", "102 carries our marker")
        agent.until_said("pass_ended", times=1)
        time.sleep(4)  # the message is on its way now
        began = time.monotonic()
        assert agent.stop() == 0
    assert time.monotonic() - began < 15
