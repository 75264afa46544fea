"""Where a message names a command, that command is there, and following it literally helps."""

import re
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest

from tests.cli.stage import Stage, guest
from trueup.core import marker
from trueup.edges.cli import root
from trueup.model.guests import Marker
from trueup.model.ids import OpId, Vmid

SOURCE = Path(__file__).parents[2] / "src" / "trueup"
LATER = {"request"}
"""Commands of the gate, which plans name before it is there."""


def named(text: str) -> list[str]:
    """The commands of ours in a text."""
    return re.findall(r"`trueup ([^`]+)`", text)


# --- that they are there ----------------------------------------------------------------------------------------------


def everything_named() -> list[str]:
    found = {command for path in SOURCE.rglob("*.py") for command in named(path.read_text())}
    return sorted(command for command in found if not command.startswith(("{", "-")))


@pytest.mark.parametrize("text", everything_named())
def test_every_command_that_is_named_is_there_with_its_options(text: str) -> None:
    words = [word for word in text.split() if not word.startswith("{")]
    if words[0] in LATER:
        return
    command = root.root.get_command(click.Context(root.root), words[0])
    assert command is not None, words[0]
    rest = words[1:]
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.get_command(click.Context(command), rest[0])
        assert command is not None, text
    options = {option for param in command.params for option in param.opts} | {"--help"}
    assert {word for word in rest if word.startswith("--")} <= options


# --- that they help ---------------------------------------------------------------------------------------------------

Provoke = Callable[[Stage], str]
Solved = Callable[[Stage], bool]


def says(*command: str) -> Provoke:
    def run(stage: Stage) -> str:
        done = stage.run(*command)
        return done.stdout + done.stderr

    return run


def converged(stage: Stage) -> bool:
    return stage.run("plan").returncode == 0


def adopted(stage: Stage) -> bool:
    return stage.json("status", code=0)["guests"][0]["sync"] == "in_sync"


def spoiled(stage: Stage, *sql: str) -> None:
    with closing(sqlite3.connect(stage.journal())) as connection:
        for statement in sql:
            connection.execute(statement)
        connection.commit()


def there(stage: Stage, description: str | None = None) -> None:
    stage.sim.by_hand(vmid=102, name="db-1", status="running", config={"description": description})


def marked(vmid: int, installation: str) -> str:
    mark = Marker(uid="u", installation=installation, vmid=Vmid(vmid), op_id=OpId("o"), counter=1)
    return marker.render("", mark)


def no_settings(stage: Stage) -> str:
    for path in [stage.folder / name for name in ("keyring.yaml", "policy.yaml", "README.txt", ".gitignore")]:
        path.unlink()
    (stage.folder / "manifests" / "example.yaml").unlink()
    (stage.folder / "trueup.toml").unlink()
    return says("plan")(stage)


def paused(stage: Stage) -> str:
    stage.json("pause", "db-1")
    return says("plan")(stage)


def all_paused(stage: Stage) -> str:
    stage.json("pause")
    return says("plan")(stage)


def stranger(stage: Stage) -> str:
    there(stage)
    return says("plan")(stage)


def foreign(stage: Stage) -> str:
    there(stage, marked(102, "another"))
    return says("plan")(stage)


def copied(stage: Stage) -> str:
    there(stage, marked(103, "another"))
    return says("adopt", "102", "--yes")(stage)


def edited(stage: Stage) -> str:
    stage.json("apply", "--yes")
    there(stage, "somebody wrote something else")
    return says("plan")(stage)


def undeclared(stage: Stage) -> str:
    stage.sim.by_hand(vmid=104, name="other", status="stopped")
    return says("adopt", "104", "--yes")(stage)


def table_spoiled(stage: Stage) -> str:
    stage.json("apply", "--yes")
    spoiled(stage, "DELETE FROM adopted")
    return says("apply", "--yes")(stage)


def record_spoiled(stage: Stage) -> str:
    stage.json("apply", "--yes")
    spoiled(stage, "DROP TRIGGER records_are_not_changed", "UPDATE records SET line = x'00' WHERE seq = 3")
    return says("apply", "--yes")(stage)


def doubted(stage: Stage) -> str:
    record_spoiled(stage)
    stage.json("journal", "quarantine", "--yes")
    return says("apply", "--yes")(stage)


def doctor_on_damage(stage: Stage) -> str:
    record_spoiled(stage)
    return says("doctor")(stage)


def applied(stage: Stage) -> bool:
    return stage.run("apply", "--yes").returncode == 0


def sound(stage: Stage) -> bool:
    return stage.run("journal", "verify").returncode == 0


CASES: dict[str, tuple[Provoke, str, Solved]] = {
    "there are no settings": (no_settings, "init", lambda stage: (stage.folder / "trueup.toml").exists()),
    "there is no journal": (says("journal", "tail"), "apply", lambda stage: stage.journal().exists()),
    "there is no terminal": (says("apply"), "plan", lambda stage: True),
    "a guest is paused": (paused, "resume db-1", lambda stage: stage.json("status", code=2)["paused"] == []),
    "everything is paused": (all_paused, "resume", lambda stage: stage.json("status", code=2)["paused"] == []),
    "a guest is not adopted": (stranger, "adopt 102", adopted),
    "a guest is another trueup's": (foreign, "adopt 102 --take-over", adopted),
    "a guest is a copy": (copied, "adopt 102 --take-over", adopted),
    "a guest lost its marker": (edited, "adopt 102 --take-over", adopted),
    "a guest is not declared": (undeclared, "import 104", lambda stage: "other" in says("plan")(stage)),
    "a guest does not exist yet": (says("adopt", "102", "--yes"), "apply", converged),
    "a table is damaged": (table_spoiled, "journal rebuild", sound),
    "a record is damaged": (record_spoiled, "journal quarantine", sound),
    "a record is damaged, in the check-up": (doctor_on_damage, "journal quarantine", sound),
    "the journal is in doubt": (doubted, "journal acknowledge", applied),
    "no such operation": (says("ops", "show", "nobody"), "ops list", lambda stage: True),
    "no such guest": (says("pause", "nobody"), "status", lambda stage: True),
    "an option is wrong": (says("plan", "--nonsense"), "plan --help", lambda stage: True),
}  # fmt: skip
_ASKED = {"apply", "adopt", "journal quarantine"}
"""They ask on a terminal; here nobody is there to answer."""

_TELLS = {"plan", "status", "ops list"}
"""They may find something to tell, which is no failure."""


@pytest.mark.parametrize("name", CASES)
def test_following_the_remedy_helps(stage: Stage, name: str) -> None:
    provoke, command, solved = CASES[name]
    stage.manifest(guest("db-1", 102))
    text = provoke(stage)
    assert command in named(text), text
    words = shlex.split(command)
    asked = " ".join(words[:2]) in _ASKED or words[0] in _ASKED
    done = stage.run(*words, *(["--yes"] if asked else []))
    assert done.returncode == 0 or (command in _TELLS and done.returncode == 2), done.stderr + done.stdout
    assert solved(stage)
