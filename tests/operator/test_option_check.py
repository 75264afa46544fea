"""Options are checked against what the cluster itself says, with file, line and PVE's own words."""

from tests.cli.stage import Stage, guest
from tests.operator.living import Agent, living


def test_wrong_options_are_refused_before_anything_is_planned(stage: Stage) -> None:
    stage.manifest(guest("web-1", 101, "config: {cores: 0, net0: {model: virtio, bridge: vmbr0, tagg: 7}}"))
    for command in (("plan",), ("apply", "--yes")):
        done = stage.run(*command)
        assert done.returncode == 1
        assert "manifests/guests.yaml:5" in done.stderr
        assert "cores" in done.stderr
        assert "tagg" in done.stderr
    assert stage.sim.mutations() == []


def test_an_agent_tells_and_goes_on_once_it_is_mended(stage: Stage) -> None:
    stage.manifest(guest("web-1", 101, "config: {cores: 0}"))
    with living(Agent(stage)) as agent:
        agent.until_said("alarm", "cores")
        assert stage.sim.mutations() == []
        stage.manifest(guest("web-1", 101, "config: {cores: 2}"))
        agent.until_said("manifests_changed")
        agent.until_said("op_ended")
