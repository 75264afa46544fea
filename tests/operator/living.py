"""An agent that lives beside the commands of a test."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.stage import Stage
from tests.cli.test_agent import Agent as Daemon
from tests.cli.test_crashes import until


class Agent(Daemon):
    """`trueup agent`; more to ask of it."""

    def __init__(self, stage: Stage, **environment: str) -> None:
        super().__init__(stage, **environment)
        self.stage = stage

    def until_said(self, event: str, text: str = "", times: int = 1) -> None:
        def said() -> bool:
            return sum(1 for line in self.events(event) if text in line.get("text", "")) >= times

        until(said, 40)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def living(agent: Agent) -> Iterator[Agent]:
    try:
        yield agent
    except AssertionError:
        print(*agent.lines, sep="\n")  # what the agent said tells why it did not do what was awaited
        raise
    finally:
        if agent.process.poll() is None:
            code = agent.stop()
            assert code == 0, agent.lines
