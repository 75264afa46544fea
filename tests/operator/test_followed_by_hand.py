"""What a message says to do with files, settings and options is done, and then it works."""

import re
import shutil
from collections.abc import Callable

import pytest

from tests.cli.stage import Stage, guest
from tests.operator.test_doctor import ADMIN, SECRET, SETUP
from tests.operator.test_written_remedies import says

Follow = Callable[[Stage, str], None]
"""Does what the message says, with the message at hand."""

CASES: list[tuple[str, Callable[[Stage], str], Follow, tuple[str, ...]]] = []
"""A remedy, how it comes about, how it is followed, and the command that works then."""

PLAN = ("apply", "--yes")


def case(remedy: str, provoke: Callable[[Stage], str], follow: Follow, *works: str) -> None:
    CASES.append((remedy, provoke, follow, works or PLAN))


def said(stage: Stage, *command: str) -> str:
    done = stage.run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def secret(stage: Stage, text: str | None) -> str:
    file = stage.folder / "token.secret"
    file.unlink()
    if text is not None:
        file.write_text(text)
        file.chmod(0o600)
    return said(stage, *PLAN)


def the_secret(stage: Stage, _text: str) -> None:
    file = stage.folder / "token.secret"
    file.write_text(stage.sim.token_secret)
    file.chmod(0o600)


case("put the {} into this file, with mode 0600", lambda stage: secret(stage, None), the_secret)
case("put in the secret that PVE showed once", lambda stage: secret(stage, ""), the_secret)
case("put in nothing else", lambda stage: secret(stage, "two words"), the_secret)
case(
    "check the API token and its secret; it may have expired or been deleted",
    lambda stage: secret(stage, "11111111-2222-4333-8444-555555555555"),
    the_secret,
)


def no_folder(stage: Stage) -> str:
    shutil.rmtree(stage.folder / "manifests")
    return said(stage, "plan")


case(
    "make it (an empty one means no guests), or set path under [manifests]",
    no_folder,
    lambda stage, _: (stage.folder / "manifests").mkdir(),
)


def emptied(stage: Stage) -> str:
    assert stage.run(*PLAN).returncode == 0
    (stage.folder / "manifests").rename(stage.folder / "away")
    (stage.folder / "manifests").mkdir()
    return said(stage, "plan")


def restore(stage: Stage, _text: str) -> None:
    (stage.folder / "manifests").rmdir()
    (stage.folder / "away").rename(stage.folder / "manifests")


case(
    "mount or restore the folder; to give guests up, leave one manifest or request their destruction", emptied, restore
)


def link(target: str) -> Callable[[Stage], str]:
    def make(stage: Stage) -> str:
        (stage.folder / "manifests" / "x.yaml").symlink_to(target)
        return said(stage, "plan")

    return make


def unlink(stage: Stage, _text: str) -> None:
    (stage.folder / "manifests" / "x.yaml").unlink()


case("the link leads nowhere, or the file was just removed", link("nowhere"), unlink)


def loop(stage: Stage) -> str:
    (stage.folder / "manifests" / "x.yaml").symlink_to("../manifests")
    return said(stage, "plan")


case("remove the link", loop, unlink)


def ambiguous(stage: Stage) -> str:
    assert stage.run(*PLAN).returncode == 0
    ops = stage.json("ops", "list")["ops"]
    return said(stage, "ops", "show", ops[0]["op_id"][:1])


def whole_id(stage: Stage, _text: str) -> None:
    for op in stage.json("ops", "list")["ops"]:
        assert stage.run("ops", "show", op["op_id"]).returncode == 0


case("give more of the id", ambiguous, whole_id)
case(
    "choose another folder, as in `trueup init DIR`",
    lambda stage: said(stage, "init", "."),
    lambda stage, _: None,
    "init",
    "another",
)


def backed_up(stage: Stage) -> str:
    assert stage.run(*PLAN).returncode == 0
    assert stage.run("journal", "backup", "copy.db").returncode == 0
    return said(stage, "journal", "backup", "copy.db")


case("name one that is not there", backed_up, lambda stage, _: None, "journal", "backup", "other.db")


def pruned(stage: Stage) -> str:
    assert stage.run(*PLAN).returncode == 0
    return said(stage, "journal", "prune", "--older-than", "1d")


def at_least(stage: Stage, text: str) -> None:
    found = re.search(r"give at least (--older-than \S+d)", text)
    assert found
    assert stage.run("journal", "prune", *found[1].split()).returncode == 0


case("give at least --older-than {}d", pruned, at_least)


def keeping_a_secret(content: str | None) -> Callable[[Stage], str]:
    def make(stage: Stage) -> str:
        if content is not None:
            (stage.folder / "manifests" / "ci.secret").write_text(content)
        stage.manifest(guest("db-1", 102, "config: {ide2: 'shared:cloudinit', cipassword: {file: ci.secret}}"))
        return said(stage, "plan")

    return make


def write_it(stage: Stage, _text: str) -> None:
    file = stage.folder / "manifests" / "ci.secret"
    file.write_text("geheim")
    file.chmod(0o600)


case("make the file, readable for the agent's user only", keeping_a_secret(None), write_it)
case("write the secret into it, and nothing else", keeping_a_secret(""), write_it)


# --- the set-up -------------------------------------------------------------------------------------------------------


def without(stage: Stage, *dropped: str) -> str:
    stage.sim.ask("/_sim/guests", {"tokens": [{"id": ADMIN, "secret": SECRET}]})
    (stage.folder / "admin.secret").write_text(SECRET)
    stage.settings((stage.sim.token_id, "trueup@pve!agent"))
    if "old secret" not in dropped:
        (stage.folder / "token.secret").unlink()
    return said(stage, *(word for word in SETUP if word not in dropped))


def moved(stage: Stage, _text: str) -> None:
    (stage.folder / "token.secret").rename(stage.folder / "token.old")


case("give --admin-token and its secret", lambda stage: without(stage, "--admin-token", ADMIN), lambda *_: None, *SETUP)
case("give --yes", lambda stage: without(stage, "--yes"), lambda *_: None, *SETUP)
case(
    "move the old secret away: it is of a token that is gone", lambda stage: without(stage, "old secret"), moved, *SETUP
)


def another_user(stage: Stage) -> str:
    without(stage, "--yes")
    return said(stage, *SETUP, "--user", "other@pve")


def into_cluster(stage: Stage, text: str) -> None:
    found = re.search(r"write (token_id = .*|keeper = .*) into \[cluster\]", text)
    assert found
    old = '"trueup@pve!agent"'
    if found[1].startswith("keeper"):
        stage.settings((f"token_id = {old}", f"token_id = {old}\n{found[1]}"))
    else:
        stage.settings((f"token_id = {old}", found[1]))


case('write token_id = "{}!agent" into [cluster]', another_user, into_cluster, *SETUP, "--user", "other@pve")


def no_keeper(stage: Stage) -> str:
    without(stage, "--yes")
    return said(stage, *SETUP, "--keeper")


case('write {}, prefix = "agent-a-"} into [cluster]', no_keeper, into_cluster, *SETUP, "--keeper")

FOLLOWED = {remedy for remedy, _, _, _ in CASES} | {", or set {}"}


@pytest.mark.parametrize(("remedy", "provoke", "follow", "works"), CASES, ids=[one[0][:40] for one in CASES])
def test_done_as_the_message_says(
    stage: Stage, remedy: str, provoke: Callable[[Stage], str], follow: Follow, works: tuple[str, ...]
) -> None:
    stage.manifest(guest("db-1", 102))
    text = provoke(stage)
    assert says(remedy, text), text
    follow(stage, text)
    done = stage.run(*works)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_secret_in_the_environment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.manifest(guest("db-1", 102))
    found = re.search(r", or set (\w+)", secret(stage, None))
    assert found
    monkeypatch.setenv(found[1], stage.sim.token_secret)
    assert stage.run(*PLAN).returncode == 0
