"""Commands on a journal in PostgreSQL, without an agent: what they do, and that no password is in what they say."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.agents import Group
from tests.real_death.stage import Simulator, vm

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def group(tmp_path: Path, database: str) -> Iterator[Group]:
    with Simulator(tmp_path) as sim, Group(tmp_path / "group", sim, database, count=1) as made:
        made.manifest([vm(101), vm(102, node="pve2")])
        yield made


def test_a_journal_in_postgresql_from_apply_to_export(group: Group, tmp_path: Path) -> None:
    said = ""

    def run(*arguments: str, code: int = 0) -> str:
        nonlocal said
        done = group.trueup(*arguments)
        assert done.returncode == code, done
        said += done.stdout + done.stderr
        return done.stdout

    assert "there is no journal yet" in run("doctor")
    assert "no journal yet" in group.trueup("journal", "verify").stderr
    run("apply", "--yes")
    assert run("plan").strip()
    status = json.loads(run("status", "--json"))
    assert status["leader"]["epoch"] == 1
    assert not status["leader"]["alive"]
    run("pause", "vm-101")
    assert json.loads(run("status", "--json"))["paused"] == ["vm-101"]
    run("resume")
    run("recover")
    assert json.loads(run("journal", "verify", "--json"))["ok"]
    assert len(run("journal", "tail", "-n", "3").splitlines()) == 3
    lines = run("journal", "export").splitlines()
    records = json.loads(run("journal", "stats", "--json"))["records"]
    assert len(lines) == records > 10
    run("journal", "backup", "copy.db")
    assert (group.members[0].folder / "copy.db").stat().st_mode & 0o077 == 0
    run("journal", "rebuild")
    found = run("doctor", "--json")
    assert "fsync on" in found
    assert "the journal is sound" in found
    run("journal", "stats", "--debug")
    assert "k33p-m3-quiet" not in said


def test_a_database_that_is_not_there_is_said_without_its_password(group: Group) -> None:
    file = group.members[0].folder / "trueup.toml"
    text = file.read_text()
    for wrong in (
        text.replace(group.store, group.store + "-not"),
        text.replace("k33p-m3-quiet", "wr0ng-secret"),
        text.replace(group.store, "postgresql://trueup:k33p-m3-quiet@127.0.0.1:1/lab"),
    ):
        file.write_text(wrong)
        for command in (("apply", "--yes"), ("status",), ("journal", "verify", "--debug"), ("doctor",)):
            done = group.trueup(*command)
            assert done.returncode == 1, done
            assert "k33p-m3-quiet" not in done.stdout + done.stderr, done
            assert "wr0ng-secret" not in done.stdout + done.stderr, done
