"""Each life has an API token of its own; whatever the dead ones had is deleted before the next one works."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_death.evidence import recovered_first, settled
from tests.real_death.stage import GUESTS, Simulator, Stage, until, vm

KEEPER = {"id": "root@pam!keeper", "secret": "00000000-0000-0000-0000-00000000beef"}
SPARE = {"id": "agent@pve!spare", "secret": "00000000-0000-0000-0000-00000000dead"}
"""Makes its user one who may do everything."""

LINE = """\
keeper = {token_id = "root@pam!keeper", token_secret_file = "token.secret", user = "agent@pve", prefix = "life-"}
"""


@pytest.fixture
def kept(tmp_path: Path, store: str) -> Iterator[tuple[Simulator, Stage]]:
    guests = {**GUESTS, "tokens": [KEEPER, SPARE]}
    with (
        Simulator(tmp_path, guests=guests) as sim,
        Stage(tmp_path / "agent", sim.url, sim.ca_file, sim.token_id, sim.token_secret, store=store) as stage,
    ):
        stage.change(f'token_id = "{sim.token_id}"\ntoken_secret_file = "token.secret"\n', LINE)
        yield sim, stage


def tokens(sim: Simulator) -> set[str]:
    return {token for token in sim.ask("/_sim/state")["tokens"] if token.startswith("agent@pve!life-")}


def test_the_tokens_of_the_dead_are_deleted(kept: tuple[Simulator, Stage]) -> None:
    sim, stage = kept
    stage.manifest("guests", vm(101))
    in_flight = 0
    for number, doom in enumerate(
        (
            r"^append tokenplanned: after",
            r"^written request POST \S+/qemu 101",
            r"^append tokenretired: before",
            r"^append started start 101: after",
        ),
        start=1,
    ):
        recovered_first(stage.dies(doom, "apply", "--yes"), in_flight)
        in_flight = len(stage.journal().open)
        # Its own may be there; those of the lives before are gone once it works.
        assert f"agent@pve!life-{number}" in tokens(sim) or number == 1
        if "started" in doom:
            assert tokens(sim) == {f"agent@pve!life-{number}"}
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    assert {row["user"] for row in sim.mutations() if "/qemu" in row["path"]} <= {
        f"agent@pve!life-{number}" for number in range(1, 7)
    }


def test_a_request_of_the_dead_that_is_stuck_before_the_check_is_refused(kept: tuple[Simulator, Stage]) -> None:
    sim, stage = kept
    stage.manifest("guests", vm(111, "source: {empty: true}", "power: stopped", node="pve2"))
    agent = stage.halts(r"^connected request POST \S+/qemu 111", "apply", "--yes")
    sim.control("freeze", node="pve2", daemon="pveproxy")
    agent.send_signal(signal.SIGCONT)
    until(lambda: "written request" in (stage.folder / "life-1.trace").read_text())
    agent.kill()
    stage.end(agent)
    # Its node answers nobody, so nothing is concluded about it.
    done = stage.run("recover", "--json")
    assert done.code == 2, done
    assert [op["row"] for op in done.json()["ops"]] == ["R8"]
    assert [op.intent.vmid for op in stage.journal().open] == [111]
    sim.control("thaw", node="pve2", daemon="pveproxy")
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    (made,) = [row for row in sim.mutations() if row["path"].endswith("/qemu")]
    assert made["user"] != "agent@pve!life-1"  # what the dead one had sent did not get past the check of its token


def test_a_request_of_the_dead_that_is_stuck_on_postgres(kept: tuple[Simulator, Stage]) -> None:
    assert kept[1].on_postgres
    test_a_request_of_the_dead_that_is_stuck_before_the_check_is_refused(kept)
