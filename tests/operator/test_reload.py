"""A running agent takes over changed manifests at once, and changed settings on SIGHUP."""

import time
from pathlib import Path

import pytest

from tests.cli.stage import Stage, guest
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from trueup.adapters import watching
from trueup.adapters.system import SystemClock


@pytest.fixture
def hourly(stage: Stage) -> Stage:
    stage.settings(('interval = "1s"', 'interval = "1h"'))
    stage.manifest(guest("db-1", 102, "power: stopped"))
    return stage


def test_a_changed_manifest_starts_a_pass_at_once(hourly: Stage) -> None:
    with living(Agent(hourly)) as agent:
        agent.until_said("op_ended")
        hourly.manifest(guest("db-2", 103, "power: stopped"), "more.yaml")
        agent.until_said("manifests_changed")
        agent.until_said("op_ended", times=2)


def test_settings_that_may_change_are_taken_over(hourly: Stage) -> None:
    with living(Agent(hourly)) as agent:
        agent.until_said("op_ended")
        hourly.settings(('mode = "enforce"', 'mode = "observe"'), ('interval = "1h"', 'interval = "1s"'))
        agent.hang_up()
        agent.until_said("reloaded", "interval 1 s, mode observe")
        agent.until_said("observing", "observe mode: differences are shown, nothing is changed")
        hourly.sim.by_hand(vmid=102, config={"onboot": 1})
        hourly.manifest(guest("db-1", 102, "power: stopped", "config: {onboot: false}"))
        agent.until_said("pass_ended", "observing only: 1 update")
        count = len(hourly.sim.mutations())
        time.sleep(1.5)
        assert len(hourly.sim.mutations()) == count
        assert "Observe mode" in hourly.run("status").stdout
        assert hourly.json("status", code=2)["mode"] == "observe"

        hourly.settings(('mode = "observe"', 'mode = "wrong"'))
        agent.hang_up()
        agent.until_said("settings", "not taken over, the agent goes on as before")
        hourly.settings(('mode = "wrong"', 'mode = "enforce"'), ("slots_per_node = 3", "slots_per_node = 2"))
        agent.hang_up()
        agent.until_said("settings", "[limits] has changed: restart the agent to take it over")
        until(lambda: len(hourly.sim.mutations()) > count)


def test_what_counts_as_a_change(tmp_path: Path) -> None:
    marks = [watching.marks(tmp_path)]
    (tmp_path / "a.yaml").write_text("kind: x")
    marks.append(watching.marks(tmp_path))
    (tmp_path / "notes.txt").write_text("no manifest")
    assert watching.marks(tmp_path) == marks[-1]
    (tmp_path / "a.yaml").write_text("kind: yy")
    marks.append(watching.marks(tmp_path))
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    marks.append(watching.marks(tmp_path))
    (tmp_path / "c.yaml").symlink_to("nowhere")
    marks.append(watching.marks(tmp_path))
    assert len(set(marks)) == len(marks)
    assert isinstance(watching.marks(tmp_path / "missing"), str)
    assert SystemClock().now_ms()
