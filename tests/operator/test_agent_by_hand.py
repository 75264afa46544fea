"""What the check-up, the commands beside an agent, and its HTTP say is done, and then they are content."""

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.stage import Stage, guest
from tests.operator.following import fits, followed, quoted
from tests.operator.living import Agent, living
from tests.operator.test_doctor import SETUP, bare
from tests.operator.test_host_remedies import remedies
from tests.web.client import Client
from trueup.adapters.control_socket import Message, ask, listening, socket_path
from trueup.edges.cli.demo import _folder
from trueup.model import limits
from trueup.model.errors import BadInput

__all__ = ["bare"]

BRING_BACK = "bring it back"
OF_ITS_OWN = "give the agent a token of its own; if this journal is an older copy, bring back the newest"
SPACE = "free space on {}"
SECRET = "set token_secret_file, or the environment variable {}"
SIGHT = "the token does not see all guests: it needs VM.Audit on /vms"
IMPORT = "the token needs VM.Audit on /vms"
ENDED = "see `trueup ops show {}`"
DISK = "write {}: {storage: NAME, size: 32G}"
BEARER = "send the token of [http] token_file as `Authorization: Bearer ...`, or log in on /login"
OPENAPI = "see /openapi.json for what there is"
METHOD = "use one of the methods in the Allow header"
STANDS = "remove what stands there, or point [store] url elsewhere"
FEWER = "name fewer guests at once"
FOLDER = "name a folder"
FOLLOWED = {
    BRING_BACK,
    OF_ITS_OWN,
    SPACE,
    SECRET,
    SIGHT,
    IMPORT,
    ENDED,
    DISK,
    BEARER,
    OPENAPI,
    METHOD,
    STANDS,
    FEWER,
    FOLDER,
}


def run(stage: Stage, *command: str) -> str:
    done = stage.run(*command)
    said = " ".join(done.stderr.split())
    if done.returncode == 1:
        raise BadInput(what=said, remedy=said.rpartition(" (")[2].removesuffix(")"))
    return done.stdout


def told(stage: Stage, check: str, remedy: str, code: int) -> list[str]:
    return [one for one in remedies(stage, check, code) if fits(remedy, one)]


def test_a_node_that_is_away(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "node_down", "node": "pve3"})
    assert told(stage, "node", BRING_BACK, 0)
    stage.sim.ask("/_sim/control", {"action": "node_up", "node": "pve3"})
    assert not told(stage, "node", BRING_BACK, 0)


def test_an_older_journal(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    (stage.folder / "state").rename(stage.folder / "newest")
    assert told(stage, "token", OF_ITS_OWN, 1)
    (stage.folder / "newest").rename(stage.folder / "state")
    assert not told(stage, "token", OF_ITS_OWN, 0)


def test_a_disk_that_is_nearly_full(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
        (remedy,) = told(stage, "store", SPACE, 1)
        assert Path(remedy.removeprefix("free space on ")).is_dir()
    assert not told(stage, "store", SPACE, 0)


@pytest.mark.parametrize("how", ["file", "variable"])
def test_no_secret(stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    stage.manifest(guest("db-1", 102))
    text = (stage.folder / "trueup.toml").read_text()
    (line,) = re.findall(r"^token_secret_file = .*\n", text, re.MULTILINE)
    stage.settings((line, ""))

    def follow(remedy: str) -> None:
        if how == "file":
            stage.settings(("[cluster]\n", f"[cluster]\n{line}"))
        else:
            monkeypatch.setenv(remedy.rpartition(" ")[2], stage.sim.token_secret)

    followed(SECRET, lambda: run(stage, "apply", "--yes"), follow)


@pytest.mark.parametrize(
    ("remedy", "command"), [(SIGHT, ("request", "stop", "102")), (IMPORT, ("import", "102", "--to", "i"))]
)
def test_what_the_token_sees(bare: Stage, remedy: str, command: tuple[str, ...]) -> None:
    run(bare, *SETUP)
    bare.json("apply", "--yes")
    bare.manifest("", "guests.yaml")
    (bare.folder / "manifests" / "guests.yaml").unlink()
    bare.sim.ask("/_sim/guests", {"roles": {"TrueupGuests": ["VM.PowerMgmt"]}})
    followed(remedy, lambda: run(bare, *command), lambda _: bare.run(*SETUP))


def test_an_operation_that_has_ended(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    op = stage.json("ops", "list")["ops"][0]["op_id"]
    held = ["ops", "cancel", op]
    followed(ENDED, lambda: run(stage, *held), lambda text: held.__setitem__(slice(None), quoted(text)[0].split()[1:]))


def test_a_new_disk(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.json("apply", "--yes")
    stage.manifest(guest("db-1", 102, "config: {scsi0: {storage: local-lvm}}"))
    found = re.search(r"write (scsi0: \{storage: NAME, size: 32G\})", stage.run("plan").stdout)
    assert found
    stage.manifest(guest("db-1", 102, f"config: {{{found[1].replace('NAME', 'local-lvm')}}}"))
    assert stage.json("apply", "--yes")["converged"] is True


def test_http(stage: Stage) -> None:
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        strange = client.browser()
        assert strange.get("/v1/status").problem()["remedy"] == BEARER
        assert client.get("/v1/status").status == 200
        assert strange.log_in(client.token).status == 303
        assert strange.page("/").status == 200
        remedy = client.get("/v1/nothing").problem()["remedy"]
        assert fits(OPENAPI, remedy)
        paths = client.get(remedy.split()[1]).json["paths"]
        assert client.get(next(path for path in paths if "{" not in path and "get" in paths[path])).status == 200
        refused = client.ask("PUT", "/v1/status")
        assert refused.problem()["remedy"] == METHOD
        assert client.ask(refused.headers["allow"].split(",")[0].strip(), "/v1/status").status == 200


# --- the socket -------------------------------------------------------------------------------------------------------


def heard(journal: Path, message: Message | None = None) -> None:
    """Listen, and be asked something."""

    async def answer(_: Message) -> object:
        return {}

    async def work() -> None:
        async with listening(journal, answer):  # type: ignore[arg-type]
            if message is not None:
                await ask(journal, message)

    asyncio.run(work())


@pytest.mark.parametrize("how", ["removed", "elsewhere"])
def test_what_stands_at_the_socket(tmp_path: Path, how: str) -> None:
    held = [tmp_path / "journal.db"]
    socket_path(held[0]).mkdir()
    follow: Callable[[str], object] = lambda _: (  # noqa: E731
        socket_path(held[0]).rmdir() if how == "removed" else held.__setitem__(0, tmp_path / "other.db")
    )
    followed(STANDS, lambda: heard(held[0]), follow)


def test_fewer_guests(tmp_path: Path) -> None:
    held = [tuple(f"guest-{n}" for n in range(limits.SOCKET_MESSAGE_MAX_BYTES // 8))]
    followed(
        FEWER,
        lambda: heard(tmp_path / "journal.db", Message(command="pause", guests=held[0])),
        lambda _: held.__setitem__(0, held[0][:100]),
    )


def test_a_folder_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    held = [tmp_path / "file"]
    followed(FOLDER, lambda: _folder(held[0]), lambda _: held.__setitem__(0, tmp_path / "folder"))
